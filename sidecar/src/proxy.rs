//! A request from head to answer: *read*, *parse*, *score* and *choose*, *forward*, *stream*, *meter*.
//!
//! The phases stand here in their order, and each is a file of that name. Everything learnt goes into the [`Meter`]; an early return
//! drops it, and so every way out is metered.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use routing::Reason;
use tracing::Instrument;
use wire::{Endpoint, ErrorBody, Inbound, Kind, sse::Filter};

use crate::{
    controls::{self, Controls},
    decide::{self, Choice, Scoring},
    failure::{self, Failure, Outcome},
    forward::{self, Answer, AnswerBody, Call},
    gzip, headers,
    keys::Client,
    meter::{Later, Meter, milliseconds},
    metrics::{EndpointLabel, Operation},
    read,
    shared::Shared,
    stream::{Outgoing, Passage, Relay},
    trace::context::Parent,
};

/// Answers a request to one of OpenAI's endpoints.
pub async fn proxy(meter: Box<Meter>, endpoint: Endpoint, request: Request<Incoming>) -> Response<Outgoing> {
    let mut meter = meter;
    match serve(&mut meter, endpoint, request).await {
        Ok((answer, choice, inbound)) => respond(meter, answer, &choice, &inbound),
        Err(failure) => refuse(meter, &failure),
    }
}

async fn serve(meter: &mut Meter, endpoint: Endpoint, request: Request<Incoming>) -> Result<(Answer, Choice, Inbound), Failure> {
    let (shared, state) = (meter.shared().clone(), meter.state().clone());
    let (head, body) = request.into_parts();
    let (client, controls, body) = enter(meter, &head.headers, body).await?;
    let reading = Instant::now();
    let body = read::body(body, &head.headers, shared.limits).instrument(tracing::debug_span!("read")).await?;
    let read = reading.elapsed();
    let inbound = tracing::debug_span!("parse").in_scope(|| Inbound::parse(endpoint, body)).map_err(Failure::of_wire)?;
    meter.stream = inbound.stream();
    meter.attempts.trace.note(|notes| notes.asked(&inbound, read));
    let name = client.as_ref().map(|client| &*client.name);
    let mut choice = decide::decide(&shared, &state, &inbound, &controls, name, Scoring::WhereItMatters)
        .instrument(tracing::debug_span!("choose"))
        .await?;
    meter.decided(&choice);
    meter.aside.decided(&shared, &state, meter.request_id.to_str().unwrap_or_default(), &inbound, &mut choice);
    let request_id = meter.request_id.clone();
    let call = Call {
        shared: &shared,
        state: &state,
        inbound: &inbound,
        headers: &head.headers,
        authorization_is_ours: client.is_some_and(|client| client.by_authorization),
        request_id: &request_id,
        told: None,
    };
    let answer = forward::forward(call, &choice.decision, &mut meter.attempts).instrument(tracing::debug_span!("forward")).await?;
    if let Some(key) = choice.conversation.filter(|_| answer.parts.status.is_success()) {
        shared.sessions.put(state.generation, key, answer.permit.expert().index, shared.now());
    }
    Ok((answer, choice, inbound))
}

/// What the head says, and the body that is to be read yet.
///
/// # Errors
/// Who may not call, and headers that make no sense; the client may finish writing before it is told.
pub async fn enter(meter: &mut Meter, headers: &HeaderMap, body: Incoming) -> Result<(Option<Client>, Controls, Incoming), Failure> {
    let seen = admit(meter, headers).and_then(|client| Ok((client, Controls::parse(headers, meter.state().session_header.as_ref())?)));
    match seen {
        Ok((client, controls)) => Ok((client, controls, body)),
        Err(failure) => {
            read::leave(body, headers, meter.shared().limits).await;
            Err(failure)
        }
    }
}

/// Whether the client may call at all.
///
/// # Errors
/// 401 where keys are asked for and no known one was shown.
pub fn admit(meter: &mut Meter, headers: &HeaderMap) -> Result<Option<Client>, Failure> {
    let Some(keys) = &meter.state().keys else { return Ok(None) };
    let Some(client) = keys.client(headers) else {
        let message = "expected a key of this router as `Authorization: Bearer <key>` or in `x-expert-router-key`";
        let mut failure = Failure::new(Outcome::Unauthorized, Kind::Authentication, message);
        failure.body.code = Some("invalid_api_key");
        return Err(failure);
    };
    meter.client = Some(client.name.clone());
    Ok(Some(client))
}

