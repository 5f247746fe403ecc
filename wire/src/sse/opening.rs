//! How a stream begins: with an answer, with an error, or not yet.

use super::{
    boundary,
    event::{BYTE_ORDER_MARK, field},
};
use crate::{
    answer::{self, Fault},
    json,
};

/// What the beginning of a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Nothing yet: comments that keep the connection alive, or a line whose end has not come.
    Nothing,
    /// The answer has begun.
    Begun,
    /// An error came in its place.
    Fault(Fault),
}

/// Reads the beginning of a stream, as much of it as there is, up to its first line of data.
#[must_use]
pub fn opening(bytes: &[u8]) -> Opening {
    let mut named_error = false;
    for (line, end) in boundary::lines(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)) {
        if end.is_empty() {
            break;
        }
        if let Some(data) = field(line, b"data") {
            return fault(data, named_error).map_or(Opening::Begun, Opening::Fault);
        }
        // llama.cpp once sent this line in place of `data`.
        if let Some(error) = field(line, b"error") {
            return fault(error, true).map_or(Opening::Begun, Opening::Fault);
        }
        if let Some(name) = field(line, b"event") {
            named_error = name == b"error";
        }
    }
    Opening::Nothing
}

fn fault(data: &[u8], named_error: bool) -> Option<Fault> {
    let members = json::members(std::str::from_utf8(data).ok()?).ok()?;
    answer::fault_of(&members).or_else(|| named_error.then(|| answer::bare_fault(&members)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expect: Option<Option<u16>>) {
        let found = match opening(bytes.as_bytes()) {
            Opening::Nothing => None,
            Opening::Begun => Some(None),
            Opening::Fault(fault) => Some(Some(fault.status)),
        };
        assert_eq!(found, expect, "{bytes:?}");
    }

    #[test]
    fn comments_and_unfinished_lines_are_nothing_yet() {
        check("", None);
        check(": ping\n\n: ping\r\n\r\n", None);
        check("\u{feff}event: message\nid: 1\n", None);
        check(r#"data: {"error":{"mess"#, None);
    }

    #[test]
    fn the_first_line_of_data_is_an_answer_or_an_error() {
        check("data: {\"choices\":[]}\n", Some(None));
        check(": ping\n\ndata:[DONE]\r\n", Some(None));
        check("data: no JSON\n", Some(None));
        check("data: {\"choices\":[],\"error\":null}\n\ndata: {\"error\":{\"code\":429}}\n\n", Some(None));
        check("event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n", Some(None));
        check("data: {\"error\":{\"message\":\"no\",\"code\":429}}\n\n", Some(Some(429)));
        check("data: {\"choices\":[{\"finish_reason\":\"error\"}],\"error\":{\"code\":503}}\n", Some(Some(503)));
        check("event: error\ndata: {\"message\":\"no\"}\n\n", Some(Some(502)));
        check("event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\"}\n\n", Some(Some(429)));
        check("error: {\"code\":400,\"message\":\"no\"}\n\n", Some(Some(400)));
    }

    #[test]
    fn bytes_that_are_no_text_are_no_error() {
        assert_eq!(opening(b"data: \xff{\"error\":1}\n"), Opening::Begun);
        assert_eq!(opening(b"\xff\xfe\n"), Opening::Nothing);
    }
}
