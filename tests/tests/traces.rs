//! A request can be followed: spans of a real router reach a real OpenTelemetry Collector, hang together from the client to the expert,
//! and say what the conventions ask for.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use replay::{Answer, Options, Received, Replay, Script};
use serde_json::{Value, json};
use sidecar::trace::semantic::{ATTRIBUTES, SCORE};
use tests::{
    Router, client,
    collector::{Collector, Span},
    eventually, law, lexical_bundle,
};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");
const PATIENCE: Duration = Duration::from_secs(60);

/// What the client's own span would be.
const CLIENT_SPAN: &str = "00f067aa0ba902b7";
const KEY: &str = "k-0123456789";
/// What must not be seen anywhere but in prompts and in headers.
const SECRETS: [&str; 3] = [KEY, "the-collectors-token", "Explain the doctrine"];

/// Two experts of a trained router.
struct Experts {
    small: Replay,
    large: Replay,
    folder: tempfile::TempDir,
}

impl Experts {
    async fn start() -> Result<Self> {
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

    fn manifest(&self) -> String {
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

    fn router(&self, collector: &str, more: &[(&str, &str)]) -> Result<Router> {
        self.router_of(&self.manifest(), collector, more)
    }

    fn router_of(&self, manifest: &str, collector: &str, more: &[(&str, &str)]) -> Result<Router> {
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
struct Asker {
    base_url: String,
    last: u128,
}

impl Asker {
    fn new(router: &Router) -> Self {
        Self { base_url: router.base_url(), last: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0000_0000 }
    }

    fn request(&mut self, path: &str, flags: &str, body: &Value) -> Result<(String, reqwest::RequestBuilder)> {
        self.last += 1;
        let trace = format!("{:032x}", self.last);
        let request = client()?.post(format!("{}{path}", self.base_url)).bearer_auth(KEY).header("user-agent", "sdk/1").json(body);
        let request = request.header("traceparent", format!("00-{trace}-{CLIENT_SPAN}-{flags}")).header("tracestate", "vendor=1");
        Ok((trace, request))
    }

    async fn ask(&mut self, path: &str, body: &Value) -> Result<String> {
        let (trace, request) = self.request(path, "01", body)?;
        request.send().await?.bytes().await?;
        Ok(trace)
    }
}

fn chat(model: &str, text: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
}

/// The spans of one kind.
fn of(spans: &[Span], kind: u64) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind).collect()
}

const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// Every attribute is one of the table's, of its type and on its kind of span, and none that has to be there is missing.
fn as_documented(span: &Span, seen: &mut BTreeSet<&'static str>) {
    let letter = [' ', 'D', 'S', 'C'][usize::try_from(span.kind).expect("a kind is a small number")];
    for key in span.attributes.keys() {
        let known = ATTRIBUTES.iter().find(|attribute| attribute.key == key || (attribute.key == SCORE && key.starts_with(SCORE)));
        let Some(known) = known.filter(|attribute| attribute.on.contains(letter)) else { panic!("{key} on {}", span.name) };
        assert_eq!(span.kind_of(key), Some(known.kind), "{key} on {}", span.name);
        seen.insert(known.key);
    }
    for attribute in ATTRIBUTES.iter().filter(|attribute| attribute.always && attribute.on.contains(letter)) {
        assert!(span.attributes.contains_key(attribute.key), "{} is not on {}", attribute.key, span.name);
    }
    assert!(span.time.0 > 0 && span.time.0 <= span.time.1, "{span:?}");
}

/// `traceparent` as an expert got it: trace, span, flags.
fn told(received: &Received) -> (String, String, String) {
    let parts: Vec<_> = received.header("traceparent").split('-').map(str::to_owned).collect();
    assert_eq!(parts.len(), 4, "{parts:?}");
    (parts[1].clone(), parts[2].clone(), parts[3].clone())
}

async fn follows(collector: &Collector, endpoint: &str, more: &[(&str, &str)]) -> Result<()> {
    let experts = Experts::start().await?;
    let router = experts.router(endpoint, more)?;
    let mut asker = Asker::new(&router);
    let mut seen = BTreeSet::new();

    // Whole, routed by score.
    let mut body = chat("auto", &law(3), false);
    for (name, value) in [("temperature", 0.5), ("top_p", 0.9), ("frequency_penalty", 0.1), ("presence_penalty", 0.2), ("top_k", 4.0)] {
        body[name] = json!(value);
    }
    (body["seed"], body["max_tokens"], body["n"]) = (json!(7), json!(99), json!(2));
    let trace = asker.ask("/chat/completions", &body).await?;
    let spans = collector.trace(&trace, 3).await?;
    let (server, decide, call) = (of(&spans, SERVER)[0], of(&spans, INTERNAL)[0], of(&spans, CLIENT)[0]);
    assert_eq!((spans.len(), server.parent.as_str(), server.name.as_str()), (3, CLIENT_SPAN, "POST /v1/chat/completions"));
    assert_eq!((&decide.parent, decide.name.as_str()), (&server.id, "decide"));
    assert_eq!((&call.parent, call.name.as_str()), (&server.id, "chat l-model"));
    assert_eq!((server.flags, call.flags), (0x301, 0x101), "only the client's span is elsewhere");
    assert!(
        spans.iter().all(|span| span.state == "vendor=1" && !span.failed && span.time.1 <= server.time.1 && span.time.0 >= server.time.0)
    );
    let asked = experts.large.requests().pop().context("a request")?;
    assert_eq!(told(&asked), (trace.clone(), call.id.clone(), "01".into()), "the expert's spans hang on ours");
    assert_eq!(asked.header("tracestate"), "vendor=1");
    for (key, value) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("large")),
        ("gen_ai.request.model", json!("l-model")),
        ("gen_ai.response.model", json!("l-model")),
        ("gen_ai.request.max_tokens", json!(99)),
        ("gen_ai.request.seed", json!(7)),
        ("gen_ai.request.temperature", json!(0.5)),
        ("gen_ai.request.choice.count", json!(2)),
        ("gen_ai.usage.input_tokens", json!(1013)),
        ("gen_ai.usage.output_tokens", json!(53)),
        ("gen_ai.usage.cache_read.input_tokens", json!(601)),
        ("gen_ai.response.finish_reasons", json!({"values": [{"stringValue": "stop"}]})),
        ("server.address", json!("127.0.0.1")),
        ("http.response.status_code", json!(200)),
        ("service.name", json!("expert-router")),
    ] {
        assert_eq!(call.get(key), value, "{key}");
    }
    let cost = (412.0 * 300.0 + 601.0 * 100.0 + 53.0 * 900.0) / 1e6;
    assert!((server.get("expert_router.cost_usd").as_f64().context("a cost")? - cost).abs() < 1e-9);
    assert_eq!(server.get("gen_ai.request.model"), json!("auto"));
    assert_eq!(server.get("expert_router.client"), json!("team-a"));
    assert_eq!((server.get("expert_router.reason"), server.get("expert_router.expert")), (json!("quality"), json!("large")));
    let score = |expert: &str| decide.get(&format!("{SCORE}{expert}")).as_f64().expect("a score for each expert");
    assert!(score("large") > score("small"));
    spans.iter().for_each(|span| as_documented(span, &mut seen));

