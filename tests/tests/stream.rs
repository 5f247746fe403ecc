//! Streams of llama.cpp's server through `expert-router`: what they cost is counted, nothing is added, nothing is lost,
//! and nobody works for a client that left.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Llama, LlamaOptions, Metrics, Router, client, eventually};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");

/// Much more than anything here takes; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

const OPTIONS: LlamaOptions = LlamaOptions { name: "smollm2", embeddings: false, slots: 2 };

/// The data of each event of a streamed answer.
async fn stream(router: &Router, mut body: Value) -> Result<Vec<String>> {
    body["stream"] = json!(true);
    let response = client()?.post(format!("{}/chat/completions", router.base_url())).json(&body).send().await?.error_for_status()?;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await?;
    Ok(text.split("\n\n").filter(|event| !event.is_empty()).map(|event| event.trim_start_matches("data: ").to_owned()).collect())
}

fn question(max_tokens: u32) -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": max_tokens, "temperature": 0})
}

/// Input, cached input and output tokens counted so far.
async fn tokens(router: &Router) -> Result<[f64; 3]> {
    let metrics = router.metrics().await?;
    Ok(["input", "cached_input", "output"].map(|kind| metrics.sum("expert_router_tokens_total", &[("expert", "local"), ("type", kind)])))
}

#[tokio::test]
async fn streamed_usage_is_counted_whether_the_client_sees_it_or_not() -> Result<()> {
    let llama = Llama::start(OPTIONS)?;
    let router = Router::start(EXPERT_ROUTER, &manifest(&llama))?;

    // The client asks: it sees the usage, and the same is counted.
    let mut asking = question(8);
    asking["stream_options"] = json!({"include_usage": true});
    let events = stream(&router, asking).await?;
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let last: Value = serde_json::from_str(&events[events.len() - 2])?;
    assert_eq!(last["choices"], json!([]));
    let said = |usage: &Value| usage.as_f64().context("a count");
    let usage = &last["usage"];
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_f64().unwrap_or(0.0);
    let first = [said(&usage["prompt_tokens"])?, cached, said(&usage["completion_tokens"])?];
    counted(&router, first).await?;

    // The client does not ask: it sees none. The prompt is the same, so the server has it cached by now.
    let events = stream(&router, question(8)).await?;
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    for event in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(event)?;
        assert_ne!(chunk["choices"], json!([]), "{event}");
        assert!(chunk.get("usage").is_none_or(Value::is_null), "{event}");
    }
    eventually("the second answer is counted", PATIENCE, async || Ok(tokens(&router).await?[0] > first[0])).await?;
    let both = tokens(&router).await?;
    assert_eq!([both[0], both[2]], [2.0 * first[0], 2.0 * first[2]]);
    assert!(both[1] > first[1], "cached tokens were {} and are {}", first[1], both[1]);

    let metrics = router.metrics().await?;
    assert_eq!(metrics.sum("expert_router_usage_missing_total", &[]), 0.0);
    let expected = (both[0] - both[1]) * 1.0 + both[1] * 0.5 + both[2] * 3.0;
    assert!((metrics.sum("expert_router_cost_usd_total", &[("expert", "local")]) * 1e6 - expected).abs() < 1e-3, "expected {expected}");
    assert_eq!(metrics.sum("gen_ai_server_time_to_first_token_seconds_count", &[]), 2.0);

    // The log says which expert answered, and not a word of what was asked.
    let log = router.log();
    assert_eq!(log.matches("\"expert\":\"local\"").count(), 2, "{log}");
    assert!(!log.contains("a story"), "{log}");
    Ok(())
}

/// The last byte reaches the client a moment before the request is counted.
async fn counted(router: &Router, expected: [f64; 3]) -> Result<()> {
    eventually(&format!("{expected:?} tokens are counted"), PATIENCE, async || Ok(tokens(router).await? == expected)).await
}

/// A client that hangs up cancels the expert's work: the server stops long before the tokens asked for.
#[tokio::test]
async fn hanging_up_frees_the_server() -> Result<()> {
    let llama = Llama::start(OPTIONS)?;
    let router = Router::start(EXPERT_ROUTER, &manifest(&llama))?;
    let mut body = question(1900);
    body["stream"] = json!(true);
    body["ignore_eos"] = json!(true);
    let mut response = client()?.post(format!("{}/chat/completions", router.base_url())).json(&body).send().await?;
    response.chunk().await?.context("the first piece")?;
    drop(response);

    let llama_metrics = format!("{}/metrics", llama.url());
    let idle = async || Ok(Metrics::read(&llama_metrics).await?.sum("llamacpp:requests_processing", &[]) == 0.0);
    eventually("the server's slots are free", PATIENCE, idle).await?;
    let generated = Metrics::read(&llama_metrics).await?.sum("llamacpp:tokens_predicted_total", &[]);
    assert!(generated < 1800.0, "the server generated {generated} tokens for nobody");

    // Counted as what it was, with the tokens it cost as far as anybody knows; and the router is idle too.
    let in_metrics = async || {
        let metrics = router.metrics().await?;
        Ok(metrics.sum("expert_router_requests_total", &[("outcome", "client_gone")]) == 1.0
            && metrics.sum("expert_router_in_flight", &[("expert", "local")]) == 0.0)
    };
    eventually("the request is counted as left by its client", PATIENCE, in_metrics).await?;
    assert!(tokens(&router).await?[2] >= 1.0);
    Ok(())
}

/// What the server itself refuses reaches the client as the server said it.
#[tokio::test]
async fn a_refusal_of_the_server_passes_as_it_is() -> Result<()> {
    let llama = Llama::start(OPTIONS)?;
    let router = Router::start(EXPERT_ROUTER, &manifest(&llama))?;
    let long = json!({"model": "local", "messages": [{"role": "user", "content": "word ".repeat(3000)}], "max_tokens": 4});
    let answer = client()?.post(format!("{}/chat/completions", router.base_url())).json(&long).send().await?;
    assert_eq!(answer.status(), 400);
    let error: Value = answer.json().await?;
    assert_eq!(error["error"]["type"], "exceed_context_size_error", "{error}");
    assert_eq!(error["error"]["n_ctx"], 2048, "{error}");
    Ok(())
}

/// One expert, and no `contextTokens`: what is too long is for its server to say.
fn manifest(llama: &Llama) -> String {
    format!(
        r#"
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: one}}
spec:
  experts:
    - name: local
      url: {}/v1
      modelName: smollm2
      pricing: {{inputPerMillion: "1", outputPerMillion: "3", cachedInputPerMillion: "0.5"}}
  policy: {{fallbackExpert: local}}
"#,
        llama.url()
    )
}
