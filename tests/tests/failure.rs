//! Servers that die: before an answer begins another takes over, after it has begun nobody pretends.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Llama, LlamaOptions, Router, client, eventually};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");

/// Much more than anything here takes; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(name: &'static str) -> LlamaOptions {
    LlamaOptions { name, embeddings: false, slots: 2 }
}

fn question(max_tokens: u32) -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": max_tokens})
}

async fn ask(router: &Router, body: &Value) -> Result<reqwest::Response> {
    Ok(client()?.post(format!("{}/chat/completions", router.base_url())).json(body).send().await?)
}

fn expert(response: &reqwest::Response) -> &str {
    response.headers().get("x-expert-router-expert").and_then(|name| name.to_str().ok()).unwrap_or_default()
}

/// The stream that was under way plainly is not whole; what comes after is answered in OpenAI's shape.
#[tokio::test]
async fn a_server_killed_in_the_middle_ends_the_stream_as_an_error() -> Result<()> {
    let mut llama = Llama::start(options("only"))?;
    let router = Router::start(EXPERT_ROUTER, &manifest(&[("only", &llama)]))?;
    let mut body = question(1900);
    body["stream"] = json!(true);
    body["ignore_eos"] = json!(true);
    let mut response = ask(&router, &body).await?;
    let mut seen = response.chunk().await?.context("the first piece")?.to_vec();
    llama.kill()?;
    let broke_off = loop {
        match response.chunk().await {
            Ok(Some(piece)) => seen.extend_from_slice(&piece),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(!seen.contains("[DONE]"), "{seen}");
    assert!(broke_off || seen.contains("\"error\""), "the stream ended as if it were whole: {seen}");
    let cut = async || Ok(router.metrics().await?.sum("expert_router_streams_cut_total", &[("expert", "only")]) == 1.0);
    eventually("the cut is counted", PATIENCE, cut).await?;

    let after = ask(&router, &question(4)).await?;
    assert!(after.status().is_server_error(), "{after:?}");
    let error: Value = after.json().await?;
    assert!(error["error"]["message"].is_string(), "{error}");
    Ok(())
}

#[tokio::test]
async fn another_expert_answers_for_a_server_that_is_gone() -> Result<()> {
    let mut first = Llama::start(options("first"))?;
    let second = Llama::start(options("second"))?;
    let router = Router::start(EXPERT_ROUTER, &manifest(&[("first", &first), ("second", &second)]))?;
    let before = ask(&router, &question(2)).await?;
    assert_eq!((before.status().as_u16(), expert(&before)), (200, "first"));
    // Its body is read, so that its connection lies in the pool when the server goes.
    before.bytes().await?;

    first.kill()?;
    for _ in 0..3 {
        let response = ask(&router, &question(2)).await?;
        assert_eq!((response.status().as_u16(), expert(&response)), (200, "second"));
        let answer: Value = response.json().await?;
        assert_eq!(answer["object"], "chat.completion");
    }
    assert!(router.metrics().await?.sum("expert_router_fallbacks_total", &[("expert", "first")]) >= 1.0);
    Ok(())
}

/// The first expert is the one that answers while it can.
fn manifest(experts: &[(&str, &Llama)]) -> String {
    let listed: Vec<String> = experts
        .iter()
        .map(|(name, llama)| format!("    - {{name: {name}, url: \"{}/v1\", modelName: {name}, pricing: {{}}}}", llama.url()))
        .collect();
    format!(
        "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: several}}
spec:
  experts:
{}
  policy: {{fallbackExpert: {}}}
",
        listed.join("\n"),
        experts[0].0
    )
}
