//! Phase *forward*: the request to its expert, and to the next one where that fails before a byte of the answer reached the client.
//!
//! In: a decision. Out: an answer to pass on, or the failure the client gets. A whole (not streamed) answer is read to its end first, so
//! that its cost fits into a header; one that breaks off is a failure like any other, since the client has seen nothing of it. So is a
//! stream without a first event. Steps to experts that are not well are paid from the retry budget; sending again on the same expert because
//! a pooled connection was closed is not: the expert had closed it while idle, and has as a rule not seen the request. Deliberately absent:
//! who steps in, which the decision says.

mod answer;
mod collect;
mod retry_after;
mod verdict;

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, response};
use http_body_util::Full;
use hyper::body::Incoming;
use routing::{Decision, Refusal, health, table::ExpertIndex};
use wire::{Inbound, Outbound};

use crate::{
    failure::Failure,
    headers::{self, Authorization},
    metrics::AttemptResult,
    shared::Shared,
    state::{Expert, Permit, State, lock},
    trace::{Told, Trace},
    upstream::SendError,
};
pub use answer::{AnswerBody, WHOLE_BYTES, is_close_delimited};
use answer::{Begun, become_an_error, error_in_words, read};
use collect::Trouble;
use verdict::{Failed, blame, broken, late, page, redirect, refused, unreachable_expert};

/// The request, as far as experts get to see it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The process.
    pub shared: &'a Shared,
    /// The request's state.
    pub state: &'a State,
    /// The body.
    pub inbound: &'a Inbound,
    /// As the client sent them.
    pub headers: &'a HeaderMap,
    /// The client's `Authorization` is a key of ours.
    pub authorization_is_ours: bool,
    /// Named to the expert too.
    pub request_id: &'a HeaderValue,
    /// What experts are told of the trace, where that is not what the client said.
    pub told: Option<&'a Told>,
}

/// An expert's answer, or an error of its that is passed on.
#[derive(Debug)]
pub struct Answer {
    /// Status and headers.
    pub parts: response::Parts,
    /// What there is of the body.
    pub body: AnswerBody,
    /// The expert's place.
    pub permit: Permit,
    /// When the request went to it.
    pub sent: Instant,
}

/// What was tried of a request. Noted as it happens, so that it is known also where the client goes before the end.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Requests sent to experts.
    pub sent: u32,
    /// Those that came to nothing, in order.
    pub failed: Vec<(ExpertIndex, AttemptResult)>,
    /// And what becomes of the request's trace.
    pub trace: Trace,
}

/// Counts an attempt that is dropped with its request: the client went away first, or the process ends.
struct Unfinished<'a>(Option<&'a Expert>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(expert) = self.0 {
            expert.metrics.attempted(AttemptResult::Cancelled);
        }
    }
}

/// Sends the request to the decision's expert, then to its fallbacks.
///
/// # Errors
/// What the client is told where no expert answered: the last error an expert put into words is an answer, not an error.
pub async fn forward(call: Call<'_>, decision: &Decision, attempts: &mut Attempts) -> Result<Answer, Failure> {
    lock(&call.shared.retries).deposit();
    let mut experts = std::iter::once(decision.expert).chain(decision.fallbacks.iter().copied()).peekable();
    let mut kept = None;
    let mut failure = None;
    while let Some(index) = experts.next() {
        let Some(permit) = call.state.experts[index].enter(call.shared.now()) else { continue };
        attempts.sent += 1;
        let sent = Instant::now();
        let expert = permit.expert().clone();
        let mut unfinished = Unfinished(Some(&expert));
        let told = attempts.trace.sent(index, sent);
        let attempted = attempt(Call { told: told.as_ref(), ..call }, permit, sent).await;
        unfinished.0 = None;
        let (mut permit, failed) = match attempted {
            Ok(answer) => {
                attempts.trace.note(|notes| notes.answered(answer.parts.status.as_u16()));
                return Ok(answer);
            }
            Err(failed) => failed,
        };
        attempts.trace.note(|notes| notes.failed(failed.result, failed.kept.as_ref().map(|(parts, _)| parts.status.as_u16())));
        expert.metrics.attempted(failed.result);
        attempts.failed.push((index, failed.result));
        if let Some((parts, bytes)) = failed.kept {
            // The next expert may take its time, in which this one is free.
            permit.leave();
            kept = Some(Answer { parts, body: AnswerBody::Whole(bytes), permit, sent });
        }
        failure = Some(failed.failure);
        while failed.over_context && experts.peek().is_some_and(|next| !is_longer(call.state, *next, index)) {
            experts.next();
        }
        let Some(next) = experts.peek() else { break };
        // Where all experts fail, each request would else be sent to every one of them, just when they have enough to do.
        let well = lock(&call.state.experts[*next].live.ejection).is_well();
        if !well && !lock(&call.shared.retries).withdraw(call.shared.now()) {
            call.shared.metrics.retries_denied.inc();
            break;
        }
        expert.metrics.fell_back(failed.result);
    }
    match (kept, failure) {
        (Some(answer), _) => Ok(answer),
        (None, Some(failure)) => Err(failure),
        // Others took the last places between the choice and now.
        (None, None) => {
            call.shared.metrics.refusals.with_label_values(&[Refusal::Saturated.as_str()]).inc();
            Err(Failure::refused(Refusal::Saturated))
        }
    }
}

