//! A request's record and notes to spans, in the words of OpenTelemetry's conventions (HTTP, and GenAI 1.42) and our own.
//!
//! One SERVER span for what the client saw, one INTERNAL span for the decision, and a CLIENT span for each request to an expert, those
//! that failed included. Tokens stand on the CLIENT span alone, so that whoever adds them up counts an answer once.

mod table;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use routing::Reason;

use super::{
    context::SpanId,
    notes::{Attempt, Decided, Notes, PARAMETERS},
    protocol::{AnyValue, KeyValue, List, Span, SpanKind, Status, StatusCode, Value},
};
use crate::{
    failure::{Outcome, Side},
    meter::Record,
    metrics::{AttemptResult, EndpointLabel, Operation},
    state::State,
};

pub use table::{ATTRIBUTES, Attribute, SCORE, markdown};

/// The conventions that names are from.
pub(super) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/gen-ai/1.42.0";

/// The names of [`PARAMETERS`], in their order.
const PARAMETER_NAMES: [&str; PARAMETERS.len()] = [
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.top_k",
    "gen_ai.request.frequency_penalty",
    "gen_ai.request.presence_penalty",
    "gen_ai.request.seed",
];

/// Everything known of a request at its end.
pub(super) struct Ended<'a> {
    pub(super) notes: &'a Notes,
    pub(super) record: &'a Record<'a>,
    pub(super) state: &'a State,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
}

/// The request's spans, the outermost first.
pub(super) fn spans(ended: &Ended<'_>) -> Vec<Span> {
    let clock = Clock::now();
    let mut spans = vec![server(ended, &clock)];
    if let Some(decision) = &ended.notes.decision {
        spans.push(decide(ended, decision, &clock));
    }
    for (number, attempt) in ended.notes.attempts.iter().enumerate() {
        spans.push(client(ended, number, attempt, &clock));
    }
    spans
}

/// Turns the process's time into that of the world: one offset for all spans of a request, so that they fit into each other.
struct Clock {
    now: Instant,
    unix_nanos: u64,
}

impl Clock {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now: Instant::now(), unix_nanos: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX) }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let ago = u64::try_from(self.now.saturating_duration_since(at).as_nanos()).unwrap_or(u64::MAX);
        self.unix_nanos.saturating_sub(ago)
    }
}

/// What the client saw.
fn server(ended: &Ended<'_>, clock: &Clock) -> Span {
    let Ended { notes, record, state, scheme } = *ended;
    let mut attributes = Attributes::default();
    let route = route(record.endpoint);
    let method = method(&notes.method);
    attributes.text("http.request.method", method);
    attributes.some_text("http.route", route);
    attributes.text("url.path", &notes.path);
    attributes.text("url.scheme", scheme);
    if record.status != 0 {
        attributes.whole("http.response.status_code", u64::from(record.status));
    }
    attributes.text("network.protocol.version", notes.version);
    attributes.some_text("user_agent.original", notes.user_agent.as_deref());
    // A client's mistake is not the server's, by the convention for servers; that the client went is nobody's.
    let failed =
        matches!(record.outcome.side(), Side::Upstream | Side::Router) && (record.status >= 500 || record.outcome == Outcome::UpstreamCut);
    attributes.some_text("error.type", failed.then(|| record.outcome.as_str()));
    attributes.some_text("gen_ai.operation.name", operation(record.endpoint).map(Operation::as_str));
    attributes.some_text("gen_ai.request.model", notes.asked.as_ref().map(|asked| asked.model.as_str()));
    attributes.text("expert_router.router", &state.table.snapshot().router);
    attributes.text("expert_router.revision", &state.table.snapshot().revision);
    attributes.text("expert_router.request_id", record.request_id);
    attributes.text("expert_router.outcome", record.outcome.as_str());
    attributes.some_text("expert_router.client", record.client);
    attributes.some_text("expert_router.expert", record.expert);
    attributes.some_text("expert_router.reason", record.reason.map(Reason::as_str));
    attributes.whole("expert_router.attempts", u64::from(record.attempts));
    attributes.some_number("expert_router.read_seconds", notes.read.map(|read| read.as_secs_f64()));
    attributes.some_number("expert_router.cost_usd", record.cost_usd());
    attributes.some_number("expert_router.baseline_cost_usd", record.baseline_usd());
    if let Some(money) = record.money {
        attributes.truth("expert_router.usage_estimated", money.estimated);
    }
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let parent = notes.parent.map(|parent| parent.span);
    let mut span = Part { notes, own: notes.own, parent, kind: SpanKind::Server, name, failed }.span(attributes);
    span.start_time_unix_nano = clock.nanos(record.started);
    span.end_time_unix_nano = clock.nanos(record.started + record.duration);
    span
}

