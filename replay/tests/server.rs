//! The server seen by a client over real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like the tests")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use replay::{Answer, Options, Recording, Replay, Script, Tls, Totals};
use serde_json::{Value, json};
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";

async fn start(script: &str) -> Replay {
    let mut recording = Recording::default();
    recording.insert("Capital of Italy?", "small", Answer::text("Rome, of course").tokens(20, 8, 3).lasting(Duration::from_secs(3)));
    recording.insert("Capital of Italy?", "large", Answer::text("Roma").tokens(21, 0, 1));
    let script = Script::parse(script).unwrap();
    Replay::start(Options { recording, script, speed: 0.0, ..Options::default() }).await.unwrap()
}

fn question(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Capital of Italy?"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn send(replay: &Replay, path: &str, body: &Value) -> Result<Response<Incoming>, hyper::Error> {
    let stream = TcpStream::connect(replay.address()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(Request::post(path).header("host", "x").body(Full::new(Bytes::from(body.to_string()))).unwrap()).await
}

async fn text(response: Response<Incoming>) -> Result<String, hyper::Error> {
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

fn data(events: &str) -> Vec<Value> {
    let lines = events.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

async fn settled(replay: &Replay, expected: Totals) {
    for _ in 0..500 {
        if replay.totals() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(replay.totals(), expected);
}

#[tokio::test]
async fn the_model_field_picks_whose_answer_comes() {
    let replay = start("").await;
    let answer = text(send(&replay, CHAT, &question("small", json!({"logprobs": true}))).await.unwrap()).await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "Rome, of course");
    assert_eq!(answer["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 3);
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23, "prompt_tokens_details": {"cached_tokens": 8}})
    );
    let other = text(send(&replay, CHAT, &question("large", json!({}))).await.unwrap()).await.unwrap();
    assert!(other.contains("\"Roma\"") && other.contains("\"logprobs\":null"), "{other}");
    let unknown =
        text(send(&replay, CHAT, &json!({"model": "small", "messages": [{"role": "user", "content": "?"}]})).await.unwrap()).await.unwrap();
    assert!(unknown.contains("not in the recording"), "{unknown}");
    assert_eq!(replay.requests()[1].json()["model"], "large");
}

#[tokio::test]
async fn a_stream_has_the_text_in_pieces_and_usage_only_when_asked_for() {
    let replay = start("").await;
    for usage in [false, true] {
        let body = question("small", json!({"stream": true, "stream_options": {"include_usage": usage}}));
        let response = send(&replay, CHAT, &body).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let events = text(response).await.unwrap();
        assert!(events.ends_with("data: [DONE]\n\n"), "{events}");
        let events = data(&events);
        let content: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!((content.as_str(), events.len()), ("Rome, of course", if usage { 6 } else { 5 }));
        assert_eq!(events.last().unwrap()["usage"]["completion_tokens"] == 3, usage);
    }
}

#[tokio::test]
async fn the_other_endpoints_answer_in_their_shapes() {
    let replay = start("").await;
    let completion =
        text(send(&replay, "/v1/completions", &json!({"model": "large", "prompt": "Capital of Italy?"})).await.unwrap()).await.unwrap();
    assert!(completion.contains("\"text\":\"Roma\""), "{completion}");
    let response =
        text(send(&replay, "/v1/responses", &json!({"model": "large", "input": "Capital of Italy?", "stream": true})).await.unwrap())
            .await
            .unwrap();
    let events = data(&response);
    assert_eq!(events.last().unwrap()["response"]["usage"]["input_tokens"], 21);
    assert!(events.iter().any(|event| event["type"] == "response.output_text.delta" && event["delta"] == "Roma"), "{response}");
    let vectors = text(send(&replay, "/v1/embeddings", &json!({"model": "large", "input": ["a", "b"]})).await.unwrap()).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&vectors).unwrap()["data"].as_array().unwrap().len(), 2);
    assert_eq!(send(&replay, "/v1/nothing", &json!({})).await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(send(&replay, CHAT, &json!({"messages": 3})).await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_script_is_followed_step_by_step() {
    let replay = start("status=429,retry-after=7; close; cut-after=2; malformed-at=1; chunk-bytes=5,no-usage; cut-after=0; ok").await;
    let body = question("small", json!({"stream": true, "stream_options": {"include_usage": true}}));
    let limited = send(&replay, CHAT, &body).await.unwrap();
    assert_eq!((limited.status(), &limited.headers()["retry-after"]), (StatusCode::TOO_MANY_REQUESTS, &"7".parse().unwrap()));
    assert!(text(limited).await.unwrap().contains("rate_limit_error"));

    assert!(send(&replay, CHAT, &body).await.is_err(), "closed before any response");

    let mut cut = send(&replay, CHAT, &body).await.unwrap().into_body();
    let mut seen = String::new();
    let ended = loop {
        match cut.frame().await {
            Some(Ok(frame)) => seen.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
            other => break other,
        }
    };
    assert!(matches!(ended, Some(Err(_))), "a broken stream is no ended stream");
    assert_eq!(data(&seen).len(), 2, "{seen}");

    let malformed = text(send(&replay, CHAT, &body).await.unwrap()).await.unwrap();
    assert!(malformed.contains("{\"delta\n\n") && malformed.contains("[DONE]"), "{malformed}");

    let mut pieces = send(&replay, CHAT, &body).await.unwrap().into_body();
    let mut sizes = Vec::new();
    let mut joined = Vec::new();
    while let Some(frame) = pieces.frame().await {
        let bytes = frame.unwrap().into_data().unwrap();
        sizes.push(bytes.len());
        joined.extend_from_slice(&bytes);
    }
    assert!(sizes.iter().all(|size| *size <= 5) && sizes.len() > 100, "{sizes:?}");
    assert_eq!(data(std::str::from_utf8(&joined).unwrap()).len(), 5, "no usage event");

    let half = send(&replay, CHAT, &question("small", json!({}))).await.unwrap();
    assert!(text(half).await.is_err(), "half of what Content-Length promised");
    assert!(text(send(&replay, CHAT, &body).await.unwrap()).await.unwrap().contains("[DONE]"));
    settled(&replay, Totals { received: 7, answered: 7, aborted: 0 }).await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted() {
    let replay = start("hang; hang-after=1; ok").await;
    let body = question("small", json!({"stream": true}));
    let waiting = tokio::time::timeout(Duration::from_millis(100), send(&replay, CHAT, &body)).await;
    assert!(waiting.is_err(), "it hangs");
    settled(&replay, Totals { received: 1, answered: 0, aborted: 1 }).await;
    let mut hanging = send(&replay, CHAT, &body).await.unwrap().into_body();
    assert!(hanging.frame().await.unwrap().is_ok());
    assert!(tokio::time::timeout(Duration::from_millis(100), hanging.frame()).await.is_err(), "silence, not an end");
    drop(hanging);
    settled(&replay, Totals { received: 2, answered: 0, aborted: 2 }).await;
    text(send(&replay, CHAT, &body).await.unwrap()).await.unwrap();
    settled(&replay, Totals { received: 3, answered: 1, aborted: 2 }).await;
}

#[tokio::test]
async fn a_request_may_bear_its_own_step_and_the_script_may_change() {
    let replay = start("").await;
    let stream = TcpStream::connect(replay.address()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(CHAT).header("host", "x").header("x-replay-step", "status=503");
    let response = sender.send_request(request.body(Full::new(Bytes::from("{}"))).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    replay.set_script(Script::parse("status=500 x*").unwrap());
    assert_eq!(send(&replay, CHAT, &json!({})).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(replay.requests()[0].header("x-replay-step"), "status=503");
}

#[tokio::test]
async fn stopping_frees_the_port_and_the_same_port_may_be_taken_again() {
    let replay = start("").await;
    let address = replay.address();
    replay.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    let again = Replay::start(Options { listen: address, ..Options::default() }).await.unwrap();
    assert_eq!(again.address(), address);
}

#[tokio::test]
async fn a_key_is_asked_for_and_http2_is_spoken_plain_and_over_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = Tls { certificates: made.cert.pem().into_bytes(), key: made.signing_key.serialize_pem().into_bytes() };
    let keys = Some(vec!["before".to_owned(), "secret".to_owned()]);
    let plain = Replay::start(Options { api_keys: keys.clone(), ..Options::default() }).await.unwrap();
    let secure = Replay::start(Options { api_keys: keys, tls: Some(tls), ..Options::default() }).await.unwrap();
    assert!(secure.url().starts_with("https://"));
    let refused = send(&plain, CHAT, &question("x", json!({}))).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);

    http2(TcpStream::connect(plain.address()).await.unwrap(), "http").await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(secure.address()).await.unwrap();
    http2(connector.connect("localhost".try_into().unwrap(), stream).await.unwrap(), "https").await;
}

async fn http2<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(stream: S, scheme: &str) {
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("{scheme}://localhost{CHAT}")).header("authorization", "Bearer secret");
    let body = Full::new(Bytes::from(question("x", json!({})).to_string()));
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert!(text(response).await.unwrap().contains("chat.completion"));
}