/// Whether an expert's context is longer than another's, as far as either is known.
fn is_longer(state: &State, expert: ExpertIndex, than: ExpertIndex) -> bool {
    let context = |index: ExpertIndex| state.table.experts()[index].context_tokens;
    context(expert).is_none_or(|tokens| context(than).is_none_or(|than| tokens > than))
}

/// One expert, from the request to as much of the answer as has to be seen before the client sees any.
async fn attempt(call: Call<'_>, mut permit: Permit, sent: Instant) -> Result<Answer, (Permit, Failed)> {
    let expert = permit.expert().clone();
    let response = match head(call, &expert, sent).await {
        Ok(response) => response,
        Err(failed) => {
            permit.report(health::Outcome::Failure, call.shared.now());
            return Err((permit, failed));
        }
    };
    let (mut parts, body) = response.into_parts();
    if let Some(health) = blame(&parts, has_clients_key(call, &expert)) {
        permit.report(health, call.shared.now());
        let kept = error_in_words(body).await.map(|bytes| (parts.clone(), bytes));
        return Err((permit, refused(parts.status, kept)));
    }
    if parts.status.is_redirection() {
        // Followed by the client, it would lead around this router, and past it to the expert's address.
        permit.report(health::Outcome::Failure, call.shared.now());
        return Err((permit, redirect()));
    }
    if parts.status.is_informational() {
        // 101: a change of protocol that nobody asked for.
        permit.report(health::Outcome::Failure, call.shared.now());
        return Err((permit, broken(AttemptResult::Reset)));
    }
    if !parts.status.is_success() || permit.is_probe() {
        // An expert that answers is back, however long the answer takes; and a 4xx is the request's fault.
        permit.report(health::Outcome::Success, call.shared.now());
    }
    let body = match read(&parts, body, &expert, sent).await {
        Ok(Begun::Answer(body)) => body,
        Ok(Begun::Fault(fault)) => {
            become_an_error(&mut parts, fault.status);
            if let Some(health) = blame(&parts, has_clients_key(call, &expert)) {
                permit.report(health, call.shared.now());
                return Err((permit, refused(parts.status, Some((parts, fault.body)))));
            }
            permit.report(health::Outcome::Success, call.shared.now());
            AnswerBody::Whole(fault.body)
        }
        Err(trouble) => {
            permit.report(health::Outcome::Failure, call.shared.now());
            tracing::debug!(expert = expert.name, ?trouble, "no whole answer");
            let failed = match trouble {
                Trouble::Cut => broken(AttemptResult::Cut),
                Trouble::Late => late(),
                Trouble::Page => page(),
            };
            return Err((permit, failed));
        }
    };
    match body {
        AnswerBody::Whole(bytes) if parts.status.is_client_error() && wire::answer::exceeds_context(&bytes) => {
            let failed = Failed { over_context: true, ..refused(parts.status, Some((parts, bytes))) };
            Err((permit, failed))
        }
        body => {
            expert.metrics.attempted(if parts.status.is_client_error() { AttemptResult::ClientError } else { AttemptResult::Ok });
            Ok(Answer { parts, body, permit, sent })
        }
    }
}

/// To the response's head, within the first-byte time-out; once more where a pooled connection turned out to be closed.
async fn head(call: Call<'_>, expert: &Expert, sent: Instant) -> Result<Response<Incoming>, Failed> {
    let request = request(call, expert);
    let answered = async {
        match expert.pool.send(request.clone()).await {
            Err(SendError::Stale(_)) => {
                expert.metrics.stale.inc();
                expert.pool.send(request).await
            }
            result => result,
        }
    };
    let patience = expert.first_byte.min(expert.total.saturating_sub(sent.elapsed()));
    match tokio::time::timeout(patience, answered).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            tracing::debug!(expert = expert.name, reason = error.reason(), "no answer");
            Err(match error {
                SendError::Connect(_) => unreachable_expert(),
                SendError::Stale(_) | SendError::Reset(_) => broken(AttemptResult::Reset),
            })
        }
        Err(_) => Err(late()),
    }
}

fn request(call: Call<'_>, expert: &Expert) -> Request<Full<Bytes>> {
    let described = &call.state.table.experts()[expert.index];
    let body = call.inbound.outbound(&Outbound {
        model_name: &described.model_name,
        prepend_messages: &described.prepend_messages,
        body_overrides: &described.body_overrides,
        ask_usage: true,
    });
    let forwarded = forwarded_authorization(call, expert);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = expert.uri(call.inbound.endpoint()).clone();
    let authorization = match forwarded {
        Some(clients) => Authorization::Clients(clients),
        None => Authorization::Ours(expert.authorization.as_ref()),
    };
    *request.headers_mut() = headers::to_expert(call.headers, authorization, call.request_id);
    if let Some(told) = call.told {
        told.tell(request.headers_mut());
    }
    request
}

/// The client's own key, where it is meant for the expert.
fn forwarded_authorization<'a>(call: Call<'a>, expert: &Expert) -> Option<&'a HeaderValue> {
    call.headers.get(header::AUTHORIZATION).filter(|_| expert.forward_authorization && !call.authorization_is_ours)
}

/// Whether the expert is asked with the client's own key, or with none where it wants the client's.
fn has_clients_key(call: Call<'_>, expert: &Expert) -> bool {
    forwarded_authorization(call, expert).is_some() || (expert.forward_authorization && expert.authorization.is_none())
}
