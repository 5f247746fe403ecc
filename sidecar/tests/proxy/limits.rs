//! Bad input: each a clear error, never a panic, never a call to an expert.

use std::net::SocketAddr;

use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::support::{Expert, Router, Step, chat, chunk, events, expert_json, snapshot};

async fn one(flags: &str) -> (Expert, Router) {
    let expert = Expert::always(chat("ok", None)).await;
    let content = snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}));
    (expert, Router::start_with(|_| content, flags).await)
}

/// Sends bytes, then reads until the connection ends.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The router may answer and close before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_400_that_names_what_is_wrong() {
    let (expert, router) = one("").await;
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{\"messages\": \"hello\"}",
        b"{\"model\": 5, \"messages\": []}",
        b"{\"messages\": [], \"stream\": \"yes\"}",
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}",
    ];
    for body in bodies {
        let answer = router.client.send(Method::POST, "/v1/chat/completions", &[], body.to_vec().into()).await;
        assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(body), answer.text());
        answer.error();
    }
    assert_eq!(expert.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_answered_in_openais_shape() {
    let (_, router) = one("").await;
    for path in ["/", "/v1", "/v1/", "/v2/chat/completions", "/v1/chat", "/v1/chat/completions/", "/v1/files", "/v1chat/completions"] {
        assert_eq!(router.client.get(path).await.error(), (404, "unknown_url".into()), "{path}");
    }
    for (method, path, allow) in
        [(Method::GET, "/v1/chat/completions", "POST"), (Method::POST, "/v1/models", "GET"), (Method::DELETE, "/v1/route", "POST")]
    {
        let answer = router.client.send(method, path, &[], "".into()).await;
        assert_eq!((answer.error(), answer.header("allow")), ((405, "method_not_allowed".into()), allow), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_33_mib_gets_413_also_where_no_length_was_claimed() {
    let (expert, router) = one("").await;
    let body = format!(r#"{{"model":"one","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(33 << 20));
    let claimed = router.client.post_with("/v1/chat/completions", &[], body.clone()).await;
    assert_eq!(claimed.error(), (413, "too_large".into()));
    let mut chunked = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for part in body.as_bytes().chunks(1 << 20) {
        chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        chunked.extend_from_slice(part);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(router.listen, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(expert.count(), 0);
    let fits = format!(r#"{{"model":"one","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(31 << 20));
    assert_eq!(router.client.post_with("/v1/chat/completions", &[], fits).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_by_the_head_alone_may_finish_writing_and_reads_why() {
    let (expert, router) = one("").await;
    let body = "x".repeat(20 << 20);
    let cheapest = "x-expert-router-objective: cheapest\r\n";
    let refused = [("/v1/nothing", "", 404), ("/v1/chat/completions", cheapest, 400), ("/v1/route", cheapest, 400)];
    for (path, header, status) in refused {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = raw(router.listen, format!("{head}{body}").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    // A client that asks first is answered before it writes.
    let asks = "POST /v1/nothing HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n";
    let answer = raw(router.listen, asks.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(expert.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_coming_gets_408() {
    let (expert, router) = one("--body-idle-seconds 0.2").await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"model\":";
    let answer = raw(router.listen, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("slow_body"), "{answer}");
    assert_eq!(expert.count(), 0);
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="slow_body",status="4xx"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_its_head_is_let_go() {
    let (_, router) = one("--idle-seconds 0.3").await;
    for begun in ["", "P", "POST /v1/chat/comp", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"] {
        let answer = raw(router.listen, begun.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{begun:?}: {answer}");
    }
    router.counts("expert_router_connections", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_heads_are_refused_and_the_router_lives_on() {
    let (expert, router) = one("").await;
    let long = "x".repeat(1 << 20);
    let many: String = (0..2000).map(|number| format!("h{number}: v\r\n")).collect();
    let heads = [
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n"),
        format!("POST /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("POST /v1/chat/completions HTTP/1.1\r\n{many}\r\n"),
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n".into(),
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n".into(),
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".into(),
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nbad header: \u{0}\r\n\r\n".into(),
        "\u{1}\u{2}\u{3}\u{4}garbage\r\n\r\n".into(),
    ];
    for head in heads {
        let answer = raw(router.listen, head.as_bytes()).await;
        let shown = &head[..head.len().min(60)];
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown}: {answer}");
    }
    let controls = [
        ("x-expert-router-objective", "cheapest"),
        ("x-expert-router-quality-tolerance", "-0.1"),
        ("x-expert-router-quality-tolerance", "NaN"),
    ];
    for (name, value) in controls {
        let answer = router.client.post_with("/v1/chat/completions", &[(name, value)], "{\"messages\":[]}").await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(name)), "{value}");
    }
    assert_eq!(expert.count(), 0);
    assert_eq!(router.chat("one").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_does_not_hold_its_expert_for_ever() {
    let flood: Vec<Step> = std::iter::repeat_with(|| chunk(format!("data: {}\n\n", "x".repeat(1 << 20)))).take(64).collect();
    let expert = Expert::always([events(&["begun"], None), flood, vec![Step::Hang]].concat()).await;
    let content = snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}));
    let router = Router::start_with(|_| content, "--idle-seconds 1").await;
    let body = json!({"model": "one", "stream": true, "messages": [{"role": "user", "content": "?"}]}).to_string();
    let mut stream = TcpStream::connect(router.listen).await.unwrap();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="client_gone",status="2xx"}"#, 1.0).await;
    router.counts(r#"expert_router_in_flight{expert="one"}"#, 0.0).await;
}

/// A stream of HTTP/2 that the client leaves unread while it uses others of the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_stream_of_http2_unread_does_not_hold_its_expert_for_ever() {
    let flood: Vec<Step> = std::iter::repeat_with(|| chunk(format!("data: {}\n\n", "x".repeat(1 << 20)))).take(64).collect();
    let endless = [events(&["begun"], None), flood, vec![Step::Hang]].concat();
    let expert = Expert::start(move |_, seen| if seen.json()["stream"] == true { endless.clone() } else { chat("ok", None) }).await;
    let content = snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}));
    let router = Router::start_with(|_| content, "--idle-seconds 1").await;
    let mut client = Http2::connect(router.listen, 64 << 10).await;
    let mut unread = client.chat(true).await.unwrap();
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="client_gone",status="2xx"}"#, 1.0).await;
    router.counts(r#"expert_router_in_flight{expert="one"}"#, 0.0).await;
    assert!(client.chat(false).await.unwrap().data().await.unwrap().is_ok());
    // Read at last, it is known to be no whole answer.
    let mut end = None;
    while let Some(Ok(piece)) = unread.data().await.inspect(|piece| end = Some(piece.is_ok())) {
        unread.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(end, Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http2_that_takes_nothing_of_a_whole_answer_does_not_hold_its_expert_either() {
    let (_, router) = one("--idle-seconds 1").await;
    let mut client = Http2::connect(router.listen, 0).await;
    let _unread = client.chat(false).await.unwrap();
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="ok",status="2xx"}"#, 1.0).await;
    router.counts(r#"expert_router_in_flight{expert="one"}"#, 0.0).await;
}

/// A client that reads what it is told to.
struct Http2 {
    sender: h2::client::SendRequest<bytes::Bytes>,
    address: SocketAddr,
}

impl Http2 {
    /// `window`: of each stream; all of them together have room.
    async fn connect(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 20);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { sender, address }
    }

    /// To the answer's head.
    async fn chat(&mut self, stream: bool) -> Result<h2::RecvStream, h2::Error> {
        let body = json!({"model": "one", "stream": stream, "messages": [{"role": "user", "content": "?"}]}).to_string();
        let request = http::Request::post(format!("http://{}/v1/chat/completions", self.address)).body(()).unwrap();
        let (answer, mut sending) = self.sender.send_request(request, false)?;
        sending.send_data(body.into(), true)?;
        Ok(answer.await?.into_body())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_experts_that_can_take_a_request_are_asked_and_without_one_the_need_is_named() {
    let (plain, able) = (Expert::always(chat("plain", None)).await, Expert::always(chat("able", None)).await);
    let all = json!({"capabilities": ["Tools", "Vision", "JsonSchema", "Logprobs"], "contextTokens": 100_000});
    let experts = [expert_json("plain", &plain.url(), json!({"contextTokens": 300})), expert_json("able", &able.url(), all)];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "plain"}}))).await;
    let hello = json!([{"role": "user", "content": "?"}]);
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]);
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let cases = [
        (json!({"messages": hello, "tools": [tool]}), "Tools"),
        (json!({"messages": image}), "Vision"),
        (json!({"messages": hello, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}), "JsonSchema"),
        (json!({"messages": hello, "logprobs": true}), "Logprobs"),
    ];
    let alone = Router::start(snapshot(&[expert_json("plain", &plain.url(), json!({}))], json!({}))).await;
    for (body, need) in cases {
        let answer = router.client.post("/v1/chat/completions", &body).await;
        assert_eq!((answer.status, answer.header("x-expert-router-expert")), (200, "able"), "{need}: {}", answer.text());
        assert_eq!(answer.header("x-expert-router-reason"), "only_candidate", "{need}");
        let refused = alone.client.post("/v1/chat/completions", &body).await;
        assert_eq!(refused.error(), (400, "capability".into()), "{need}");
        assert!(refused.text().contains(need), "{}", refused.text());
    }
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(400)}]});
    assert_eq!(router.client.post("/v1/chat/completions", &long).await.header("x-expert-router-expert"), "able");
    let longest = json!({"messages": [{"role": "user", "content": "word ".repeat(100_000)}]});
    assert_eq!(router.client.post("/v1/chat/completions", &longest).await.error(), (400, "context_length_exceeded".into()));
    assert_eq!((plain.count(), able.count()), (0, 5));
}
