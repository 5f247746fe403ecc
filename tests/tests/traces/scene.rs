//! Who takes part: two experts behind a trained router, and a client that asks under traces of its own.

use std::fs;

use anyhow::{Context, Result};
use replay::{Answer, Options, Received, Replay, Script};
use serde_json::{Value, json};
use tests::{Router, client, collector::Span, lexical_bundle};

use super::EXPERT_ROUTER;

/// What the client's own span would be.
pub(super) const CLIENT_SPAN: &str = "00f067aa0ba902b7";
pub(super) const KEY: &str = "k-0123456789";
/// What must not be seen anywhere but in prompts and in headers.
pub(super) const SECRETS: [&str; 3] = [KEY, "the-collectors-token", "Explain the doctrine"];

/// Two experts of a trained router.
pub(super) struct Experts {
    pub(super) small: Replay,
    pub(super) large: Replay,
    pub(super) folder: tempfile::TempDir,
}

impl Experts {
    pub(super) async fn start() -> Result<Self> {
        let start = async |answer: Answer, script: &str| -> Result<Replay> {
            let options = Options { fallback: answer, script: Script::parse(script)?, keep_requests: 100, ..Options::default() };
            Ok(Replay::start(options).await?)
        };
        let folder = tempfile::tempdir()?;
        lexical_bundle(folder.path())?;
        fs::create_dir(folder.path().join("clients"))?;
        fs::write(folder.path().join("clients/keys"), format!("team-a:{KEY}\n"))?;
        Ok(Self {
            small: start(Answer::text("forty two").tokens(37, 12, 11), "ok").await?,
            large: start(Answer::text("one two three four five").tokens(1013, 601, 53), "ok").await?,
            folder,
        })
    }

    pub(super) fn manifest(&self) -> String {
        let price = "{inputPerMillion: \"300\", cachedInputPerMillion: \"100\", outputPerMillion: \"900\"}";
        format!(
            "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: traced}}
spec:
  experts:
    - {{name: small, url: \"{}/v1\", modelName: s-model, pricing: {price}, capabilities: [Embeddings]}}
    - {{name: large, url: \"{}/v1\", modelName: l-model, pricing: {price}}}
  model: {{bundle: {{uri: \"{}\"}}}}
  policy: {{objective: Quality, baselineExpert: large, fallbackExpert: large}}
  clientKeys: {{secretRef: {{name: clients, key: keys}}}}
",
            self.small.url(),
            self.large.url(),
            self.folder.path().join("bundle").display()
        )
    }

    pub(super) fn router(&self, collector: &str, more: &[(&str, &str)]) -> Result<Router> {
        self.router_of(&self.manifest(), collector, more)
    }

    pub(super) fn router_of(&self, manifest: &str, collector: &str, more: &[(&str, &str)]) -> Result<Router> {
        let secrets = self.folder.path().to_str().context("a path")?;
        let own = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20the-collectors-token"),
            ("EXPERT_ROUTER_SECRETS_DIR", secrets),
        ];
        let environment: Vec<_> = own.iter().chain(more).copied().collect();
        Router::start_in(EXPERT_ROUTER, manifest, &environment)
    }
}

/// Asks under a trace of its own, and gives the trace.
pub(super) struct Asker {
    pub(super) base_url: String,
    pub(super) last: u128,
}

impl Asker {
    pub(super) fn new(router: &Router) -> Self {
        Self { base_url: router.base_url(), last: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0000_0000 }
    }

    pub(super) fn request(&mut self, path: &str, flags: &str, body: &Value) -> Result<(String, reqwest::RequestBuilder)> {
        self.last += 1;
        let trace = format!("{:032x}", self.last);
        let request = client()?.post(format!("{}{path}", self.base_url)).bearer_auth(KEY).header("user-agent", "sdk/1").json(body);
        let request = request.header("traceparent", format!("00-{trace}-{CLIENT_SPAN}-{flags}")).header("tracestate", "vendor=1");
        Ok((trace, request))
    }

    pub(super) async fn ask(&mut self, path: &str, body: &Value) -> Result<String> {
        let (trace, request) = self.request(path, "01", body)?;
        request.send().await?.bytes().await?;
        Ok(trace)
    }
}

pub(super) fn chat(model: &str, text: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
}

/// The spans of one kind.
pub(super) fn of(spans: &[Span], kind: u64) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind).collect()
}

pub(super) const INTERNAL: u64 = 1;
pub(super) const SERVER: u64 = 2;
pub(super) const CLIENT: u64 = 3;

/// `traceparent` as an expert got it: trace, span, flags.
pub(super) fn told(received: &Received) -> (String, String, String) {
    let parts: Vec<_> = received.header("traceparent").split('-').map(str::to_owned).collect();
    assert_eq!(parts.len(), 4, "{parts:?}");
    (parts[1].clone(), parts[2].clone(), parts[3].clone())
}
