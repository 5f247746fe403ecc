//! Tokens and money: priced as agreed, counted once, held against budgets.

use serde_json::{Value, json};

use super::support::{Expert, Router, Step, budget, chat, expert_json, snapshot};

fn prices(input: f64, cached: f64, output: f64) -> Value {
    json!({"prices": {"inputPerMillion": input, "cachedInputPerMillion": cached, "outputPerMillion": output}})
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_tokens_are_priced_apart_and_savings_are_against_the_baseline() {
    let expert = Expert::always(chat("ok", Some((1_000_000, 400_000, 100_000)))).await;
    let dear = Expert::always(chat("never", None)).await;
    let experts = [expert_json("cheap", &expert.url(), prices(2.0, 0.5, 10.0)), expert_json("dear", &dear.url(), prices(20.0, 5.0, 100.0))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"baselineExpert": "dear"}}))).await;
    let answer = router.chat("cheap").await;
    // 0.6 M fresh at 2, 0.4 M cached at 0.5, 0.1 M out at 10.
    let cost: f64 = answer.header("x-expert-router-cost-usd").parse().unwrap();
    assert!(close(cost, 1.2 + 0.2 + 1.0), "{cost}");
    router.counts(r#"expert_router_cost_usd_total{expert="cheap"}"#, 2.4).await;
    router.counts(r#"expert_router_baseline_cost_usd_total{expert="cheap"}"#, 24.0).await;
    router.counts("expert_router_savings_usd", 21.6).await;
    router.counts(r#"gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="cheap",gen_ai_request_model="cheap-model",gen_ai_token_type="input"}"#, 1e6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_charged_to_no_baseline_that_makes_none() {
    let vectors = json!({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}});
    let expert = Expert::always(vec![super::support::json_response(200, &vectors)]).await;
    let mut able = prices(1.0, 1.0, 0.0);
    able["capabilities"] = json!(["Embeddings"]);
    let experts = [expert_json("vectors", &expert.url(), able), expert_json("dear", &expert.url(), prices(20.0, 5.0, 100.0))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"baselineExpert": "dear"}}))).await;
    assert_eq!(router.client.post("/v1/embeddings", &json!({"input": "?"})).await.status, 200);
    router.counts(r#"expert_router_baseline_cost_usd_total{expert="vectors"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_never_came_is_estimated_and_counted_so_and_the_unpriced_are_counted_too() {
    let expert = Expert::always(chat(&"word ".repeat(100), None)).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let answer = router.chat("one").await;
    assert_eq!(answer.header("x-expert-router-cost-usd"), "");
    router.counts(r#"expert_router_usage_missing_total{expert="one"}"#, 1.0).await;
    router.counts(r#"expert_router_unpriced_requests_total{expert="one"}"#, 1.0).await;
    assert!(router.metric(r#"expert_router_tokens_total{expert="one",type="output"}"#).await > 100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_passed_on_costs_nothing() {
    let expert = Expert::always(vec![super::support::json_response(400, &json!({"error": {"message": "no"}}))]).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({"prices": {"perRequest": 1.0}}))], json!({}))).await;
    assert_eq!(router.chat("one").await.status, 400);
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="upstream_status",status="4xx"}"#, 1.0).await;
    assert!(close(router.metric(r#"expert_router_cost_usd_total{expert="one"}"#).await, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_paid_by_the_hour_costs_its_share_of_the_time() {
    let expert = Expert::always(chat("ok", Some((1, 0, 1)))).await;
    // An hour for 3.6 million dollars is a thousand a second: even a fast answer shows.
    let router = Router::start(snapshot(&[expert_json("own", &expert.url(), json!({"prices": {"perHour": 3.6e6}}))], json!({}))).await;
    let cost: f64 = router.chat("own").await.header("x-expert-router-cost-usd").parse().unwrap();
    assert!(cost > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_refuses_and_says_until_when() {
    let expert = Expert::always(chat("ok", Some((1_000_000, 0, 0)))).await;
    let more = json!({"budgets": [budget(1.5, "Refuse")]});
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), prices(1.0, 1.0, 1.0))], more)).await;
    assert_eq!(router.chat("one").await.status, 200);
    assert_eq!(router.chat("one").await.status, 200);
    // Answers are metered after they went out, so a client may be a moment faster than its bill.
    router.counts(r#"expert_router_budget_spent_usd{budget="day"}"#, 2.0).await;
    let refused = router.chat("one").await;
    assert_eq!(refused.error(), (429, "budget_exceeded".into()));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 86_400);
    router.counts(r#"expert_router_budget_spent_usd{budget="day"}"#, 2.0).await;
    router.counts(r#"expert_router_budget_amount_usd{budget="day"}"#, 1.5).await;
    assert_eq!(expert.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_prefers_the_cheaper_expert() {
    let (dear, cheap) = (Expert::always(chat("dear", Some((1_000_000, 0, 0)))).await, Expert::always(chat("cheap", None)).await);
    let experts = [expert_json("dear", &dear.url(), prices(10.0, 10.0, 10.0)), expert_json("cheap", &cheap.url(), prices(0.1, 0.1, 0.1))];
    let more = json!({"budgets": [budget(5.0, "PreferCheaper")], "policy": {"fallbackExpert": "dear"}});
    let router = Router::start(snapshot(&experts, more)).await;
    assert_eq!(router.chat("auto").await.header("x-expert-router-expert"), "dear");
    router.counts(r#"expert_router_budget_spent_usd{budget="day"}"#, 10.0).await;
    let answer = router.chat("auto").await;
    assert_eq!((answer.header("x-expert-router-expert"), answer.header("x-expert-router-reason")), ("cheap", "budget"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_key_is_asked_for_kept_from_the_expert_and_has_a_budget_of_its_own() {
    let expert = Expert::always(chat("ok", Some((1_000_000, 0, 0)))).await;
    let router = Router::start_with(
        |folder| {
            std::fs::write(folder.join("keys"), "search:key-a\nchat:key-b\n").unwrap();
            let mut per_key = budget(0.5, "Refuse");
            per_key["perClientKey"] = json!(true);
            let mut one = expert_json("one", &expert.url(), prices(1.0, 1.0, 1.0));
            one["forwardAuthorization"] = json!(true);
            snapshot(&[one], json!({"clientKeysFile": folder.join("keys"), "budgets": [per_key]}))
        },
        "",
    )
    .await;
    let body = json!({"model": "one", "messages": [{"role": "user", "content": "?"}]}).to_string();
    let call = |headers: &'static [(&'static str, &'static str)]| router.client.post_with("/v1/chat/completions", headers, body.clone());
    assert_eq!(call(&[]).await.error(), (401, "invalid_api_key".into()));
    assert_eq!(call(&[("authorization", "Bearer key-c")]).await.error(), (401, "invalid_api_key".into()));
    assert_eq!(call(&[("authorization", "Bearer key-a")]).await.status, 200);
    router.counts(r#"expert_router_client_cost_usd_total{client="search"}"#, 1.0).await;
    assert_eq!(call(&[("authorization", "Bearer key-a")]).await.error(), (429, "budget_exceeded".into()));
    assert_eq!(call(&[("x-expert-router-key", "key-b"), ("authorization", "Bearer for-the-expert")]).await.status, 200);
    let seen = expert.seen();
    assert!(!seen[0].headers.contains_key("authorization"));
    assert_eq!(seen[1].headers["authorization"], "Bearer for-the-expert");
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("x-expert-router-key")));
    router.counts(r#"expert_router_client_cost_usd_total{client="search"}"#, 1.0).await;
    router.counts(r#"expert_router_client_cost_usd_total{client="chat"}"#, 1.0).await;
    assert_eq!(router.client.get("/v1/models").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_spent_is_counted_from_zero() {
    let expert = Expert::always(chat("never", None)).await;
    let one = expert_json("one", &expert.url(), prices(1.0, 1.0, 1.0));
    let keyless = Router::start(snapshot(std::slice::from_ref(&one), json!({}))).await;
    let counters = async |router: &Router| {
        let text = router.admin.get("/metrics").await.text();
        text.lines().filter(|line| line.starts_with("expert_router_client_cost_usd_total{")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(counters(&keyless).await, [r#"expert_router_client_cost_usd_total{client="",router="chat"} 0"#]);
    let keyed = Router::start_with(
        |folder| {
            std::fs::write(folder.join("keys"), "search:key-a\nchat:key-b\n").unwrap();
            snapshot(&[one], json!({"clientKeysFile": folder.join("keys")}))
        },
        "",
    )
    .await;
    let named = ["chat", "search"].map(|name| format!(r#"expert_router_client_cost_usd_total{{client="{name}",router="chat"}} 0"#));
    assert_eq!(counters(&keyed).await, named);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_outlives_the_process() {
    let expert = Expert::always(chat("ok", Some((1_000_000, 0, 0)))).await;
    let content = snapshot(&[expert_json("one", &expert.url(), prices(1.0, 1.0, 1.0))], json!({"budgets": [budget(0.5, "Refuse")]}));
    let mut router = Router::start_with(|_| content, "--state-file FOLDER/state.json").await;
    assert_eq!(router.chat("one").await.status, 200);
    assert!(router.stop().await.unwrap());
    let folder = std::mem::replace(&mut router.folder, tempfile::tempdir().unwrap());
    let again = Router::start_in(folder, "--state-file FOLDER/state.json").await;
    assert_eq!(again.chat("one").await.error(), (429, "budget_exceeded".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_reached_an_expert_is_metered_too() {
    let expert = Expert::always(vec![Step::Close]).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    router.client.post_with("/v1/chat/completions", &[], "{").await;
    router.client.post_with("/v1/chat/completions", &[("x-expert-router-objective", "cheap")], "{}").await;
    router.client.get("/nowhere").await;
    router.client.get("/v1/chat/completions").await;
    router.chat("one").await;
    let total = |endpoint: &str, outcome: &str, status: &str| {
        format!(r#"expert_router_requests_total{{endpoint="{endpoint}",outcome="{outcome}",status="{status}"}}"#)
    };
    router.counts(&total("chat_completions", "invalid_request", "4xx"), 2.0).await;
    router.counts(&total("other", "not_found", "4xx"), 1.0).await;
    router.counts(&total("other", "method_not_allowed", "4xx"), 1.0).await;
    router.counts(&total("chat_completions", "upstream_reset", "5xx"), 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_for_nothing_from_outside() {
    let expert = Expert::always(chat("ok", None)).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let page = router.admin.get("/dashboard").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let text = page.text();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("src="), "{text}");
    // The names it adds up are counted.
    for word in text.split(['"', '+', ' ']).filter(|word| word.starts_with("gen_ai_") && !word.contains('=')) {
        assert!(
            sidecar::metrics::METRICS.iter().any(|metric| metric.name == word || metric.labels.contains(&word.trim_end_matches(':'))),
            "{word}"
        );
    }
}
