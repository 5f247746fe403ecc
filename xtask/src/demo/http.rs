//! Just enough HTTP to call the servers the demo has started on this machine: one request a connection, version 1.0, so that a body ends
//! with the connection and never comes in chunks.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Longer than any answer of a small model takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A response whose body is still to be read.
pub(super) struct Response {
    headers: Vec<(String, String)>,
    body: BufReader<TcpStream>,
}

/// Sends a request and reads the head of the answer. Anything but 200 is an error.
pub(super) fn call(address: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Result<Response> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("calling {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut head = format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).with_context(|| format!("calling {address}"))?;
    let mut response = Response { headers: Vec::new(), body: BufReader::new(stream) };
    let status = response.line()?;
    loop {
        let line = response.line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if status.split(' ').nth(1) != Some("200") {
        bail!("{path} of {address} answered {status:?}: {}", response.text()?);
    }
    Ok(response)
}

impl Response {
    /// A header, empty where it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The next line of head or body; empty at the end.
    pub(super) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.body.read_line(&mut line).context("reading an answer")?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Hands on each line of the body as it comes.
    pub(super) fn lines(self) -> impl Iterator<Item = Result<String>> {
        self.body.lines().map(|line| line.context("reading a stream"))
    }

    pub(super) fn text(mut self) -> Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text).context("reading an answer")?;
        Ok(text)
    }

    pub(super) fn json(self) -> Result<Value> {
        serde_json::from_str(&self.text()?).context("the answer is not JSON")
    }
}

/// The sum of all samples of that name in a page of Prometheus text.
pub(super) fn metric(page: &str, name: &str) -> f64 {
    let sample = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
        value.parse::<f64>().ok()
    };
    page.lines().filter_map(sample).sum()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_is_read_to_the_end_of_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 200 OK\r\nX-Who: me\r\n\r\n{\"a\": 1}", "HTTP/1.1 503 Busy\r\n\r\nno"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 512];
                let _ = stream.read(&mut asked).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let response = call(&address, "/x", &[], None).unwrap();
        assert_eq!((response.header("x-who"), response.header("x-other")), ("me", ""));
        assert_eq!(response.json().unwrap()["a"], 1);
        let error = call(&address, "/x", &[], None).err().unwrap().to_string();
        assert!(error.contains("503") && error.ends_with("no"), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn samples_of_a_name_are_summed() {
        let page = "# HELP a x\na{e=\"x\"} 1.5\na{e=\"y\"} 2\nab 7\nb 3\n";
        assert_eq!((metric(page, "a"), metric(page, "b"), metric(page, "c")), (3.5, 3.0, 0.0));
    }
}
