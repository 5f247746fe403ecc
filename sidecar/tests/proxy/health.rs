//! Ejection and recovery.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use super::support::{Expert, Router, Step, chat, events, eventually, expert_json, json_response, snapshot};

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
