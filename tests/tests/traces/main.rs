//! A request can be followed: spans of a real router reach a real OpenTelemetry Collector, hang together from the client to the expert,
//! and say what the conventions ask for.

mod followed;
mod scene;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use replay::Script;
use serde_json::json;
use tests::{client, collector::Collector, eventually};

use scene::{Asker, CLIENT, CLIENT_SPAN, Experts, KEY, SECRETS, SERVER, chat, of, told};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");
const PATIENCE: Duration = Duration::from_secs(60);

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
