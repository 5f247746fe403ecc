//! Experts, two routers before them, and what they are asked.

use std::{path::Path, time::Duration};

use anyhow::Result;
use replay::{Answer, Options, Replay, Script};
use serde_json::{Value, json};
use tests::{Router, client, law};

use super::books::{LARGE, SMALL};

/// Experts that answer at once, from what they are told.
pub(super) struct Experts {
    small: Replay,
    large: Replay,
    silent: Replay,
    breaking: Replay,
}

impl Experts {
    pub(super) async fn start() -> Result<Self> {
        let start = async |answer: Answer, script: &str| -> Result<Replay> {
            let script = Script::parse(script)?.repeating();
            Ok(Replay::start(Options { fallback: answer, script, keep_requests: 0, ..Options::default() }).await?)
        };
        let words = "one two three four five six seven eight nine ten";
        Ok(Self {
            // Every fifth request to it meets a fault, and falls back.
            small: start(Answer::text(words).tokens(37, 0, 11), "ok x2; status=500; ok x2").await?,
            large: start(Answer::text(words).tokens(1013, 601, 53).lasting(Duration::from_millis(5)), "ok").await?,
            // Answers without usage.
            silent: start(Answer::text(words), "no-usage").await?,
            // A stream of it breaks off in its middle.
            breaking: start(Answer::text(words).tokens(20, 0, 10), "ok; cut-after=3").await?,
        })
    }
}

/// Two priced experts behind a trained router, with a budget.
pub(super) fn alpha(experts: &Experts, bundle: &Path) -> String {
    let [small, large] = [SMALL, LARGE].map(|[input, cached, output]| {
        format!("{{inputPerMillion: \"{input}\", cachedInputPerMillion: \"{cached}\", outputPerMillion: \"{output}\"}}")
    });
    format!(
        "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: alpha}}
spec:
  experts:
    - {{name: small, url: \"{}/v1\", modelName: s, pricing: {small}}}
    - {{name: large, url: \"{}/v1\", modelName: l, pricing: {large}}}
  model: {{bundle: {{uri: \"{}\"}}}}
  policy: {{objective: Quality, baselineExpert: large, fallbackExpert: large}}
  budgets: [{{name: month, amountUsd: \"10000\", period: Month, onExceeded: PreferCheaper}}]
  observability: {{requestLog: {{percent: 100, includeResponses: true}}}}
",
        experts.small.url(),
        experts.large.url(),
        bundle.display()
    )
}

/// Experts that do not add up: without prices, without usage, paid by the hour, with streams that break.
pub(super) fn beta(experts: &Experts) -> String {
    format!(
        "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: beta}}
spec:
  experts:
    - {{name: unpriced, url: \"{}/v1\", modelName: u, capabilities: [Embeddings]}}
    - {{name: own, url: \"{}/v1\", modelName: o, pricing: {{perHour: \"3600\"}}}}
    - {{name: breaking, url: \"{}/v1\", modelName: b, pricing: {{}}}}
    - {{name: nowhere, url: \"http://127.0.0.1:1/v1\", modelName: nowhere, pricing: {{}}}}
  policy: {{fallbackExpert: own}}
",
        experts.silent.url(),
        experts.large.url(),
        experts.breaking.url()
    )
}

/// Every kind of question there is for alpha: for the one expert and the other, streamed and whole, with the usage shown and not.
pub(super) fn question(number: u32) -> Value {
    let text = if number.is_multiple_of(2) { format!("What is {number} plus 3?") } else { law(number as usize) };
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
    if number.is_multiple_of(3) {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    if number % 6 == 5 {
        body["model"] = json!("large");
    }
    body
}

/// What goes wrong at beta, each round alike.
pub(super) async fn vary(router: &Router, number: u32) -> Result<()> {
    let (model, stream) = [("unpriced", false), ("own", false), ("breaking", true), ("breaking", true), ("auto", true), ("nowhere", false)]
        [number as usize % 6];
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]});
    let response = client()?.post(format!("{}/chat/completions", router.base_url())).json(&body).send().await?;
    // One of them breaks off; that is its purpose.
    let _ = response.bytes().await;
    Ok(())
}
