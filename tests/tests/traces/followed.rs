//! One walk through every way a request can go, each leg with the spans it must leave.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use replay::Script;
use serde_json::{Value, json};
use sidecar::trace::semantic::{ATTRIBUTES, SCORE};
use tests::{
    Router,
    collector::{Collector, Span},
    eventually, law,
};

use super::{
    PATIENCE,
    scene::{Asker, CLIENT, CLIENT_SPAN, Experts, INTERNAL, SECRETS, SERVER, chat, of, told},
};

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

/// What the legs share.
struct Walk<'a> {
    collector: &'a Collector,
    experts: Experts,
    asker: Asker,
    seen: BTreeSet<&'static str>,
}

impl Walk<'_> {
    fn documented(&mut self, spans: &[Span]) {
        spans.iter().for_each(|span| as_documented(span, &mut self.seen));
    }

    /// Whole, routed by score: three spans under the client's, and the expert is told of the last.
    async fn routed_by_score(&mut self) -> Result<()> {
        let trace = self.asker.ask("/chat/completions", &with_parameters()).await?;
        let spans = self.collector.trace(&trace, 3).await?;
        let (server, decide, call) = (of(&spans, SERVER)[0], of(&spans, INTERNAL)[0], of(&spans, CLIENT)[0]);
        assert_eq!((spans.len(), server.parent.as_str(), server.name.as_str()), (3, CLIENT_SPAN, "POST /v1/chat/completions"));
        assert_eq!((&decide.parent, decide.name.as_str()), (&server.id, "decide"));
        assert_eq!((&call.parent, call.name.as_str()), (&server.id, "chat l-model"));
        assert_eq!((server.flags, call.flags), (0x301, 0x101), "only the client's span is elsewhere");
        assert!(
            spans
                .iter()
                .all(|span| span.state == "vendor=1" && !span.failed && span.time.1 <= server.time.1 && span.time.0 >= server.time.0)
        );
        let asked = self.experts.large.requests().pop().context("a request")?;
        assert_eq!(told(&asked), (trace.clone(), call.id.clone(), "01".into()), "the expert's spans hang on ours");
        assert_eq!(asked.header("tracestate"), "vendor=1");
        says_what_was_asked_and_used(call);
        says_what_it_cost_and_why(server, decide)?;
        self.documented(&spans);
        Ok(())
    }

    /// Streamed.
    async fn streamed(&mut self) -> Result<()> {
        let trace = self.asker.ask("/chat/completions", &chat("auto", "What is 2 plus 3?", true)).await?;
        let spans = self.collector.trace(&trace, 3).await?;
        let call = of(&spans, CLIENT)[0];
        assert_eq!((call.get("gen_ai.request.stream"), call.get("gen_ai.usage.output_tokens")), (json!(true), json!(11)));
        assert_eq!(call.get("gen_ai.response.finish_reasons"), json!({"values": [{"stringValue": "stop"}]}));
        assert!(call.get("gen_ai.response.time_to_first_chunk").as_f64().is_some_and(|seconds| seconds > 0.0));
        self.documented(&spans);
        Ok(())
    }

    /// One expert fails, the next steps in: both attempts are seen, and the second is told of a span of its own.
    async fn moved_on(&mut self) -> Result<()> {
        self.experts.small.set_script(Script::parse("status=500")?);
        let trace = self.asker.ask("/chat/completions", &chat("auto", "What is 4 plus 3?", false)).await?;
        let spans = self.collector.trace(&trace, 4).await?;
        let (server, calls) = (of(&spans, SERVER)[0], of(&spans, CLIENT));
        let results: Vec<_> = calls.iter().map(|call| (call.get("expert_router.expert"), call.get("error.type"), call.failed)).collect();
        assert_eq!(results, [(json!("small"), json!("500"), true), (json!("large"), Value::Null, false)]);
        assert_eq!((server.failed, server.get("expert_router.attempts")), (false, json!(2)));
        assert_eq!(calls[1].get("http.request.resend_count"), json!(1));
        assert!(calls[0].get("gen_ai.usage.input_tokens").is_null() && !calls[1].get("gen_ai.usage.input_tokens").is_null());
        let asked = [self.experts.small.requests().pop().context("one")?, self.experts.large.requests().pop().context("two")?];
        assert_eq!(asked.map(|asked| told(&asked).1), [calls[0].id.clone(), calls[1].id.clone()]);
        self.documented(&spans);
        Ok(())
    }

    /// The answer breaks off under way.
    async fn broken_off(&mut self) -> Result<()> {
        self.experts.large.set_script(Script::parse("cut-after=2")?);
        let (trace, request) = self.asker.request("/chat/completions", "01", &chat("large", "Hello", true))?;
        let _ = request.send().await?.bytes().await;
        let spans = self.collector.trace(&trace, 3).await?;
        let (server, call) = (of(&spans, SERVER)[0], of(&spans, CLIENT)[0]);
        assert_eq!((server.failed, server.get("error.type"), call.failed), (true, json!("upstream_cut"), true));
        self.documented(&spans);
        Ok(())
    }

    /// The other endpoints have names of their own.
    async fn other_endpoints(&mut self) -> Result<()> {
        for (path, body, name) in [
            ("/embeddings", json!({"model": "small", "input": "text"}), "embeddings s-model"),
            ("/completions", json!({"model": "small", "prompt": "text"}), "text_completion s-model"),
            ("/responses", json!({"model": "small", "input": "text"}), "chat s-model"),
        ] {
            let trace = self.asker.ask(path, &body).await?;
            let spans = self.collector.trace(&trace, 3).await?;
            assert_eq!(of(&spans, CLIENT)[0].name, name);
            assert_eq!(of(&spans, SERVER)[0].name, format!("POST /v1{path}"));
            self.documented(&spans);
        }
        Ok(())
    }

    /// Refused: the client's mistake is not the server's error. And a path that is none of ours.
    async fn refused(&mut self) -> Result<()> {
        for (path, body, name) in
            [("/chat/completions", chat("no-such", "Hello", false), "POST /v1/chat/completions"), ("/nothing", json!({}), "POST")]
        {
            let trace = self.asker.ask(path, &body).await?;
            let spans = self.collector.trace(&trace, 1).await?;
            assert_eq!((spans[0].name.as_str(), spans[0].failed), (name, false));
            assert_eq!(spans[0].get("http.response.status_code"), json!(404));
            self.documented(&spans);
        }
        Ok(())
    }

    /// No model: there is no score, and why is said.
    async fn without_a_model(&mut self, endpoint: &str, more: &[(&str, &str)]) -> Result<()> {
        let whole = self.experts.manifest();
        let manifest = whole.lines().filter(|line| !line.contains("  model: ")).fold(String::new(), |all, line| all + line + "\n");
        let mut scoreless = self.experts.router_of(&manifest, endpoint, more)?;
        let trace = Asker { base_url: scoreless.base_url(), last: 1 }.ask("/chat/completions", &chat("auto", "Hello", false)).await?;
        let spans = self.collector.trace(&trace, 3).await?;
        assert_eq!(of(&spans, INTERNAL)[0].get("expert_router.score_failure"), json!("no_model"));
        self.documented(&spans);
        scoreless.stop().await
    }
}