/// Parsed request to decision, the model's score included.
fn decide(ended: &Ended<'_>, decision: &Decided, clock: &Clock) -> Span {
    let Ended { notes, record, state, .. } = *ended;
    let mut attributes = Attributes::default();
    attributes.some_text("expert_router.reason", record.reason.map(Reason::as_str));
    attributes.some_text("expert_router.chosen", record.chosen);
    attributes.whole("expert_router.prompt_tokens", decision.prompt_tokens);
    attributes.some_number("expert_router.predicted_cost_usd", decision.predicted_cost_usd);
    match &decision.scores {
        None => {}
        Some(Err(failure)) => attributes.text("expert_router.score_failure", failure.as_str()),
        Some(Ok(scores)) => {
            for (expert, score) in state.experts.iter().zip(&scores.quality).filter(|(_, score)| score.is_finite()) {
                attributes.number(&format!("{SCORE}{}", expert.name), f64::from(*score));
            }
        }
    }
    let timing = record.timing.unwrap_or_default();
    let phases = [("tokenize", timing.tokenize), ("queue", timing.queue), ("encode", timing.encode), ("choose", timing.choose)];
    for (phase, took) in phases {
        attributes.number(&format!("expert_router.phase.{phase}_seconds"), took.as_secs_f64());
    }
    let part =
        Part { notes, own: SpanId::fresh(), parent: Some(notes.own), kind: SpanKind::Internal, name: "decide".into(), failed: false };
    let mut span = part.span(attributes);
    span.end_time_unix_nano = clock.nanos(decision.ended);
    span.start_time_unix_nano = span.end_time_unix_nano.saturating_sub(u64::try_from(timing.total.as_nanos()).unwrap_or(0));
    span
}

/// A request to an expert.
fn client(ended: &Ended<'_>, number: usize, attempt: &Attempt, clock: &Clock) -> Span {
    let Ended { notes, record, state, .. } = *ended;
    let expert = &state.experts[attempt.expert];
    let model = &state.table.experts()[attempt.expert].model_name;
    let operation = operation(record.endpoint).unwrap_or(Operation::Chat).as_str();
    let answering = attempt.ended.is_none() && attempt.result.is_some();
    let result = attempt.result.unwrap_or(AttemptResult::Cancelled);
    let error = match attempt.status {
        Some(status) if status >= 400 => Some(status.to_string()),
        _ if !matches!(result, AttemptResult::Ok | AttemptResult::Cancelled) => Some(result.as_str().to_owned()),
        _ if answering && record.outcome == Outcome::UpstreamCut => Some(record.outcome.as_str().to_owned()),
        _ => None,
    };
    let mut attributes = Attributes::default();
    attributes.text("gen_ai.operation.name", operation);
    attributes.text("gen_ai.provider.name", &expert.name);
    attributes.text("gen_ai.request.model", model);
    asked(&mut attributes, notes, record);
    let host = expert.uri(wire::Endpoint::ChatCompletions);
    attributes.some_text("server.address", host.host().map(|host| host.trim_start_matches('[').trim_end_matches(']')));
    let port = host.port_u16().unwrap_or(if host.scheme_str() == Some("https") { 443 } else { 80 });
    attributes.whole("server.port", u64::from(port));
    attributes.text("http.request.method", "POST");
    if let Some(status) = attempt.status {
        attributes.whole("http.response.status_code", u64::from(status));
    }
    if number > 0 {
        attributes.whole("http.request.resend_count", number as u64);
    }
    attributes.some_text("error.type", error.as_deref());
    attributes.text("expert_router.expert", &expert.name);
    attributes.text("expert_router.attempt.result", result.as_str());
    if answering {
        answered(&mut attributes, notes, record);
    }
    let name = format!("{operation} {model}");
    let part = Part { notes, own: attempt.span, parent: Some(notes.own), kind: SpanKind::Client, name, failed: error.is_some() };
    let mut span = part.span(attributes);
    span.start_time_unix_nano = clock.nanos(attempt.sent);
    span.end_time_unix_nano = clock.nanos(attempt.ended.unwrap_or(record.started + record.duration));
    span
}

