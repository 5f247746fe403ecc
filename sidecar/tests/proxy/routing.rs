//! Scores to experts: the decision as clients see it. The rules themselves are tested where they are, in `routing`.

use serde_json::{Value, json};

use super::support::{Expert, Router, chat, expert_json, snapshot};

/// Three experts: dear and good, cheap and fair, and one that knows SQL.
async fn three(more: Value) -> (Router, Expert) {
    let expert = Expert::always(chat("ok", Some((1000, 0, 1000)))).await;
    let priced = |usd: f64| json!({"prices": {"inputPerMillion": usd, "outputPerMillion": usd}});
    let experts = [
        expert_json("good", &expert.url(), priced(10.0)),
        expert_json("fair", &expert.url(), priced(1.0)),
        expert_json("sql", &expert.url(), priced(2.0)),
    ];
    let mut content = json!({"model": {"uri": "given"}, "policy": {"fallbackExpert": "fair"}});
    content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    // The bundle's order is another than the router's, and it knows one more.
    let router = Router::start_scored(snapshot(&experts, content), &["sql", "unknown", "good", "fair"], |text| match text {
        text if text.contains("broken") => Err("out of order".into()),
        text if text.contains("SELECT") => Ok(vec![0.95, 1.0, 0.80, 0.50]),
        _ => Ok(vec![0.20, 1.0, 0.82, 0.80]),
    })
    .await;
    (router, expert)
}

async fn ask(router: &Router, headers: &[(&str, &str)], text: &str) -> String {
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": text}]}).to_string();
    let answer = router.client.post_with("/v1/chat/completions", headers, body).await;
    format!("{} {}", answer.header("x-expert-router-expert"), answer.header("x-expert-router-reason"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_score_answers_bound_by_name_not_by_position() {
    let (router, _) = three(json!({})).await;
    assert_eq!(ask(&router, &[], "Why is the sky blue?").await, "good quality");
    assert_eq!(ask(&router, &[], "SELECT what?").await, "sql quality");
    router.counts(r#"expert_router_decisions_total{expert="sql",reason="quality"}"#, 1.0).await;
    router.counts("expert_router_model_ready", 1.0).await;
    assert!(router.metric(r#"expert_router_decision_duration_seconds_count{phase="encode"}"#).await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_change_objective_and_tolerance_for_one_request() {
    let (router, _) = three(json!({})).await;
    let cost = ("x-expert-router-objective", "cost");
    assert_eq!(ask(&router, &[cost], "Why?").await, "good cost");
    assert_eq!(ask(&router, &[cost, ("x-expert-router-quality-tolerance", "0.05")], "Why?").await, "fair cost");
    assert_eq!(ask(&router, &[cost, ("x-expert-router-quality-tolerance", "0.01")], "Why?").await, "good cost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fails_on_a_prompt_costs_the_client_nothing() {
    let (router, _) = three(json!({})).await;
    assert_eq!(ask(&router, &[], "broken").await, "fair model_broken");
    router.counts(r#"expert_router_score_failures_total{reason="model_broken"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_stays_unless_a_change_gains_more_than_the_threshold() {
    let session = |gain: f64| json!({"session": {"header": "x-s", "ttlSeconds": 600, "maxSessions": 10, "switchGain": gain}});
    let (patient, _) = three(session(0.5)).await;
    assert_eq!(ask(&patient, &[("x-s", "a")], "SELECT what?").await, "sql quality");
    assert_eq!(ask(&patient, &[("x-s", "b")], "Why?").await, "good quality");
    // 0.82 against 0.20 gains 0.62; 0.95 against 0.80 gains 0.15.
    assert_eq!(ask(&patient, &[("x-s", "a")], "Why?").await, "good quality");
    assert_eq!(ask(&patient, &[("x-s", "b")], "SELECT what?").await, "good session");
    let (fickle, _) = three(session(0.1)).await;
    assert_eq!(ask(&fickle, &[("x-s", "b")], "Why?").await, "good quality");
    assert_eq!(ask(&fickle, &[("x-s", "b")], "SELECT what?").await, "sql quality");
}

#[tokio::test(flavor = "multi_thread")]
async fn route_shows_the_scores_by_name() {
    let (router, expert) = three(json!({})).await;
    let decision = router.client.post("/v1/route", &json!({"messages": [{"role": "user", "content": "SELECT what?"}]})).await.json();
    assert_eq!(
        (&decision["expert"], &decision["reason"], &decision["fallbacks"]),
        (&json!("sql"), &json!("quality"), &json!(["good", "fair"]))
    );
    let quality = |name: &str| (decision["scores"][name]["quality"].as_f64().unwrap() * 100.0).round();
    assert_eq!((quality("sql"), quality("good"), quality("fair")), (95.0, 80.0, 50.0));
    assert!(decision["scores"].get("unknown").is_none());
    assert_eq!(expert.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_experts_the_model_does_not_know_leaves_the_old_in_force() {
    let (router, expert) = three(json!({})).await;
    let stranger = snapshot(&[expert_json("stranger", &expert.url(), json!({}))], json!({"revision": "r2", "model": {"uri": "given"}}));
    router.replace("snapshot.json", stranger.to_string());
    router.counts(r#"expert_router_config_reload_failures_total{what="model"}"#, 1.0).await;
    let shown = router.admin.get("/snapshot").await.json();
    assert!(shown["lastError"]["message"].as_str().unwrap().contains("stranger"), "{shown}");
    assert_eq!(ask(&router, &[], "Why?").await, "good quality");
}