    // Streamed.
    let trace = asker.ask("/chat/completions", &chat("auto", "What is 2 plus 3?", true)).await?;
    let spans = collector.trace(&trace, 3).await?;
    let call = of(&spans, CLIENT)[0];
    assert_eq!((call.get("gen_ai.request.stream"), call.get("gen_ai.usage.output_tokens")), (json!(true), json!(11)));
    assert_eq!(call.get("gen_ai.response.finish_reasons"), json!({"values": [{"stringValue": "stop"}]}));
    assert!(call.get("gen_ai.response.time_to_first_chunk").as_f64().is_some_and(|seconds| seconds > 0.0));
    spans.iter().for_each(|span| as_documented(span, &mut seen));

    // One expert fails, the next steps in: both attempts are seen, and the second is told of a span of its own.
    experts.small.set_script(Script::parse("status=500")?);
    let trace = asker.ask("/chat/completions", &chat("auto", "What is 4 plus 3?", false)).await?;
    let spans = collector.trace(&trace, 4).await?;
    let (server, calls) = (of(&spans, SERVER)[0], of(&spans, CLIENT));
    let results: Vec<_> = calls.iter().map(|call| (call.get("expert_router.expert"), call.get("error.type"), call.failed)).collect();
    assert_eq!(results, [(json!("small"), json!("500"), true), (json!("large"), Value::Null, false)]);
    assert_eq!((server.failed, server.get("expert_router.attempts")), (false, json!(2)));
    assert_eq!(calls[1].get("http.request.resend_count"), json!(1));
    assert!(calls[0].get("gen_ai.usage.input_tokens").is_null() && !calls[1].get("gen_ai.usage.input_tokens").is_null());
    let asked = [experts.small.requests().pop().context("one")?, experts.large.requests().pop().context("two")?];
    assert_eq!(asked.map(|asked| told(&asked).1), [calls[0].id.clone(), calls[1].id.clone()]);
    spans.iter().for_each(|span| as_documented(span, &mut seen));

