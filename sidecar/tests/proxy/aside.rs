//! What is done beside answering: a model in shadow, the log of requests, the list of the last ones.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::support::{Expert, Router, Step, chat, chunk, events, eventually, expert_json, snapshot};

/// A dear expert and a cheap one.
async fn two(more: Value) -> (Value, Expert) {
    let expert = Expert::always(chat("write to ann@example.com", Some((1000, 0, 100)))).await;
    let priced = |usd: f64| json!({"prices": {"inputPerMillion": usd, "outputPerMillion": usd}, "capabilities": ["Tools"]});
    let experts = [expert_json("dear", &expert.url(), priced(10.0)), expert_json("cheap", &expert.url(), priced(1.0))];
    let mut content = json!({"model": {"uri": "given"}});
    content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (snapshot(&experts, content), expert)
}

/// Knows how long answers are, so that it can tell what they cost.
fn engine(dear: f32, cheap: f32) -> model::Engine {
    let scores = move |text: &str| if text.contains("agree") { Ok(vec![0.25, 0.75]) } else { Ok(vec![cheap, dear]) };
    let mut bundle = model::Engine::fixed(&["cheap", "dear"], scores).unwrap().bundle().clone();
    for expert in &mut bundle.manifest.experts {
        expert.mean_output_tokens = Some(1000.0);
    }
    model::Engine::with_scorer(bundle, Arc::new(model::scorer::Fixed(scores)), &model::EngineOptions::default()).unwrap()
}

