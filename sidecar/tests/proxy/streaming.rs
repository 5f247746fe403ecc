//! Streams: passed on as they come, usage read and hidden, and honest about an end before the end.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::support::{Answer, Expert, Router, Step, chunk, events, eventually, expert_json, snapshot};

const DONE: &str = "data: [DONE]\n\n";

fn ended(mut steps: Vec<Step>) -> Vec<Step> {
    steps.extend([chunk(DONE), Step::send("0\r\n\r\n")]);
    steps
}

async fn router(expert: &Expert, more: Value) -> Router {
    Router::start(snapshot(&[expert_json("one", &expert.url(), more)], json!({}))).await
}

async fn stream(router: &Router, more: Value) -> Answer {
    let mut body = json!({"model": "one", "stream": true, "messages": [{"role": "user", "content": "?"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    router.client.post("/v1/chat/completions", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_asked_for_metered_and_hidden_from_a_client_that_did_not_ask() {
    let expert = Expert::always(ended(events(&["Hel", "lo"], Some((100, 40, 7))))).await;
    let router = router(&expert, json!({})).await;
    let answer = stream(&router, json!({})).await;
    assert!(answer.complete && answer.text().ends_with(DONE), "{}", answer.text());
    assert!(answer.text().contains("Hel") && !answer.text().contains("usage"), "{}", answer.text());
    assert_eq!(expert.seen()[0].json()["stream_options"], json!({"include_usage": true}));
    router.counts(r#"expert_router_tokens_total{expert="one",type="input"}"#, 100.0).await;
    router.counts(r#"expert_router_tokens_total{expert="one",type="cached_input"}"#, 40.0).await;
    router.counts(r#"expert_router_tokens_total{expert="one",type="output"}"#, 7.0).await;
    router.counts(r#"expert_router_usage_missing_total{expert="one"}"#, 0.0).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_shown_to_a_client_that_asked() {
    let expert = Expert::always(ended(events(&["Hi"], Some((9, 0, 2))))).await;
    let router = router(&expert, json!({})).await;
    let answer = stream(&router, json!({"stream_options": {"include_usage": true, "other": 1}})).await;
    assert!(answer.text().contains(r#""completion_tokens":2"#), "{}", answer.text());
    assert_eq!(expert.seen()[0].json()["stream_options"], json!({"include_usage": true, "other": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_may_be_split_and_joined_anywhere() {
    let whole = {
        let steps = ended(events(&["Hel", "lo", " w\u{f6}rld"], Some((3, 0, 3))));
        steps.iter().filter_map(|step| if let Step::Send(bytes) = step { Some(bytes.to_vec()) } else { None }).collect::<Vec<_>>()
    };
    // The chunks' contents, one byte a chunk.
    let mut steps = vec![Step::send(whole[0].clone())];
    for sent in &whole[1..whole.len() - 1] {
        let content = sent.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
        steps.extend(content[..content.len() - 2].iter().map(|byte| chunk([*byte])));
    }
    steps.push(Step::send("0\r\n\r\n"));
    let (split, joined) =
        (Expert::always(steps).await, Expert::always(ended(events(&["Hel", "lo", " w\u{f6}rld"], Some((3, 0, 3))))).await);
    let (router_of_split, router_of_joined) = (router(&split, json!({})).await, router(&joined, json!({})).await);
    let (one, other) = (stream(&router_of_split, json!({})).await, stream(&router_of_joined, json!({})).await);
    assert_eq!(one.text(), other.text());
    router_of_split.counts(r#"expert_router_tokens_total{expert="one",type="output"}"#, 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_reaches_the_client_before_the_next_is_there() {
    let next = Arc::new(Notify::new());
    let held = next.clone();
    let expert = Expert::start(move |_, _| {
        let mut steps = events(&["first"], None);
        steps.push(Step::Hold(held.clone()));
        steps.extend([chunk(DONE), Step::send("0\r\n\r\n")]);
        steps
    })
    .await;
    let router = router(&expert, json!({})).await;
    let body = json!({"model": "one", "stream": true, "messages": [{"role": "user", "content": "?"}]}).to_string();
    let mut response = router.client.begin(Method::POST, "/v1/chat/completions", &[], Bytes::from(body)).await;
    let piece = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&piece).contains("first"));
    next.notify_waiters();
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(rest, DONE);
}

/// A stream that ends before its end: the client is told, the end is no proper one, nobody steps in, and it is counted.
async fn breaks_off(steps: Vec<Step>, timeouts: Value, cause: &str) {
    let first = Expert::always(steps).await;
    let second = Expert::always(ended(events(&["never"], None))).await;
    let experts = [expert_json("one", &first.url(), json!({"timeouts": timeouts})), expert_json("two", &second.url(), json!({}))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "one"}}))).await;
    let answer = stream(&router, json!({"model": "auto"})).await;
    let text = answer.text();
    assert_eq!((answer.status, answer.complete), (200, false), "{cause}: {text}");
    assert!(text.contains("begun") && text.contains(r#""code":"upstream_cut""#) && !text.contains("[DONE]"), "{cause}: {text}");
    assert_eq!((first.count(), second.count()), (1, 0), "{cause}");
    router.counts(&format!(r#"expert_router_streams_cut_total{{cause="{cause}",expert="one"}}"#), 1.0).await;
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="upstream_cut",status="2xx"}"#, 1.0).await;
    router.counts(r#"expert_router_usage_missing_total{expert="one"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_that_dies_in_the_middle_ends_the_stream_as_an_error() {
    let begun = |end: Step| [events(&["begun"], None), vec![end]].concat();
    breaks_off(begun(Step::Close), json!({}), "upstream").await;
    breaks_off(begun(Step::Reset), json!({}), "upstream").await;
    breaks_off(begun(Step::Hang), json!({"idleMilliseconds": 1000}), "idle").await;
    breaks_off(begun(Step::Hang), json!({"totalMilliseconds": 2000}), "total").await;
    // No length, no chunks: the connection's end says nothing, only `[DONE]` would.
    let event = r#"data: {"choices":[{"index":0,"delta":{"content":"begun"}}]}"#;
    let unframed = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{event}\n\n");
    breaks_off(vec![Step::send(unframed), Step::Close], json!({}), "upstream").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_properly_without_done_is_passed_on_and_counted() {
    let expert = Expert::always([events(&["begun"], None), vec![Step::send("0\r\n\r\n")]].concat()).await;
    let router = router(&expert, json!({})).await;
    let answer = stream(&router, json!({})).await;
    assert!(answer.complete && !answer.text().contains("[DONE]"), "{}", answer.text());
    router.counts(r#"expert_router_streams_cut_total{cause="unfinished",expert="one"}"#, 1.0).await;
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="ok",status="2xx"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_stream_frees_the_expert_and_is_metered() {
    let expert = Expert::always([events(&["some", " words"], None), vec![Step::Hang]].concat()).await;
    let router = router(&expert, json!({"prices": {"outputPerMillion": 1e6}})).await;
    let body = json!({"model": "one", "stream": true, "messages": [{"role": "user", "content": "?"}]}).to_string();
    let mut response = router.client.begin(Method::POST, "/v1/chat/completions", &[], Bytes::from(body)).await;
    let mut got = String::new();
    while !got.contains("words") {
        got += &String::from_utf8_lossy(&response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap());
    }
    drop(response);
    eventually("the expert is let go", || async { expert.hangups() == 1 }).await;
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="client_gone",status="2xx"}"#, 1.0).await;
    router.counts(r#"expert_router_in_flight{expert="one"}"#, 0.0).await;
    // Two events, eleven bytes: three tokens at four bytes each, at a dollar each.
    router.counts(r#"expert_router_cost_usd_total{expert="one"}"#, 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_responses_api_streams_by_its_own_events() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    let delta = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
    let completed = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":11,\"output_tokens\":4}}}\n\n";
    let expert = Expert::always(vec![Step::send(head), chunk(delta), chunk(completed), Step::send("0\r\n\r\n")]).await;
    let router = router(&expert, json!({})).await;
    let answer = router.client.post("/v1/responses", &json!({"model": "one", "stream": true, "input": "?"})).await;
    assert_eq!(answer.text(), format!("{delta}{completed}"));
    assert!(expert.seen()[0].json().get("stream_options").is_none());
    router.counts(r#"expert_router_tokens_total{expert="one",type="output"}"#, 4.0).await;
    router.counts(r#"expert_router_streams_cut_total{cause="unfinished",expert="one"}"#, 0.0).await;
}
