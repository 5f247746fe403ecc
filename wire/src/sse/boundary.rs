//! Where an event ends: at a blank line, lines ending in LF, CRLF or CR.

/// Finds the ends of events in a stream that comes in pieces; looks at each byte once.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    /// The line begun has bytes already.
    line_begun: bool,
    /// The last line ended in a carriage return: a line feed that comes next ends no other.
    after_return: bool,
}

impl Boundary {
    /// The place just after the next event that ends in `bytes`, looked at from `at` on. None: the rest is the beginning of one.
    pub(super) fn end_of_event(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        while at < bytes.len() {
            if std::mem::take(&mut self.after_return) && bytes[at] == b'\n' {
                at += 1;
                continue;
            }
            let Some(length) = memchr::memchr2(b'\n', b'\r', &bytes[at..]) else {
                self.line_begun = true;
                return None;
            };
            let blank = length == 0 && !self.line_begun;
            self.line_begun = false;
            self.after_return = bytes[at + length] == b'\r';
            at += length + 1;
            if blank {
                if self.after_return && bytes.get(at) == Some(&b'\n') {
                    self.after_return = false;
                    at += 1;
                }
                return Some(at);
            }
        }
        None
    }

    /// The line feed after a carriage return has been taken by somebody else.
    pub(super) fn line_feed_taken(&mut self) {
        self.after_return = false;
    }
}

/// The lines of an event, each with its end.
pub(super) fn lines(mut event: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        if event.is_empty() {
            return None;
        }
        let length = memchr::memchr2(b'\n', b'\r', event).unwrap_or(event.len());
        let (line, rest) = event.split_at(length);
        let end = if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) };
        let (end, rest) = rest.split_at(end);
        event = rest;
        Some((line, end))
    })
}