fn asked(attributes: &mut Attributes, notes: &Notes, record: &Record<'_>) {
    attributes.truth("gen_ai.request.stream", record.stream);
    let Some(asked) = &notes.asked else { return };
    if asked.choices != 1 {
        attributes.whole("gen_ai.request.choice.count", asked.choices);
    }
    if let Some(tokens) = asked.max_tokens {
        attributes.whole("gen_ai.request.max_tokens", tokens);
    }
    for (name, value) in PARAMETER_NAMES.into_iter().zip(asked.parameters) {
        match value {
            // A whole number by the convention, and a negative one is as good as any.
            Some(seed) if name == "gen_ai.request.seed" => attributes.push(name, Value::Whole(seed as i64)),
            value => attributes.some_number(name, value),
        }
    }
}

fn answered(attributes: &mut Attributes, notes: &Notes, record: &Record<'_>) {
    let description = &notes.description;
    attributes.some_text("gen_ai.response.id", description.id.as_deref());
    attributes.some_text("gen_ai.response.model", description.model.as_deref());
    if !description.finish_reasons.is_empty() {
        let values = description.finish_reasons.iter().map(|reason| AnyValue::from(&**reason)).collect();
        attributes.push("gen_ai.response.finish_reasons", Value::List(List { values }));
    }
    attributes.some_number("gen_ai.response.time_to_first_chunk", record.first_token.map(|first| first.as_secs_f64()));
    if let Some(money) = record.money {
        attributes.whole("gen_ai.usage.input_tokens", money.usage.prompt_tokens);
        attributes.whole("gen_ai.usage.output_tokens", money.usage.completion_tokens);
        attributes.whole("gen_ai.usage.cache_read.input_tokens", money.usage.cached_tokens);
    }
}

/// The path's pattern; anything else a client may ask for has none.
fn route(endpoint: EndpointLabel) -> Option<&'static str> {
    match endpoint {
        EndpointLabel::ChatCompletions => Some("/v1/chat/completions"),
        EndpointLabel::Completions => Some("/v1/completions"),
        EndpointLabel::Responses => Some("/v1/responses"),
        EndpointLabel::Embeddings => Some("/v1/embeddings"),
        EndpointLabel::Models => Some("/v1/models"),
        EndpointLabel::Route => Some("/v1/route"),
        EndpointLabel::Other => None,
    }
}

fn operation(endpoint: EndpointLabel) -> Option<Operation> {
    match endpoint {
        EndpointLabel::ChatCompletions | EndpointLabel::Responses => Some(Operation::Chat),
        EndpointLabel::Completions => Some(Operation::TextCompletion),
        EndpointLabel::Embeddings => Some(Operation::Embeddings),
        EndpointLabel::Models | EndpointLabel::Route | EndpointLabel::Other => None,
    }
}

/// Methods nobody has defined have one name together.
fn method(method: &str) -> &str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    if KNOWN.contains(&method) { method } else { "_OTHER" }
}

/// What makes a span, but for its times.
struct Part<'a> {
    notes: &'a Notes,
    own: SpanId,
    parent: Option<SpanId>,
    kind: SpanKind,
    name: String,
    failed: bool,
}

impl Part<'_> {
    fn span(self, attributes: Attributes) -> Span {
        // Whether the parent is elsewhere is said from bit 8 on; only a client's span is.
        const KNOWN: u32 = 1 << 8;
        const REMOTE: u32 = 1 << 9;
        let remote = if self.kind == SpanKind::Server && self.parent.is_some() { REMOTE } else { 0 };
        let code = if self.failed { StatusCode::Error } else { StatusCode::Unset };
        Span {
            trace_id: self.notes.trace.0.to_vec(),
            span_id: self.own.0.to_vec(),
            trace_state: self.notes.state.clone(),
            parent_span_id: self.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
            name: self.name,
            kind: self.kind.into(),
            start_time_unix_nano: 0,
            end_time_unix_nano: 0,
            attributes: attributes.0,
            status: Some(Status { code: code.into() }),
            flags: u32::from(self.notes.flags) | KNOWN | remote,
        }
    }
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn push(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) });
    }

    fn text(&mut self, key: &str, value: &str) {
        self.push(key, Value::Text(value.to_owned()));
    }

    fn some_text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn whole(&mut self, key: &str, value: u64) {
        self.push(key, Value::Whole(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn number(&mut self, key: &str, value: f64) {
        self.push(key, Value::Number(value));
    }

    fn some_number(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    fn truth(&mut self, key: &str, value: bool) {
        self.push(key, Value::Truth(value));
    }
}
