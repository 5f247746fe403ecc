//! JSON read one level at a time: members and elements stay the text they came as.
//!
//! In: JSON text. Out: slices of it. A number therefore keeps its digits, an object its order and its repeated keys, a string its
//! escapes. Deliberately absent: a tree of values, which would keep none of these.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Levels of arrays and objects, the same as serde_json's own limit. Reading one level at a time has no need of a limit; the experts
/// behind us and whoever reads their logs have.
pub(crate) const MAX_DEPTH: usize = 128;

/// The members of an object in order: key and value as they came, the key with its quotes.
pub(crate) type Members<'a> = Vec<(&'a str, &'a str)>;

/// Takes an object apart; fails on anything else.
pub(crate) fn members(json: &str) -> Result<Members<'_>, serde_json::Error> {
    serde_json::from_str::<RawMembers<'_>>(json).map(|members| members.0)
}

/// Takes an array apart; fails on anything else.
pub(crate) fn elements(json: &str) -> Result<Vec<&str>, serde_json::Error> {
    let elements: Vec<&RawValue> = serde_json::from_str(json)?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

/// The last member of that name which is not null: like most readers of JSON, and null means absent in all of OpenAI's API.
pub(crate) fn find<'a>(members: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    members.iter().rev().find(|(key, _)| is_key(key, name)).map(|(_, value)| *value).filter(|value| *value != "null")
}

/// Is this key, as it came, that name? `"mod\u0065l"` is `model`.
pub(crate) fn is_key(key: &str, name: &str) -> bool {
    match unquoted(key) {
        Some(plain) => plain == name,
        None => text(key).is_some_and(|decoded| decoded == name),
    }
}

/// A string's text; what is no string has none. Half a surrogate pair, which JavaScript clients send when they cut a string inside an
/// emoji, becomes U+FFFD.
pub(crate) fn text(json: &str) -> Option<Cow<'_, str>> {
    if !json.starts_with('"') {
        return None;
    }
    if let Some(plain) = unquoted(json) {
        return Some(Cow::Borrowed(plain));
    }
    match serde_json::from_str::<String>(json) {
        Ok(decoded) => Some(Cow::Owned(decoded)),
        Err(_) => serde_json::from_str::<Wtf8>(json).ok().map(|bytes| Cow::Owned(String::from_utf8_lossy(&bytes.0).into_owned())),
    }
}

/// Bytes a string's text has.
pub(crate) fn text_len(json: &str) -> usize {
    text(json).map_or(0, |text| text.len())
}

/// A whole number that is not negative; too large ones as `u64::MAX`.
pub(crate) fn whole_number(json: &str) -> Option<u64> {
    if json.is_empty() || !json.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(json.parse().unwrap_or(u64::MAX))
}

/// What a value is, for an error message.
pub(crate) fn kind(json: &str) -> &'static str {
    match json.trim_ascii_start().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "something that is not JSON",
    }
}

/// Is any place of this text inside more than [`MAX_DEPTH`] arrays and objects? The text need not be JSON.
pub(crate) fn too_deep(json: &str) -> bool {
    let bytes = json.as_bytes();
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(bytes, at),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// The place after the quote that ends the string begun before `at`. Images come as strings of megabytes, hence the search.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(rest) = bytes.get(at..) {
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(offset) if rest[offset] == b'"' => return at + offset + 1,
            Some(offset) => at += offset + 2,
            None => break,
        }
    }
    bytes.len()
}

/// Between the quotes, where no escape is there.
fn unquoted(json: &str) -> Option<&str> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() { Some(inside) } else { None }
}

struct RawMembers<'a>(Members<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for RawMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(RawMembers)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push((key.get(), value.get()));
        }
        Ok(members)
    }
}

/// A string's bytes, in which serde_json leaves lone surrogates as three bytes that are not UTF-8.
struct Wtf8(Vec<u8>);

impl<'de> Deserialize<'de> for Wtf8 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Wtf8Visitor)
    }
}

struct Wtf8Visitor;

impl Visitor<'_> for Wtf8Visitor {
    type Value = Wtf8;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Wtf8, E> {
        Ok(Wtf8(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_order_digits_and_repeated_keys() {
        let members = members(r#" {"z": 1e400, "a" :1.0,"z":{"n" : 0.10}} "#).unwrap();
        assert_eq!(members, [("\"z\"", "1e400"), ("\"a\"", "1.0"), ("\"z\"", "{\"n\" : 0.10}")]);
        assert_eq!(find(&members, "z"), Some("{\"n\" : 0.10}"));
    }

    #[test]
    fn escaped_keys_are_found() {
        let members = members(r#"{"mod\u0065l":"x","none":null}"#).unwrap();
        assert_eq!(find(&members, "model"), Some("\"x\""));
        assert_eq!(find(&members, "none"), None);
    }

    #[test]
    fn half_a_surrogate_pair_reads_as_replacement() {
        assert_eq!(text(r#""a\ud83d""#).unwrap(), "a\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(text(r#""\ud83d\ude00\n""#).unwrap(), "😀\n");
        assert_eq!(text("12"), None);
    }

    #[test]
    fn whole_numbers_saturate_and_fractions_are_none() {
        let check = |json, expect| assert_eq!(whole_number(json), expect, "{json}");
        check("0", Some(0));
        check("-1", None);
        check("99999999999999999999999", Some(u64::MAX));
        check("1.0", None);
        check("1e400", None);
        check("\"1\"", None);
        check("", None);
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        assert!(too_deep(&"[".repeat(MAX_DEPTH + 1)));
        assert!(!too_deep(&format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))));
        assert!(!too_deep(&format!("\"\\\"{}\"", "[".repeat(500))));
        assert!(too_deep(&r#"{"a":"#.repeat(MAX_DEPTH + 1)));
    }
}
