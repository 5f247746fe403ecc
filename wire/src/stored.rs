//! Responses that an expert's server keeps under an id, so that a later request may go on from there (`previous_response_id`).

use crate::json;

/// The id of a whole (not streamed) response of the responses API.
#[must_use]
pub fn id_of_body(body: &[u8]) -> Option<Box<str>> {
    let members = json::members(std::str::from_utf8(body).ok()?).ok()?;
    id_of(&members)
}

/// The id of a response, taken apart.
pub(crate) fn id_of(response: &[(&str, &str)]) -> Option<Box<str>> {
    json::find(response, "id").and_then(json::text).map(|id| id.into_owned().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_known_by_its_id() {
        assert_eq!(id_of_body(br#"{"id":"resp_1","object":"response"}"#).as_deref(), Some("resp_1"));
        assert_eq!(id_of_body(br#"{"id":1}"#), None);
        assert_eq!(id_of_body(b"no JSON"), None);
    }
}
