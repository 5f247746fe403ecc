//! A server of files: what is put can be got. Enough of HTTP for clients of the web and of S3.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What is there, by path, and what was asked, as `METHOD path`.
#[derive(Clone, Default)]
pub(crate) struct Files {
    pub(crate) there: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    pub(crate) authorised: Arc<Mutex<bool>>,
}

/// Serves until the process ends, on a port of its own.
pub(crate) fn serve() -> (String, Files) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let files = Files::default();
    let shared = files.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let files = shared.clone();
            thread::spawn(move || answer(stream, &files));
        }
    });
    (url, files)
}

/// One request a connection; what the client does wrong ends it.
fn answer(stream: TcpStream, files: &Files) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorised) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => authorised = true,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = target.split('?').next()?.to_owned();
    files.asked.lock().unwrap().push(format!("{method} {target}"));
    *files.authorised.lock().unwrap() |= authorised;
    let mut there = files.there.lock().unwrap();
    let (status, body) = match method.as_str() {
        "PUT" => {
            there.insert(path, body);
            ("200 OK", Vec::new())
        }
        _ => there.get(&path).map_or(("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>".to_vec()), |file| ("200 OK", file.clone())),
    };
    drop(there);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"1\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}