/// The answer, on its way to the client.
fn respond(mut meter: Box<Meter>, answer: Answer, choice: &Choice, inbound: &Inbound) -> Response<Outgoing> {
    let Answer { parts, body, permit, sent } = answer;
    let expert = permit.expert().clone();
    let mut headers = headers::to_client(&parts.headers);
    headers.insert(headers::EXPERT, expert.name_header.clone());
    mark(&mut headers, &meter.request_id, choice);
    let until = sent + expert.total;
    meter.served(permit, Operation::of(inbound.endpoint()), sent, parts.status.as_u16());
    let readable = !parts.headers.contains_key(header::CONTENT_ENCODING);
    let close_delimited = forward::is_close_delimited(&parts);
    let outgoing = match body {
        AnswerBody::Whole(mut bytes) => {
            let is_error = parts.status.is_client_error() || parts.status.is_server_error();
            if is_error && readable && !wire::answer::is_object(&bytes) {
                bytes = failure::in_our_words(parts.status, parts.headers.get(header::CONTENT_TYPE), &bytes);
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            // The client gets it as it came; what it used stands inside.
            let plain = if gzip::is_gzip(&parts.headers) { gzip::unpacked(&bytes, forward::WHOLE_BYTES).ok() } else { None };
            if let Some(cost) = meter.whole(plain.as_ref().unwrap_or(&bytes), readable || plain.is_some()) {
                headers.insert(headers::COST, headers::number(cost));
            }
            meter.outcome(if parts.status.is_success() { Outcome::Ok } else { Outcome::UpstreamStatus });
            Outgoing::Whole { bytes, meter: Some(Later::new(meter)) }
        }
        AnswerBody::Events(prefix, upstream) => {
            let filter = Filter::new(inbound.endpoint(), hides_usage(inbound)).describing(meter.attempts.trace.is_recorded());
            let events = readable.then(|| (inbound.endpoint(), filter));
            let passage = Passage { prefix, upstream, events, close_delimited, idle: expert.idle, until };
            Outgoing::Relay(Box::new(Relay::new(passage, meter)))
        }
        AnswerBody::Large(prefix, upstream) => {
            let passage = Passage { prefix, upstream, events: None, close_delimited, idle: expert.idle, until };
            Outgoing::Relay(Box::new(Relay::new(passage, meter)))
        }
    };
    let mut response = Response::new(outgoing);
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    response
}

/// The usage was asked for by us alone.
fn hides_usage(inbound: &Inbound) -> bool {
    let asked_by_us = matches!(inbound.endpoint(), Endpoint::ChatCompletions | Endpoint::Completions);
    asked_by_us && inbound.stream() && !inbound.usage_asked()
}

/// What every answer says of its decision.
fn mark(headers: &mut HeaderMap, request_id: &HeaderValue, choice: &Choice) {
    headers.insert(headers::REASON, reason_header(choice.decision.reason));
    headers.insert(headers::DECISION_MS, headers::number(milliseconds(choice.timing.total)));
    identify(headers, request_id);
}

/// The request's id, under the name of this router and under the one that OpenAI's clients read.
fn identify(headers: &mut HeaderMap, request_id: &HeaderValue) {
    headers.insert(headers::REQUEST_ID, request_id.clone());
    headers.insert(controls::REQUEST_ID, request_id.clone());
}

fn reason_header(reason: Reason) -> HeaderValue {
    HeaderValue::from_static(reason.as_str())
}

/// An error of ours for an answer.
#[must_use]
pub fn refuse(mut meter: Box<Meter>, failure: &Failure) -> Response<Outgoing> {
    meter.ended(failure.outcome, failure.status().as_u16());
    let mut response = failure.response();
    identify(response.headers_mut(), &meter.request_id);
    response.map(|bytes| Outgoing::Whole { bytes, meter: Some(Later::new(meter)) })
}

/// A small answer of our own making.
#[must_use]
pub fn reply(mut meter: Box<Meter>, json: bytes::Bytes) -> Response<Outgoing> {
    meter.ended(Outcome::Ok, 200);
    let request_id = meter.request_id.clone();
    let mut response = Response::new(Outgoing::Whole { bytes: json, meter: Some(Later::new(meter)) });
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    identify(response.headers_mut(), &request_id);
    response
}

/// A meter for a request that has just come.
#[must_use]
pub fn begin<B>(shared: &Arc<Shared>, endpoint: EndpointLabel, request: &Request<B>) -> Box<Meter> {
    let mut meter = Meter::new(shared.clone(), shared.state.load_full(), endpoint, controls::request_id(request.headers()));
    meter.trace = match &shared.tracer {
        None => Parent::of(request.headers()).map(|parent| parent.trace),
        Some(tracer) => {
            let (trace, becomes) = tracer.begin(request);
            meter.attempts.trace = becomes;
            Some(trace)
        }
    };
    meter
}

/// 404 and 405, in OpenAI's shape.
#[must_use]
pub fn no_such_path(allowed: Option<&'static str>) -> Failure {
    match allowed {
        None => {
            let body =
                ErrorBody::new(Kind::NotFound, "unknown_url", "no such path; those there are begin with /v1/, as /v1/chat/completions");
            Failure { outcome: Outcome::NotFound, ..Failure::of_wire(body) }
        }
        Some(method) => {
            let body = ErrorBody::new(Kind::MethodNotAllowed, "method_not_allowed", format!("this path takes {method} only"));
            Failure { outcome: Outcome::MethodNotAllowed, ..Failure::of_wire(body) }
        }
    }
}
