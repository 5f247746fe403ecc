//! Ejection, pauses and recovery.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use super::support::{Expert, Router, Step, chat, events, eventually, expert_json, json_response, response, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_that_keeps_failing_is_left_alone_then_tried_once_and_taken_back() {
    let well = Arc::new(AtomicBool::new(false));
    let now_well = well.clone();
    let first = Expert::start(move |_, _| {
        if now_well.load(Ordering::SeqCst) { chat("back", None) } else { vec![json_response(500, &json!({"error": {"message": "ill"}}))] }
    })
    .await;
    let second = Expert::always(chat("stand-in", None)).await;
    let health = json!({"health": {"consecutiveFailures": 2, "baseEjectionSeconds": 1, "maxEjectionSeconds": 1}});
    let experts = [expert_json("first", &first.url(), health), expert_json("second", &second.url(), json!({}))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "first"}}))).await;
    for _ in 0..2 {
        assert_eq!(router.chat("auto").await.header("x-expert-router-expert"), "second");
    }
    assert!(router.metric(r#"expert_router_ejections_total{expert="first"}"#).await >= 1.0);
    well.store(true, Ordering::SeqCst);
    // Whatever the clock says: at some time a probe is let through, and from then on the first answers again.
    eventually("the first is back", || async { router.chat("auto").await.header("x-expert-router-expert") == "first" }).await;
    assert_eq!(router.chat("auto").await.header("x-expert-router-expert"), "first");
    assert!(router.metric(r#"expert_router_ejected{expert="first"}"#).await.abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_expert_is_out_nobody_is_sent_to_it_and_alone_it_is_refused_with_retry_after() {
    let ill = Expert::always(vec![Step::Close]).await;
    let well = Expert::always(chat("stand-in", None)).await;
    let health = json!({"health": {"consecutiveFailures": 1, "baseEjectionSeconds": 300}, "capabilities": ["Tools"]});
    let experts = [expert_json("ill", &ill.url(), health), expert_json("well", &well.url(), json!({}))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "well"}}))).await;
    let tools = json!({
        "messages": [{"role": "user", "content": "?"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    });
    // Only the first can do this.
    assert_eq!(router.client.post("/v1/chat/completions", &tools).await.error(), (502, "upstream_reset".into()));
    let refused = router.client.post("/v1/chat/completions", &tools).await;
    assert_eq!(refused.error(), (503, "unhealthy".into()));
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(ill.count(), 1);
    router.counts(r#"expert_router_refusals_total{reason="unhealthy"}"#, 1.0).await;
    router.counts(r#"expert_router_ejected{expert="ill"}"#, 1.0).await;
    let shown = router.admin.get("/snapshot").await.json();
    assert_eq!((&shown["experts"][0]["ejected"], &shown["experts"][1]["ejected"]), (&json!(true), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_counts_as_a_failure_and_a_client_error_does_not() {
    let breaks = Expert::always([events(&["begun"], None), vec![Step::Close]].concat()).await;
    let picky = Expert::always(vec![json_response(400, &json!({"error": {"message": "no"}}))]).await;
    let health = json!({"health": {"consecutiveFailures": 1, "baseEjectionSeconds": 300}});
    let experts = [expert_json("breaks", &breaks.url(), health.clone()), expert_json("picky", &picky.url(), health)];
    let router = Router::start(snapshot(&experts, json!({}))).await;
    router.client.post("/v1/chat/completions", &json!({"model": "breaks", "stream": true, "messages": []})).await;
    router.chat("picky").await;
    router
        .client
        .post("/v1/chat/completions", &json!({"model": "breaks", "stream": true, "messages": [{"role": "user", "content": "?"}]}))
        .await;
    router.counts(r#"expert_router_ejections_total{expert="breaks"}"#, 1.0).await;
    router.counts(r#"expert_router_ejections_total{expert="picky"}"#, 0.0).await;
}

/// An expert's error with that header.
fn asks(status: u16, header: &str) -> Vec<Step> {
    vec![response(status, &format!("content-type: application/json\r\n{header}\r\n"), "{\"error\":{\"message\":\"later\"}}")]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_that_asks_for_a_pause_gets_it_from_all_but_those_who_name_it() {
    let limited = Expert::always(asks(429, "retry-after: 200")).await;
    let other = Expert::always(chat("stand-in", None)).await;
    let experts = [expert_json("limited", &limited.url(), json!({})), expert_json("other", &other.url(), json!({}))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "limited"}}))).await;
    for _ in 0..5 {
        assert_eq!(router.chat("auto").await.header("x-expert-router-expert"), "other");
    }
    assert_eq!((limited.count(), other.count()), (1, 5));
    let named = router.chat("limited").await;
    assert_eq!((named.status, named.header("retry-after"), limited.count()), (429, "200", 2));
    for (series, value) in [("paused", 1.0), ("pauses_total", 1.0), ("ejected", 0.0), ("ejections_total", 0.0)] {
        router.counts(&format!(r#"expert_router_{series}{{expert="limited"}}"#), value).await;
    }
    let shown = router.admin.get("/snapshot").await.json();
    assert_eq!((&shown["experts"][0]["paused"], &shown["experts"][1]["paused"]), (&json!(true), &json!(false)));
    let seconds = shown["experts"][0]["pausedForSeconds"].as_f64().unwrap();
    assert!(seconds > 0.0 && seconds <= 200.0, "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_until_a_date_ends_and_the_expert_answers_again() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:38 GMT";
    let busy = Expert::start(move |number, _| if number == 0 { asks(503, date) } else { chat("back", None) }).await;
    let other = Expert::always(chat("stand-in", None)).await;
    let experts = [expert_json("busy", &busy.url(), json!({})), expert_json("other", &other.url(), json!({}))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "busy"}}))).await;
    assert_eq!(router.chat("auto").await.header("x-expert-router-expert"), "other");
    router.counts(r#"expert_router_pauses_total{expert="busy"}"#, 1.0).await;
    eventually("it is back", || async { router.chat("auto").await.header("x-expert-router-expert") == "busy" }).await;
    router.counts(r#"expert_router_paused{expert="busy"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_else_can_answer_clients_get_the_paused_experts_own_word() {
    let limited = Expert::always(asks(429, "retry-after: 200")).await;
    let router = Router::start(snapshot(&[expert_json("limited", &limited.url(), json!({}))], json!({}))).await;
    for requests in 1..=3 {
        let answer = router.chat("auto").await;
        assert_eq!((answer.status, answer.header("retry-after"), limited.count()), (429, "200", requests));
    }
    router.counts(r#"expert_router_pauses_total{expert="limited"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_nonsense_nor_the_limit_of_one_clients_own_key_pauses_an_expert() {
    let vague = Expert::always(asks(429, "retry-after: soon\r\nx-ratelimit-reset-requests: 60s")).await;
    let strict = Expert::always(asks(429, "retry-after: 200")).await;
    let experts =
        [expert_json("vague", &vague.url(), json!({})), expert_json("strict", &strict.url(), json!({"forwardAuthorization": true}))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "vague"}}))).await;
    let body = json!({"messages": [{"role": "user", "content": "?"}]}).to_string();
    for requests in 1..=3 {
        let key = [("authorization", "Bearer its-own")];
        assert_eq!(router.client.post_with("/v1/chat/completions", &key, body.clone()).await.status, 429);
        assert_eq!((vague.count(), strict.count()), (requests, requests));
    }
    for expert in ["vague", "strict"] {
        router.counts(&format!(r#"expert_router_pauses_total{{expert="{expert}"}}"#), 0.0).await;
    }
}
