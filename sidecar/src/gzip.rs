//! gzip taken apart, within a cap: a few kilobytes of it can be gigabytes.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};

/// Why there is nothing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no gzip, or not whole.
    Broken,
    /// It is longer than the cap.
    TooLarge,
}

/// Whether a body says to be gzip, and nothing beside.
#[must_use]
pub fn is_gzip(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let first = encodings.next().map(|encoding| encoding.as_bytes().trim_ascii());
    encodings.next().is_none() && first.is_some_and(|name| name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip"))
}

/// What was compressed, if it is at most `cap` bytes.
///
/// # Errors
/// See [`Unreadable`].
pub fn unpacked(packed: &[u8], cap: usize) -> Result<Bytes, Unreadable> {
    let mut plain = Vec::new();
    let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(packed).take(most).read_to_end(&mut plain).map_err(|_| Unreadable::Broken)?;
    if plain.len() > cap { Err(Unreadable::TooLarge) } else { Ok(plain.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use http::HeaderValue;

    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_within_the_cap_comes_out_whole() {
        assert_eq!(unpacked(&packed(b"plain"), 5).unwrap(), "plain");
        assert_eq!(unpacked(&packed(b"plain"), 4), Err(Unreadable::TooLarge));
        assert_eq!(unpacked(&[packed(b"two"), packed(b"members")].concat(), 100).unwrap(), "twomembers");
        assert_eq!(unpacked(&packed(&vec![0; 10 << 20]), 1 << 20), Err(Unreadable::TooLarge));
    }

    #[test]
    fn what_is_no_gzip_is_broken() {
        for bytes in [&b"plain"[..], b"", b"\x1f\x8b\x08\x00", &packed(b"cut short")[..20]] {
            assert_eq!(unpacked(bytes, 100), Err(Unreadable::Broken), "{bytes:?}");
        }
    }

    #[test]
    fn only_gzip_alone_is_gzip() {
        let check = |values: &[&'static str], expect| {
            let headers = values.iter().map(|value| (header::CONTENT_ENCODING, HeaderValue::from_static(value))).collect();
            assert_eq!(is_gzip(&headers), expect, "{values:?}");
        };
        check(&["gzip"], true);
        check(&["X-GZIP"], true);
        check(&["br"], false);
        check(&["gzip, gzip"], false);
        check(&["gzip", "br"], false);
        check(&[], false);
    }
}
