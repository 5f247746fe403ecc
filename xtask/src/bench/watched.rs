//! Who watches a router while it is measured: a scraper, and a collector that takes every span and looks at none.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::Connection;
use super::servers::Variable;

/// Scrapes until the run ends.
pub(super) fn scrape_every_second(admin: SocketAddr) {
    thread::spawn(move || -> io::Result<()> {
        loop {
            Connection::open(admin)?.exchange(format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\n\r\n").as_bytes())?;
            thread::sleep(Duration::from_secs(1));
        }
    });
}

/// The environment of a router that sends so many of a hundred traces to a collector of its own.
pub(super) fn traced(percent: u8) -> Result<Vec<Variable>> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a collector needs a port")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || collect(stream));
        }
    });
    Ok(vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", format!("{}", f64::from(percent) / 100.0)),
    ])
}

/// Requests of one connection, each with its length in its head.
fn collect(mut stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let whole = buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4 + length(&buffer[..end]));
        match whole.filter(|whole| *whole <= buffer.len()) {
            Some(whole) => {
                buffer.drain(..whole);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
            }
            None => match stream.read(&mut piece)? {
                0 => return Ok(()),
                count => buffer.extend_from_slice(&piece[..count]),
            },
        }
    }
}

fn length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_answers_each_request_and_keeps_the_connection() {
        let endpoint = traced(1).unwrap().remove(0).1;
        let mut connection = Connection::open(endpoint.trim_start_matches("http://").parse().unwrap()).unwrap();
        for body in ["", "spans", "more spans"] {
            let request = format!("POST /v1/traces HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            assert_eq!(connection.exchange(request.as_bytes()).unwrap().0, 200);
        }
    }
}
