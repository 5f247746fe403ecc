//! Keys that clients call with: read from a file, compared in constant time, known by name ever after.
//!
//! In: a file of one key a line, `name:key` or `key`; empty lines and lines that begin with `#` are skipped. Out: the name that goes with
//! a presented key. The keys themselves are not kept, only their SHA-256: neither a log nor a core dump has them.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// Takes the key where `Authorization` is wanted for the expert.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("x-expert-router-key");

/// Who may call.
#[derive(Debug)]
pub struct ClientKeys {
    keys: Vec<([u8; 32], Arc<str>)>,
}

/// A client that showed a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The key's name.
    pub name: Arc<str>,
    /// A key came as `Authorization`, which is therefore ours and not to be passed on.
    pub by_authorization: bool,
}

impl ClientKeys {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The first line that is wrong, by number and never by content.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, key) = match line.split_once(':') {
                Some((name, key)) => (Some(name.trim()), key.trim()),
                None => (None, line),
            };
            let sound = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if key.is_empty() || name.is_some_and(|name| !sound(name)) {
                return Err(format!("line {}: expected `name:key` or `key`, the name of letters, digits, '-', '_' and '.'", number + 1));
            }
            let digest: [u8; 32] = Sha256::digest(key).into();
            let name = name.map_or_else(|| format!("key-{}", hex::encode(&digest[..4])), str::to_owned);
            keys.push((digest, Arc::from(name)));
        }
        if keys.is_empty() { Err("expected at least one key".into()) } else { Ok(Self { keys }) }
    }

    /// The names of all keys.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.keys.iter().map(|(_, name)| &**name).collect()
    }

    /// Who calls.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap) -> Option<Client> {
        // Looked at also where the other header says who calls: a client may show its key in both.
        let by_bearer = bearer(headers).and_then(|token| self.name(token));
        let by_authorization = by_bearer.is_some();
        let name = match headers.get(&KEY_HEADER) {
            Some(value) => self.name(value.as_bytes()),
            None => by_bearer,
        };
        Some(Client { name: name?.clone(), by_authorization })
    }

    /// Whose key it is. Every key is compared, whichever matches, so that time tells nothing.
    fn name(&self, presented: &[u8]) -> Option<&Arc<str>> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let mut found = u64::MAX;
        for (number, (key, _)) in self.keys.iter().enumerate() {
            found.conditional_assign(&(number as u64), key.ct_eq(&digest));
        }
        self.keys.get(usize::try_from(found).ok()?).map(|(_, name)| name)
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(file: &str, header: HeaderName, value: &str, expect: Option<(&str, bool)>) {
        let keys = ClientKeys::parse(file).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header, value.parse().unwrap());
        let client = keys.client(&headers);
        assert_eq!(client.as_ref().map(|client| (&*client.name, client.by_authorization)), expect);
    }

    #[test]
    fn a_key_is_known_by_its_name_however_it_is_shown() {
        let file = "# team keys\n\nsearch: s3cret-a\nchat:s3cret-b\ns3cret-c\n";
        check(file, header::AUTHORIZATION, "Bearer s3cret-a", Some(("search", true)));
        check(file, header::AUTHORIZATION, "bearer  s3cret-b", Some(("chat", true)));
        check(file, KEY_HEADER, "s3cret-b", Some(("chat", false)));
        check(file, KEY_HEADER, "s3cret-c", Some((&format!("key-{}", hex::encode(&Sha256::digest("s3cret-c")[..4])), false)));
        check(file, header::AUTHORIZATION, "Bearer s3cret", None);
        check(file, header::AUTHORIZATION, "Basic s3cret-a", None);
        check(file, header::AUTHORIZATION, "Bearer", None);
    }

    #[test]
    fn authorization_beside_the_key_header_is_the_experts_only_if_it_is_no_key_of_ours() {
        let keys = ClientKeys::parse("search:s3cret-a\nchat:s3cret-b\n").unwrap();
        let client = |key: &'static str, authorization: &'static str| {
            let headers = [(KEY_HEADER, key), (header::AUTHORIZATION, authorization)];
            let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect();
            keys.client(&headers).map(|client| (client.name.to_string(), client.by_authorization))
        };
        assert_eq!(client("s3cret-a", "Bearer s3cret-a"), Some(("search".into(), true)));
        assert_eq!(client("s3cret-a", "Bearer s3cret-b"), Some(("search".into(), true)));
        assert_eq!(client("s3cret-a", "Bearer for-the-expert"), Some(("search".into(), false)));
        assert_eq!(client("for-the-expert", "Bearer s3cret-a"), None);
    }

    #[test]
    fn a_bad_line_is_named_by_number_and_never_shown() {
        let error = ClientKeys::parse("a:1\nbad name:hunter2\n").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        assert!(ClientKeys::parse("# nothing\n").is_err());
    }
}