    // The answer breaks off under way; then the other endpoints.
    experts.large.set_script(Script::parse("cut-after=2")?);
    let (trace, request) = asker.request("/chat/completions", "01", &chat("large", "Hello", true))?;
    let _ = request.send().await?.bytes().await;
    let spans = collector.trace(&trace, 3).await?;
    let (server, call) = (of(&spans, SERVER)[0], of(&spans, CLIENT)[0]);
    assert_eq!((server.failed, server.get("error.type"), call.failed), (true, json!("upstream_cut"), true));
    spans.iter().for_each(|span| as_documented(span, &mut seen));
    for (path, body, name) in [
        ("/embeddings", json!({"model": "small", "input": "text"}), "embeddings s-model"),
        ("/completions", json!({"model": "small", "prompt": "text"}), "text_completion s-model"),
        ("/responses", json!({"model": "small", "input": "text"}), "chat s-model"),
    ] {
        let trace = asker.ask(path, &body).await?;
        let spans = collector.trace(&trace, 3).await?;
        assert_eq!(of(&spans, CLIENT)[0].name, name);
        assert_eq!(of(&spans, SERVER)[0].name, format!("POST /v1{path}"));
        spans.iter().for_each(|span| as_documented(span, &mut seen));
    }

    // Refused: the client's mistake is not the server's error. And a path that is none of ours.
    for (path, body, name) in
        [("/chat/completions", chat("no-such", "Hello", false), "POST /v1/chat/completions"), ("/nothing", json!({}), "POST")]
    {
        let trace = asker.ask(path, &body).await?;
        let spans = collector.trace(&trace, 1).await?;
        assert_eq!((spans[0].name.as_str(), spans[0].failed), (name, false));
        assert_eq!(spans[0].get("http.response.status_code"), json!(404));
        spans.iter().for_each(|span| as_documented(span, &mut seen));
    }

    // No model: there is no score, and why is said.
    let manifest = experts.manifest().lines().filter(|line| !line.contains("  model: ")).fold(String::new(), |all, line| all + line + "\n");
    let mut scoreless = experts.router_of(&manifest, endpoint, more)?;
    let trace = Asker { base_url: scoreless.base_url(), last: 1 }.ask("/chat/completions", &chat("auto", "Hello", false)).await?;
    let spans = collector.trace(&trace, 3).await?;
    assert_eq!(of(&spans, INTERNAL)[0].get("expert_router.score_failure"), json!("no_model"));
    spans.iter().for_each(|span| as_documented(span, &mut seen));
    scoreless.stop().await?;
    let of_both = collector.spans().len();

