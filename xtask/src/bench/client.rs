//! One keep-alive HTTP/1.1 connection, blocking: a thread that sleeps until a request is due and then sends it itself measures less of
//! its own doing than an async client would. Knows just enough of HTTP for one request at a time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer waits are failures of what is measured.
const TIME_OUT: Duration = Duration::from_secs(30);

pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How the end of a body is known.
enum Length {
    Bytes(usize),
    Chunks,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIME_OUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIME_OUT))?;
        Ok(Connection { stream, buffer: Vec::with_capacity(16 << 10) })
    }

    /// Sends a whole request and reads the whole response: its status and body (with its chunk marks, if it has any).
    pub(super) fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let (status, length, head) = loop {
            self.more()?;
            if let Some(found) = parse_head(&self.buffer)? {
                break found;
            }
        };
        match length {
            Length::Bytes(bytes) => {
                while self.buffer.len() < head + bytes {
                    self.more()?;
                }
            }
            Length::Chunks => {
                let mut at = head;
                while let Some(next) = self.chunk(at)? {
                    at = next;
                }
            }
        }
        Ok((status, &self.buffer[head..]))
    }

    /// Reads the chunk that begins there, and says where the next one does; none after the last.
    fn chunk(&mut self, at: usize) -> io::Result<Option<usize>> {
        let (mark, size) = loop {
            match httparse::parse_chunk_size(&self.buffer[at..]) {
                Ok(httparse::Status::Complete(found)) => break found,
                Ok(httparse::Status::Partial) => self.more()?,
                Err(_) => return Err(wrong("a chunk's size is no number")),
            }
        };
        let end = at + mark + usize::try_from(size).map_err(|_| wrong("a chunk is too large"))? + 2;
        while self.buffer.len() < end {
            self.more()?;
        }
        Ok((size > 0).then_some(end))
    }

    fn more(&mut self) -> io::Result<()> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + (16 << 10), 0);
        let read = self.stream.read(&mut self.buffer[filled..]);
        self.buffer.truncate(filled + read.as_ref().map_or(0, |read| *read));
        match read? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(u16, Length, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes).map_err(|_| wrong("no HTTP response"))? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(None),
    };
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let length = match value("content-length") {
        Some(bytes) => Length::Bytes(bytes.trim().parse().map_err(|_| wrong("Content-Length is no number"))?),
        None if value("transfer-encoding").is_some() => Length::Chunks,
        None => Length::Bytes(0),
    };
    Ok(Some((response.code.unwrap_or(0), length, head)))
}

fn wrong(message: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What a server sent in those pieces, one exchange for each expected status and body.
    fn check(pieces: &'static [&'static str], expected: &[(u16, &str)]) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for piece in pieces {
                let mut request = [0; 1];
                if piece.starts_with("HTTP") {
                    stream.read_exact(&mut request).unwrap();
                }
                stream.write_all(piece.as_bytes()).unwrap();
                stream.flush().unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut connection = Connection::open(address).unwrap();
        for (status, body) in expected {
            let (found, bytes) = connection.exchange(b"x").unwrap();
            assert_eq!((found, std::str::from_utf8(bytes).unwrap()), (*status, *body));
        }
        server.join().unwrap();
    }

    #[test]
    fn bodies_end_where_their_length_or_last_chunk_says() {
        check(
            &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", "llo", "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"],
            &[(200, "hello"), (503, "")],
        );
        check(
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe", "llo\r\n1", "\r\n!\r\n0\r\n", "\r\n"],
            &[(200, "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")],
        );
    }
}