async fn ask(router: &Router, model: &str, text: &str) -> String {
    let answer =
        router.client.post("/v1/chat/completions", &json!({"model": model, "messages": [{"role": "user", "content": text}]})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-expert-router-expert").to_owned()
}

const SHADOW: &str = "expert_router_shadow_decisions_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_shadow_is_counted_and_not_listened_to() {
    let (content, expert) = two(json!({"shadow": {"model": {"uri": "given"}, "percent": 100}})).await;
    let router = Router::start_shadowed(content, "", engine(0.75, 0.5), engine(0.5, 0.625)).await;
    router.counts("expert_router_shadow_ready", 1.0).await;
    router.counts(&format!(r#"{SHADOW}{{agreed="true",expert="dear"}}"#), 0.0).await;
    assert_eq!(ask(&router, "auto", "Why?").await, "dear");
    assert_eq!(ask(&router, "auto", "agree").await, "dear");
    assert_eq!(ask(&router, "auto", "Why not?").await, "dear");
    router.counts(&format!(r#"{SHADOW}{{agreed="false",expert="cheap"}}"#), 2.0).await;
    router.counts(&format!(r#"{SHADOW}{{agreed="true",expert="dear"}}"#), 1.0).await;
    // 0.625 instead of 0.5, twice; nothing where both agree.
    router.counts("expert_router_shadow_predicted_gain_sum", 0.25).await;
    router.counts("expert_router_shadow_predicted_gain_count", 3.0).await;
    let cost = |of: &str| format!(r#"expert_router_shadow_predicted_cost_usd_total{{of="{of}"}}"#);
    let (shadow, chosen) = (router.metric(&cost("shadow")).await, router.metric(&cost("chosen")).await);
    // Dear costs ten times cheap: 30 parts were spent, 12 would have been.
    assert!(chosen > 0.0 && (shadow / chosen - 0.4).abs() < 0.01, "{shadow} of {chosen}");
    assert_eq!(router.admin.get("/snapshot").await.json()["shadow"]["percent"], 100);
    assert_eq!(expert.count(), 3, "the shadow asks no expert");
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_are_not_looked_at_and_a_shadow_that_fails_costs_nothing() {
    let (content, _expert) = two(json!({"shadow": {"model": {"uri": "given"}, "percent": 100}})).await;
    let fails =
        model::Engine::fixed(&["cheap", "dear"], |text| if text.contains("What is") { Ok(vec![0.0, 0.0]) } else { Err("broken".into()) });
    let router = Router::start_shadowed(content, "", engine(0.75, 0.5), fails.unwrap()).await;
    assert_eq!(ask(&router, "cheap", "Why?").await, "cheap");
    assert_eq!(ask(&router, "auto", "Why?").await, "dear");
    router.counts(r#"expert_router_shadow_skipped_total{reason="no_score"}"#, 1.0).await;
    assert!(router.metric("expert_router_shadow_predicted_gain_count").await.abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_shadow_delays_nobody_and_drops_what_it_cannot_take() {
    let (content, _expert) = two(json!({"shadow": {"model": {"uri": "given"}, "percent": 100}})).await;
    let (open, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = model::Engine::fixed(&["cheap", "dear"], move |text| {
        if !text.contains("What is") {
            // Until the test has seen enough.
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(60));
        }
        Ok(vec![0.5, 0.25])
    });
    let router = Router::start_shadowed(content, "", engine(0.75, 0.5), slow.unwrap()).await;
    for _ in 0..300 {
        assert_eq!(ask(&router, "auto", "Why?").await, "dear");
    }
    // One is being looked at, 256 wait.
    eventually("some are dropped", || async { router.metric(r#"expert_router_shadow_skipped_total{reason="queue_full"}"#).await >= 43.0 })
        .await;
    drop(open);
    router.counts(&format!(r#"{SHADOW}{{agreed="false",expert="cheap"}}"#), 257.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_cannot_be_tried_is_told_and_routing_goes_on() {
    let (content, _expert) = two(json!({"model": null})).await;
    let router = Router::start_with(|_| content, "--shadow-bundle FOLDER/nothing --shadow-percent 50").await;
    router.counts("expert_router_shadow_ready", 0.0).await;
    router.counts(r#"expert_router_config_reload_failures_total{what="shadow"}"#, 1.0).await;
    let error = router.admin.get("/snapshot").await.json()["lastError"].clone();
    assert!(error["message"].as_str().unwrap().starts_with("on trial: bundle"), "{error}");
    assert_eq!(ask(&router, "auto", "Why?").await, "cheap");
}

/// All rows of the finished files.
fn rows(folder: &Path) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.iter().all(|file| file.extension().is_some_and(|ending| ending == "jsonl")), "{files:?}");
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_kept_with_who_answered_and_at_what_cost() {
    let log =
        json!({"percent": 100, "includeResponses": true, "redaction": "Standard", "redactPatterns": ["ACME-[0-9]+"], "maxRowBytes": 4096});
    let (content, _expert) = two(json!({"requestLog": log, "model": null})).await;
    let mut router = Router::start_with(|_| content, "--request-log-dir FOLDER/log").await;
    ask(&router, "auto", "Who is ACME-4711, bob@example.com?").await;
    ask(&router, "dear", "Second").await;
    let tools = json!({"model": "auto", "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f"}}]});
    router.client.post("/v1/chat/completions", &tools).await;
    ask(&router, "auto", &"x".repeat(5000)).await;
    router.counts("expert_router_request_log_rows_total", 2.0).await;
    router.counts(r#"expert_router_request_log_dropped_total{reason="too_large"}"#, 1.0).await;
    router.counts(r#"expert_router_request_log_dropped_total{reason="unsuitable"}"#, 1.0).await;
    assert!(router.stop().await.unwrap());
    let rows = rows(&router.path("log"));
    assert_eq!(rows.len(), 2);
    let first = &rows[0];
    assert_eq!(first["messages"], json!([{"role": "user", "content": "Who is [redacted], [email]?"}]));
    let outcome = &first["outcomes"][0];
    assert_eq!((&outcome["expert"], &outcome["response"]), (&json!("cheap"), &json!("write to [email]")));
    assert_eq!((&outcome["prompt_tokens"], &outcome["completion_tokens"]), (&json!(1000), &json!(100)));
    assert!((outcome["cost_usd"].as_f64().unwrap() - 0.0011).abs() < 1e-12, "{outcome}");
    assert!(outcome["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!((&rows[1]["reason"], &rows[1]["outcomes"][0]["expert"]), (&json!("pinned"), &json!("dear")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_answer_is_kept_whole_and_answers_only_where_they_are_asked_for() {
    for (include, expect) in [(true, json!("one two")), (false, Value::Null)] {
        let mut steps = events(&["one", " two"], Some((7, 0, 2)));
        steps.extend([chunk("data: [DONE]\n\n"), Step::send("0\r\n\r\n")]);
        let expert = Expert::always(steps).await;
        let log = json!({"percent": 100, "includeResponses": include});
        let content = snapshot(&[expert_json("only", &expert.url(), json!({}))], json!({"requestLog": log}));
        let mut router = Router::start_with(|_| content, "--request-log-dir FOLDER/log").await;
        let body = json!({"model": "auto", "stream": true, "messages": [{"role": "user", "content": "x"}]});
        assert_eq!(router.client.post("/v1/chat/completions", &body).await.status, 200);
        router.counts("expert_router_request_log_rows_total", 1.0).await;
        assert!(router.stop().await.unwrap());
        let rows = rows(&router.path("log"));
        assert_eq!(rows[0]["outcomes"][0]["response"], expect);
        assert_eq!(rows[0]["outcomes"][0]["completion_tokens"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_unless_both_manifest_and_flag_say_so_and_errors_never_are() {
    let (content, _expert) = two(json!({"model": null})).await;
    let mut router = Router::start_with(|_| content, "--request-log-dir FOLDER/log").await;
    ask(&router, "auto", "x").await;
    assert!(router.stop().await.unwrap());
    assert_eq!(rows(&router.path("log")), Vec::<Value>::new());
    let refuses = Expert::always(vec![super::support::json_response(400, &json!({"error": {"message": "no"}}))]).await;
    let content = snapshot(&[expert_json("only", &refuses.url(), json!({}))], json!({"requestLog": {"percent": 100}}));
    let mut router = Router::start_with(|_| content, "--request-log-dir FOLDER/log").await;
    assert_eq!(router.chat("auto").await.status, 400);
    assert!(router.stop().await.unwrap());
    assert_eq!(rows(&router.path("log")), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_keeps_nobody_from_an_answer() {
    let (content, _expert) = two(json!({"requestLog": {"percent": 100}, "model": null})).await;
    let flag = |folder: &Path| {
        std::fs::write(folder.join("a-file"), "in the way").unwrap();
        content
    };
    let router = Router::start_with(flag, "--request-log-dir FOLDER/a-file/log").await;
    assert_eq!(ask(&router, "auto", "x").await, "cheap");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_decisions_are_listed_without_a_word_of_their_text() {
    let (content, _expert) = two(json!({"model": null})).await;
    let router = Router::start_with(|_| content, "").await;
    for _ in 0..60 {
        ask(&router, "auto", "a secret question").await;
    }
    ask(&router, "dear", "a secret question").await;
    eventually("the last is listed", || async { router.admin.get("/decisions").await.json()["decisions"][0]["expert"] == "dear" }).await;
    let text = router.admin.get("/decisions").await.text();
    assert!(!text.contains("secret") && !text.contains("ann@"), "{text}");
    let decisions = router.admin.get("/decisions").await.json()["decisions"].as_array().unwrap().clone();
    assert_eq!(decisions.len(), 50);
    assert_eq!(
        (&decisions[0]["reason"], &decisions[0]["outcome"], &decisions[0]["inputTokens"]),
        (&json!("pinned"), &json!("ok"), &json!(1000))
    );
    assert!((decisions[1]["savedUsd"].as_f64().unwrap() - 0.0099).abs() < 1e-12, "{}", decisions[1]);
}