/// A question with every parameter that a span tells of.
fn with_parameters() -> Value {
    let mut body = chat("auto", &law(3), false);
    for (name, value) in [("temperature", 0.5), ("top_p", 0.9), ("frequency_penalty", 0.1), ("presence_penalty", 0.2), ("top_k", 4.0)] {
        body[name] = json!(value);
    }
    (body["seed"], body["max_tokens"], body["n"]) = (json!(7), json!(99), json!(2));
    body
}

/// The attributes of a call by the conventions.
fn says_what_was_asked_and_used(call: &Span) {
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
}

/// And ours: cost, client, reason, scores.
fn says_what_it_cost_and_why(server: &Span, decide: &Span) -> Result<()> {
    let cost = (412.0 * 300.0 + 601.0 * 100.0 + 53.0 * 900.0) / 1e6;
    assert!((server.get("expert_router.cost_usd").as_f64().context("a cost")? - cost).abs() < 1e-9);
    assert_eq!(server.get("gen_ai.request.model"), json!("auto"));
    assert_eq!(server.get("expert_router.client"), json!("team-a"));
    assert_eq!((server.get("expert_router.reason"), server.get("expert_router.expert")), (json!("quality"), json!("large")));
    let score = |expert: &str| decide.get(&format!("{SCORE}{expert}")).as_f64().expect("a score for each expert");
    assert!(score("large") > score("small"));
    Ok(())
}

async fn follows(collector: &Collector, endpoint: &str, more: &[(&str, &str)]) -> Result<()> {
    let experts = Experts::start().await?;
    let router = experts.router(endpoint, more)?;
    let mut walk = Walk { collector, experts, asker: Asker::new(&router), seen: BTreeSet::new() };
    walk.routed_by_score().await?;
    walk.streamed().await?;
    walk.moved_on().await?;
    walk.broken_off().await?;
    walk.other_endpoints().await?;
    walk.refused().await?;
    let by_the_router = collector.spans().len();
    walk.without_a_model(endpoint, more).await?;
    let missing: Vec<_> = ATTRIBUTES.iter().map(|attribute| attribute.key).filter(|key| !walk.seen.contains(key)).collect();
    assert!(missing.is_empty(), "attributes nobody saw: {missing:?}");
    nothing_secret_and_all_counted(collector, &router, by_the_router).await
}

/// No secret is in a span or in the log, and the router counted as many spans as were sent.
async fn nothing_secret_and_all_counted(collector: &Collector, router: &Router, sent: usize) -> Result<()> {
    let all = format!("{:?}{}", collector.spans(), router.log());
    for secret in SECRETS {
        assert!(!all.contains(secret), "{secret}");
    }
    eventually("all are counted", PATIENCE, async || {
        Ok(router.metrics().await?.sum("expert_router_trace_spans_total", &[("result", "sent")]) == sent as f64)
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
