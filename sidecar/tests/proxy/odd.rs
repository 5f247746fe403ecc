//! Peers that are out of the ordinary and within their rights, and some that are not.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::support::{Expert, Router, Step, chat, chunk, completion, events, expert_json, response, snapshot};

const DONE: &str = "data: [DONE]\n\n";

/// A router before this expert, and a second that answers where the first does not.
async fn before(steps: Vec<Step>, of_first: Value) -> (Expert, Router) {
    let (first, second) = (Expert::always(steps).await, Expert::always(chat("Stepped in.", None)).await);
    let experts = [expert_json("first", &first.url(), of_first), expert_json("second", &second.url(), json!({}))];
    (second, Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "first"}}))).await)
}

/// Who answers a request that an expert answered so.
async fn answered_by(steps: Vec<Step>) -> String {
    let (_second, router) = before(steps, json!({})).await;
    let answer = router.chat("auto").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-expert-router-expert").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_framed_in_any_of_http1s_ways_are_answers() {
    let body = completion("ok", Some((3, 0, 2))).to_string();
    let json = "content-type: application/json\r\n";
    let sent = |head: String| vec![Step::send(head + &body), Step::Close];
    assert_eq!(answered_by(sent(format!("HTTP/1.0 200 OK\r\n{json}\r\n"))).await, "first");
    assert_eq!(answered_by(sent(format!("HTTP/1.1 200 OK\r\n{json}connection: close\r\n\r\n"))).await, "first");
    assert_eq!(
        answered_by(sent(format!("HTTP/1.1 200 OK\r\n{json}connection: close\r\ncontent-length: {}\r\n\r\n", body.len()))).await,
        "first"
    );
    let chunked =
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\n{:x};ext=1\r\n{body}\r\n0\r\nx-trailer: 1\r\n\r\n", body.len());
    assert_eq!(answered_by(vec![Step::send(chunked)]).await, "first");
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    assert_eq!(
        answered_by(vec![Step::send(format!("{early}HTTP/1.1 200 OK\r\n{json}content-length: {}\r\n\r\n{body}", body.len()))]).await,
        "first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_are_stepped_in_for() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"id\": \"chatcmpl-1\", \"choi";
    assert_eq!(answered_by(vec![Step::send(cut), Step::Close]).await, "second");
    assert_eq!(answered_by(vec![response(307, "location: http://elsewhere.example/v1\r\n", "")]).await, "second");
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\ncontent-length: 2\r\n\r\n{{}}", "x".repeat(2 << 20));
    assert_eq!(answered_by(vec![Step::send(long)]).await, "second");
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\n{{}}", "x-many: 1\r\n".repeat(2000));
    assert_eq!(answered_by(vec![Step::send(many)]).await, "second");
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 7\r\n\r\n{}";
    assert_eq!(answered_by(vec![Step::send(twice)]).await, "second");
    let no_number = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n";
    assert_eq!(answered_by(vec![Step::send(no_number)]).await, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_megabytes_passes_and_is_not_held_whole() {
    let event = json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(6 << 20)}}]});
    let mut steps = events(&["begun"], None);
    steps.extend([chunk(format!("data: {event}\n\n")), chunk(DONE), Step::send("0\r\n\r\n")]);
    let (_second, router) = before(steps, json!({})).await;
    let body = json!({"model": "first", "stream": true, "messages": [{"role": "user", "content": "?"}]});
    let answer = router.client.post("/v1/chat/completions", &body).await;
    assert!(answer.complete && answer.body.len() > 6 << 20 && answer.text().ends_with(DONE));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_closing_event_a_stream_is_whole_whatever_becomes_of_the_connection() {
    for end in [Step::Hang, Step::Reset, Step::Close] {
        let steps = [events(&["all of it"], Some((2, 0, 3))), vec![chunk(DONE), end.clone()]].concat();
        let (_second, router) = before(steps, json!({"timeouts": {"idleMilliseconds": 300}})).await;
        let body = json!({"model": "first", "stream": true, "messages": [{"role": "user", "content": "?"}]});
        let answer = router.client.post("/v1/chat/completions", &body).await;
        assert!(answer.complete && answer.text().ends_with(DONE), "{end:?}: {}", answer.text());
        router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="ok",status="2xx"}"#, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_of_the_responses_api_has_its_cached_tokens_priced_apart() {
    let usage = json!({"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60}, "output_tokens": 10, "total_tokens": 110});
    let whole = json!({"id": "resp_1", "object": "response", "status": "completed", "output": [], "usage": usage});
    let completed = format!("event: response.completed\ndata: {}\n\n", json!({"type": "response.completed", "response": whole}));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let stream = vec![Step::send(head), chunk(completed), Step::send("0\r\n\r\n")];
    let answers = [vec![super::support::json_response(200, &whole)], stream];
    for (steps, stream) in answers.into_iter().zip([false, true]) {
        let prices = json!({"prices": {"inputPerMillion": 1e6, "cachedInputPerMillion": 1e5, "outputPerMillion": 2e6}});
        let (_second, router) = before(steps, prices).await;
        let answer = router.client.post("/v1/responses", &json!({"model": "first", "stream": stream, "input": "?"})).await;
        assert_eq!(answer.status, 200);
        // 40 at a dollar, 60 at ten cents, 10 at two dollars.
        router.counts(r#"expert_router_cost_usd_total{expert="first"}"#, 66.0).await;
        router.counts(r#"expert_router_tokens_total{expert="first",type="cached_input"}"#, 60.0).await;
        assert_eq!(answer.header("x-expert-router-cost-usd"), if stream { "" } else { "66" });
    }
}

/// Writes these bytes in one go, and reads until so many answers' heads have come or the connection ends.
async fn raw(address: SocketAddr, bytes: &[u8], answers: usize) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    while String::from_utf8_lossy(&got).matches("chatcmpl-1").count() < answers {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            read => got.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8_lossy(&got).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_may_speak_http1_in_any_of_its_ways() {
    let (_second, router) = before(chat("ok", Some((3, 0, 2))), json!({})).await;
    let body = r#"{"model":"first","messages":[{"role":"user","content":"?"}]}"#;
    let (length, path) = (body.len(), "/v1/chat/completions");
    let plain = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    let two = raw(router.listen, plain.repeat(2).as_bytes(), 2).await;
    assert_eq!(two.matches("HTTP/1.1 200 OK").count(), 2, "one after the other on one connection: {two}");
    let old = raw(router.listen, format!("POST {path} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes(), 1).await;
    assert!(old.starts_with("HTTP/1.0 200 OK"), "{old}");
    let chunked = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
    let chunked = raw(router.listen, chunked.as_bytes(), 1).await;
    assert!(chunked.starts_with("HTTP/1.1 200 OK"), "{chunked}");
    let absolute = format!("POST http://x{path}?beta=true HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    let absolute = raw(router.listen, absolute.as_bytes(), 1).await;
    assert!(absolute.starts_with("HTTP/1.1 200 OK"), "{absolute}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let (_second, router) = before(chat("ok", None), json!({})).await;
    let body = r#"{"model":"first","messages":[{"role":"user","content":"?"}]}"#;
    let mut stream = TcpStream::connect(router.listen).await.unwrap();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let read = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_answered_by_their_meaning() {
    let (_second, router) = before(chat("ok", None), json!({})).await;
    let head = router.client.send(Method::HEAD, "/v1/models", &[], "".into()).await;
    assert_eq!((head.status, head.body.len(), head.header("content-type")), (200, 0, "application/json"));
    for (method, path, allow) in
        [(Method::OPTIONS, "/v1/chat/completions", "POST"), (Method::from_bytes(b"BREW").unwrap(), "/v1/models", "GET")]
    {
        let answer = router.client.send(method, path, &[], "".into()).await;
        assert_eq!((answer.error(), answer.header("allow")), ((405, "method_not_allowed".into()), allow), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_compressed_by_gzip_is_read_and_any_other_refused_by_the_headers_name() {
    let body = r#"{"model":"first","messages":[{"role":"user","content":"?"}]}"#;
    let expert = Expert::always(chat("ok", None)).await;
    let router = Router::start(snapshot(&[expert_json("first", &expert.url(), json!({}))], json!({}))).await;
    let client = &router.client;
    let call =
        async |encoding: &str, bytes: Vec<u8>| client.post_with("/v1/chat/completions", &[("content-encoding", encoding)], bytes).await;
    assert_eq!(call("gzip", gzip(body.as_bytes())).await.status, 200);
    let seen = &expert.seen()[0];
    assert_eq!((&seen.json()["model"], seen.headers.contains_key("content-encoding")), (&json!("first-model"), false));
    assert_eq!(call("identity", body.into()).await.status, 200);
    for (encoding, bytes) in [("gzip", b"\x1f\x8b\x08\x00".to_vec()), ("gzip", body.into()), ("br", body.into()), ("gzip, br", body.into())]
    {
        let answer = call(encoding, bytes).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("content-encoding")), "{encoding}");
    }
    let bomb = call("gzip", gzip(&vec![b' '; 40 << 20])).await;
    assert_eq!(bomb.error(), (413, "too_large".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_compressed_unasked_costs_the_usage_inside() {
    let packed = gzip(super::support::completion("ok", Some((3, 0, 2))).to_string().as_bytes());
    let answer = super::support::response(200, "content-type: application/json\r\ncontent-encoding: gzip\r\n", &packed);
    let expert = Expert::always(vec![answer]).await;
    let prices = json!({"prices": {"inputPerMillion": 1e6, "outputPerMillion": 1e7}});
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), prices)], json!({}))).await;
    let answer = router.chat("one").await;
    assert_eq!((answer.body.as_ref(), answer.header("content-encoding")), (&packed[..], "gzip"));
    assert_eq!(answer.header("x-expert-router-cost-usd"), "23");
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, plain).unwrap();
    encoder.finish().unwrap()
}
