//! The way to an expert and back: what reaches it, what the client gets, and who steps in when it fails.

mod support;

use serde_json::json;
use support::{Expert, Router, Step, chat, chunk, completion, eventually, events, expert_json, json_response, response, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_request_reaches_its_expert_and_the_answer_says_who_and_why() {
    let expert = Expert::always(chat("Hello.", Some((10, 0, 5)))).await;
    let other = Expert::always(chat("Not me.", None)).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({})), expert_json("two", &other.url(), json!({}))], json!({}))).await;
    let answer = router.chat("one").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hello.");
    assert_eq!((answer.header("x-expert-router-expert"), answer.header("x-expert-router-reason")), ("one", "pinned"));
    assert!(answer.header("x-expert-router-decision-ms").parse::<f64>().unwrap() >= 0.0);
    assert!(!answer.header("x-expert-router-request-id").is_empty());
    let seen = expert.seen();
    assert_eq!((seen.len(), other.count()), (1, 0));
    assert_eq!((seen[0].path.as_str(), &seen[0].json()["model"]), ("/v1/chat/completions", &json!("one-model")));
}
