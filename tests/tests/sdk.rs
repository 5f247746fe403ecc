//! OpenAI's Python SDK, told nothing but where to call, through `expert-router` to llama.cpp's server.

use std::time::Duration;

use anyhow::Result;
use tests::{Llama, LlamaOptions, Router, run_python};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");

/// Some thirty short answers of a small model on one thread, on a machine that other tests keep busy.
const PATIENCE: Duration = Duration::from_secs(400);

#[tokio::test]
async fn sdk_works_unchanged_but_for_its_base_url() -> Result<()> {
    let chat = Llama::start(LlamaOptions { name: "smollm2", embeddings: false, slots: 2 })?;
    let embedder = Llama::start(LlamaOptions { name: "smollm2-vectors", embeddings: true, slots: 1 })?;
    let router = Router::start(EXPERT_ROUTER, &manifest(&chat, &embedder))?;
    run_python("sdk.py", &[("OPENAI_BASE_URL", &router.base_url())], PATIENCE)?;

    // What the SDK saw is also what was counted: every endpoint, and tokens of every expert.
    let metrics = router.metrics().await?;
    for endpoint in ["chat_completions", "completions", "responses", "embeddings"] {
        assert!(metrics.sum("expert_router_requests_total", &[("endpoint", endpoint)]) >= 1.0, "{endpoint}");
    }
    for expert in ["general", "brief", "embedder"] {
        assert!(metrics.sum("expert_router_tokens_total", &[("expert", expert), ("type", "input")]) > 0.0, "{expert}");
    }
    assert!(metrics.sum("expert_router_tokens_total", &[("expert", "general"), ("type", "output")]) > 0.0);
    Ok(())
}

fn manifest(chat: &Llama, embedder: &Llama) -> String {
    let (chat, embedder) = (chat.url(), embedder.url());
    format!(
        r#"
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: talk}}
spec:
  experts:
    - name: general
      url: {chat}/v1
      modelName: smollm2
      contextTokens: 2048
      capabilities: [Tools, JsonSchema, Logprobs]
      pricing: {{inputPerMillion: "0.20", outputPerMillion: "0.60", cachedInputPerMillion: "0.05"}}
    - name: brief
      url: {chat}/v1
      modelName: smollm2
      contextTokens: 2048
      prependMessages:
        - {{role: system, content: "Answer in as few words as you can."}}
        - {{role: user, content: "What is the capital of Italy?"}}
        - {{role: assistant, content: "Rome."}}
      bodyOverrides: {{temperature: 0, max_tokens: 6}}
      pricing: {{inputPerMillion: "0.10", outputPerMillion: "0.30"}}
    - name: embedder
      url: {embedder}/v1
      modelName: smollm2-vectors
      capabilities: [Embeddings]
      pricing: {{inputPerMillion: "0.02"}}
  policy:
    fallbackExpert: general
    baselineExpert: general
"#
    )
}
