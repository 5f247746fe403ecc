//! Which headers go on, in both directions.
//!
//! To experts: what the client sent, less what belongs to its connection, what steers this router, and what may be a secret of the
//! client's or tell where it is. To clients: what the expert sent, less what belongs to its connection or would bind the client to the
//! expert's address.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Set on every response.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-expert-router-request-id");
/// Who answered.
pub const EXPERT: HeaderName = HeaderName::from_static("x-expert-router-expert");
/// Why that expert.
pub const REASON: HeaderName = HeaderName::from_static("x-expert-router-reason");
/// What the answer cost, where that is known before its first byte.
pub const COST: HeaderName = HeaderName::from_static("x-expert-router-cost-usd");
/// How long the decision took.
pub const DECISION_MS: HeaderName = HeaderName::from_static("x-expert-router-decision-ms");
/// The expert's own id of the request, for its support.
pub const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-expert-router-upstream-request-id");

const OURS: &str = "x-expert-router-";

/// Belongs to one connection, by RFC 9110, 7.6.1, and its predecessors.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Names that `Connection` lists belong to the connection too.
fn listed(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|listed| listed.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// Kept from experts: secrets of the client's, where it is, and what we set ourselves.
fn is_kept_back(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::CONTENT_ENCODING
            | header::ACCEPT_ENCODING
            | header::EXPECT
            | header::AUTHORIZATION
            | header::COOKIE
            | header::FORWARDED
    ) || matches!(name.as_str(), "x-api-key" | "api-key" | "x-real-ip" | "x-request-id")
        || name.as_str().starts_with(OURS)
        || name.as_str().starts_with("x-forwarded-")
        || name.as_str().starts_with("x-envoy-")
}

/// Whose key an expert gets to see.
#[derive(Debug, Clone, Copy)]
pub enum Authorization<'a> {
    /// The client's own.
    Clients(&'a HeaderValue),
    /// This router's for the expert, if it has one.
    Ours(Option<&'a HeaderValue>),
}

/// Which account of the client's key is to pay: with a key of ours, a provider would refuse the request for it.
fn is_of_the_clients_key(name: &HeaderName) -> bool {
    matches!(name.as_str(), "openai-organization" | "openai-project")
}

/// Headers for an expert.
#[must_use]
pub fn to_expert(client: &HeaderMap, authorization: Authorization<'_>, request_id: &HeaderValue) -> HeaderMap {
    let (ours, authorization) = match authorization {
        Authorization::Clients(key) => (false, Some(key)),
        Authorization::Ours(key) => (true, key),
    };
    let mut headers = HeaderMap::with_capacity(client.len() + 4);
    let connection = client.contains_key(header::CONNECTION);
    for (name, value) in client {
        let of_another_key = ours && is_of_the_clients_key(name);
        if is_hop_by_hop(name) || is_kept_back(name) || of_another_key || (connection && listed(client, name)) {
            continue;
        }
        headers.append(name, value.clone());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Compressed answers could not be metered.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(crate::controls::REQUEST_ID, request_id.clone());
    if let Some(value) = authorization {
        headers.insert(header::AUTHORIZATION, value.clone());
    }
    headers
}

/// Headers for the client. The body's length is set by whoever writes the body.
#[must_use]
pub fn to_client(expert: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(expert.len() + 6);
    let connection = expert.contains_key(header::CONNECTION);
    for (name, value) in expert {
        let withheld = matches!(*name, header::CONTENT_LENGTH | header::DATE | header::SET_COOKIE | header::ALT_SVC)
            || *name == header::STRICT_TRANSPORT_SECURITY
            || name.as_str().starts_with(OURS);
        if withheld || is_hop_by_hop(name) || (connection && listed(expert, name)) {
            continue;
        }
        let name = if *name == crate::controls::REQUEST_ID { &UPSTREAM_REQUEST_ID } else { name };
        headers.append(name, value.clone());
    }
    headers
}

/// A number as a header: plain digits, at most twelve decimals (a millionth of a millionth of a dollar), without what sums of floats add
/// far behind them.
#[must_use]
pub fn number(value: f64) -> HeaderValue {
    let digits = format!("{value:.12}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    HeaderValue::from_str(digits).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn secrets_and_hops_stay_here_and_the_rest_goes_on() {
        let client = map(&[
            ("authorization", "Bearer client"),
            ("cookie", "a=b"),
            ("x-api-key", "k"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-expert-router-objective", "cost"),
            ("accept-encoding", "gzip"),
            ("content-encoding", "gzip"),
            ("openai-beta", "v2"),
            ("openai-organization", "org"),
            ("openai-project", "p"),
            ("user-agent", "sdk"),
            ("te", "trailers"),
        ]);
        let id = HeaderValue::from_static("id-1");
        let sent = to_expert(&client, Authorization::Ours(None), &id);
        assert_eq!(names(&sent), ["accept-encoding", "content-type", "openai-beta", "user-agent", "x-request-id"]);
        assert_eq!(sent[header::ACCEPT_ENCODING], "identity");
        let token = HeaderValue::from_static("Bearer expert");
        assert_eq!(to_expert(&client, Authorization::Ours(Some(&token)), &id)[header::AUTHORIZATION], "Bearer expert");
        let sent = to_expert(&client, Authorization::Clients(&token), &id);
        assert_eq!(
            (&sent[header::AUTHORIZATION], &sent["openai-organization"], &sent["openai-project"]),
            (&token, &"org".parse().unwrap(), &"p".parse().unwrap())
        );
    }

    #[test]
    fn an_experts_own_id_is_shown_under_another_name_and_ours_cannot_be_forged() {
        let expert = map(&[
            ("x-request-id", "req_7"),
            ("x-expert-router-expert", "forged"),
            ("set-cookie", "a=b"),
            ("content-length", "5"),
            ("retry-after", "3"),
            ("keep-alive", "timeout=5"),
            ("content-type", "application/json"),
        ]);
        let shown = to_client(&expert);
        assert_eq!(names(&shown), ["content-type", "retry-after", "x-expert-router-upstream-request-id"]);
    }

    #[test]
    fn small_costs_are_plain_digits() {
        assert_eq!(number(0.000_000_25), "0.00000025");
        assert_eq!(number(0.000_017_700_000_000_000_003), "0.0000177");
        assert_eq!(number(120.0), "120");
        assert_eq!(number(0.0), "0");
    }
}