    let missing: Vec<_> = ATTRIBUTES.iter().map(|attribute| attribute.key).filter(|key| !seen.contains(key)).collect();
    assert!(missing.is_empty(), "attributes nobody saw: {missing:?}");
    let all = format!("{:?}{}", collector.spans(), router.log());
    for secret in SECRETS {
        assert!(!all.contains(secret), "{secret}");
    }
    let spans = (of_both - spans.len()) as f64;
    eventually("all are counted", PATIENCE, async || {
        Ok(router.metrics().await?.sum("expert_router_trace_spans_total", &[("result", "sent")]) == spans)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_followed_from_client_to_expert_by_grpc() -> Result<()> {
    let collector = Collector::start().await?;
    follows(&collector, collector.grpc(), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_followed_from_client_to_expert_by_http() -> Result<()> {
    let collector = Collector::start().await?;
    follows(&collector, collector.http(), &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_may_be_compressed_and_what_is_said_of_the_process_comes_along() -> Result<()> {
    let (collector, experts) = (Collector::start().await?, Experts::start().await?);
    let more = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_SERVICE_NAME", "shop-router"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,k8s.namespace.name=shop"),
    ];
    let router = experts.router(collector.grpc(), &more)?;
    let trace = Asker::new(&router).ask("/chat/completions", &chat("large", "Hello", false)).await?;
    let span = collector.trace(&trace, 3).await?.remove(0);
    let said = ["service.name", "deployment.environment.name", "k8s.namespace.name"].map(|key| span.get(key));
    assert_eq!(said, [json!("shop-router"), json!("test"), json!("shop")]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_decision_holds_and_the_ratio_decides_where_there_is_none() -> Result<()> {
    let (collector, experts) = (Collector::start().await?, Experts::start().await?);
    let never = [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    let router = experts.router(collector.http(), &never)?;
    let mut asker = Asker::new(&router);
    let body = chat("large", "Hello", false);
    let last = || experts.large.requests().pop().context("a request");

    // The trace begins here and is not recorded: the expert is told so.
    let request = client()?.post(format!("{}/chat/completions", router.base_url())).bearer_auth(KEY).header("tracestate", "of=nobody");
    request.json(&body).send().await?.bytes().await?;
    let (begun, _, flags) = told(&last()?);
    assert_eq!((flags.as_str(), last()?.header("tracestate")), ("00", ""));
    // The caller does not record: its header goes on as it came.
    let (unrecorded, request) = asker.request("/chat/completions", "00", &body)?;
    request.send().await?.bytes().await?;
    assert_eq!(last()?.header("traceparent"), format!("00-{unrecorded}-{CLIENT_SPAN}-00"));
    // The caller records: so do we.
    let recorded = asker.ask("/chat/completions", &body).await?;
    assert_eq!(collector.trace(&recorded, 3).await?.len(), 3);
    assert!(collector.spans().iter().all(|span| span.trace == recorded), "{begun} and {unrecorded} are not recorded");
    // All three are in the log, under their traces.
    eventually("the log has them", PATIENCE, async || {
        let log = router.log();
        Ok([&begun, &unrecorded, &recorded].iter().all(|trace| log.contains(&format!("\"trace_id\":\"{trace}\""))))
    })
    .await?;

    // Without a caller's word, by the ratio: here all.
    let router = experts.router(collector.http(), &[("OTEL_TRACES_SAMPLER", "always_on")])?;
    client()?.post(format!("{}/chat/completions", router.base_url())).bearer_auth(KEY).json(&body).send().await?.bytes().await?;
    let (begun, parent, flags) = told(&last()?);
    let spans = collector.trace(&begun, 3).await?;
    assert_eq!((flags.as_str(), of(&spans, SERVER)[0].parent.as_str(), of(&spans, CLIENT)[0].id.as_str()), ("01", "", parent.as_str()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_at_the_end_is_sent_and_so_is_who_went_first() -> Result<()> {
    let (collector, experts) = (Collector::start().await?, Experts::start().await?);
    // Nothing would be sent for ten minutes.
    let mut router = experts.router(collector.http(), &[("OTEL_BSP_SCHEDULE_DELAY", "600000")])?;
    let mut asker = Asker::new(&router);
    let answered = asker.ask("/chat/completions", &chat("large", "Hello", false)).await?;
    experts.large.set_script(Script::parse("hang")?);
    let (left, request) = asker.request("/chat/completions", "01", &chat("large", "Hello", false))?;
    let received = experts.large.totals().received;
    let waiting = tokio::spawn(request.send());
    eventually("the expert has it", PATIENCE, async || Ok(experts.large.totals().received > received)).await?;
    waiting.abort();
    eventually("both are metered", PATIENCE, async || {
        Ok(router.metrics().await?.sum("expert_router_requests_total", &[("endpoint", "chat_completions")]) == 2.0)
    })
    .await?;
    assert!(collector.spans().is_empty());
    router.stop().await?;
    assert_eq!(collector.trace(&answered, 3).await?.len(), 3);
    let spans = collector.trace(&left, 3).await?;
    let call = of(&spans, CLIENT)[0];
    assert_eq!(of(&spans, SERVER)[0].get("expert_router.outcome"), json!("client_gone"));
    assert_eq!((call.get("expert_router.attempt.result"), call.failed), (json!("cancelled"), false));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() -> Result<()> {
    let experts = Experts::start().await?;
    let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")];
    let mut router = experts.router("http://127.0.0.1:1", &small)?;
    let mut asker = Asker::new(&router);
    for _ in 0..40 {
        let (_, request) = asker.request("/chat/completions", "01", &chat("large", "Hello", false))?;
        ensure!(request.send().await?.status() == 200);
    }
    eventually("losses are counted", PATIENCE, async || {
        Ok(router.metrics().await?.sum("expert_router_trace_spans_total", &[("result", "dropped")]) >= 100.0)
    })
    .await?;
    let told = router.log().lines().filter(|line| line.contains("spans do not reach the collector")).count();
    assert_eq!(told, 1, "{}", router.log());
    let begun = Instant::now();
    router.stop().await?;
    // No timing of ours, only that the end is not that of the patience with collectors.
    assert!(begun.elapsed() < Duration::from_secs(30));
    for secret in SECRETS {
        assert!(!router.log().contains(secret), "{secret}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_is_traced_and_contexts_pass() -> Result<()> {
    let experts = Experts::start().await?;
    let router = experts.router("", &[])?;
    let (trace, request) = Asker::new(&router).request("/chat/completions", "01", &chat("large", "Hello", false))?;
    request.send().await?.bytes().await?;
    let asked = experts.large.requests().pop().context("a request")?;
    assert_eq!(asked.header("traceparent"), format!("00-{trace}-{CLIENT_SPAN}-01"));
    assert_eq!(router.metrics().await?.sum("expert_router_trace_spans_total", &[]), 0.0);
    client()?.post(format!("{}/chat/completions", router.base_url())).bearer_auth(KEY).json(&chat("large", "Hi", false)).send().await?;
    assert_eq!(experts.large.requests().pop().context("a request")?.header("traceparent"), "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_may_say_where_traces_go() -> Result<()> {
    let (collector, experts) = (Collector::start().await?, Experts::start().await?);
    let tracing = format!("{{otlpEndpoint: \"{}\", protocol: Grpc, sampleRatio: \"1\"}}", collector.grpc());
    let manifest = format!("{}  observability: {{tracing: {tracing}}}\n", experts.manifest());
    let router = experts.router_of(&manifest, "", &[])?;
    client()?.post(format!("{}/chat/completions", router.base_url())).bearer_auth(KEY).json(&chat("large", "Hi", false)).send().await?;
    let asked = experts.large.requests().pop().context("a request")?;
    let spans = collector.trace(&told(&asked).0, 3).await?;
    assert_eq!(of(&spans, CLIENT)[0].id, told(&asked).1);
    Ok(())
}
