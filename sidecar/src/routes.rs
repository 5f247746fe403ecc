//! Paths to what answers them.
//!
//! Deliberately absent: anything below a path. `GET /v1/models` and `POST /v1/route` are small enough to stand here; the rest is `proxy`.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde::{Deserialize, de::IgnoredAny};
use wire::{Endpoint, ErrorBody, Inbound};

use crate::{
    decide::{self, Choice, Scoring},
    failure::Failure,
    meter::{Meter, milliseconds},
    metrics::EndpointLabel,
    proxy::{admit, begin, enter, no_such_path, proxy, refuse, reply},
    read,
    shared::Shared,
    state::State,
    stream::Outgoing,
};

/// Answers any request.
///
/// # Errors
/// None: what goes wrong is an answer too.
pub async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Outgoing>, Infallible> {
    let path = request.uri().path();
    let Some(below) = path.strip_prefix("/v1") else { return Ok(lost(&shared, request, None).await) };
    let response = if let Some(endpoint) = Endpoint::of_path(below) {
        if request.method() != Method::POST {
            return Ok(lost(&shared, request, Some("POST")).await);
        }
        proxy(begin(&shared, label(endpoint), &request), endpoint, request).await
    } else if below == "/route" {
        if request.method() != Method::POST {
            return Ok(lost(&shared, request, Some("POST")).await);
        }
        route(begin(&shared, EndpointLabel::Route, &request), request).await
    } else if below == "/models" || below.starts_with("/models/") {
        // Of an answer to HEAD the server sends the head alone.
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Ok(lost(&shared, request, Some("GET")).await);
        }
        models(begin(&shared, EndpointLabel::Models, &request), &request)
    } else {
        lost(&shared, request, None).await
    };
    Ok(response)
}

fn label(endpoint: Endpoint) -> EndpointLabel {
    match endpoint {
        Endpoint::ChatCompletions => EndpointLabel::ChatCompletions,
        Endpoint::Completions => EndpointLabel::Completions,
        Endpoint::Responses => EndpointLabel::Responses,
        Endpoint::Embeddings => EndpointLabel::Embeddings,
    }
}

/// 404, or 405 with the method there is.
async fn lost(shared: &Arc<Shared>, request: Request<Incoming>, allowed: Option<&'static str>) -> Response<Outgoing> {
    let meter = begin(shared, EndpointLabel::Other, &request);
    let (head, body) = request.into_parts();
    read::leave(body, &head.headers, shared.limits).await;
    let mut response = refuse(meter, &no_such_path(allowed));
    if let Some(method) = allowed {
        response.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static(method));
    }
    response
}

/// `GET /v1/models` and `GET /v1/models/{name}`: `auto`, the router's name, and the experts.
fn models(mut meter: Box<Meter>, request: &Request<Incoming>) -> Response<Outgoing> {
    if let Err(failure) = admit(&mut meter, request.headers()) {
        return refuse(meter, &failure);
    }
    let state = meter.state().clone();
    let names = names(&state);
    let created = i64::try_from(state.since_unix).unwrap_or(i64::MAX);
    let model = |id| wire::models::Model { id, owned_by: &state.table.snapshot().router, created };
    match request.uri().path().strip_prefix("/v1/models/") {
        None => reply(meter, wire::models::Model::list(&names.into_iter().map(model).collect::<Vec<_>>())),
        Some(wanted) => match names.into_iter().find(|name| *name == wanted) {
            Some(name) => reply(meter, model(name).to_bytes()),
            None => refuse(meter, &Failure::of_wire(ErrorBody::unknown_model(wanted))),
        },
    }
}

fn names(state: &State) -> Vec<&str> {
    let router = state.table.snapshot().router.as_str();
    let experts = state.table.experts().iter().map(|expert| expert.name.as_str());
    let own = [routing::AUTO, router].into_iter().filter(|name| *name == routing::AUTO || state.table.expert(name).is_none());
    let mut names: Vec<_> = own.chain(experts).collect();
    names.dedup();
    names
}

/// `POST /v1/route`: the decision without the call.
async fn route(mut meter: Box<Meter>, request: Request<Incoming>) -> Response<Outgoing> {
    match routed(&mut meter, request).await {
        Ok(json) => reply(meter, json),
        Err(failure) => refuse(meter, &failure),
    }
}

async fn routed(meter: &mut Meter, request: Request<Incoming>) -> Result<Bytes, Failure> {
    let (shared, state) = (meter.shared().clone(), meter.state().clone());
    let (head, body) = request.into_parts();
    let (client, controls, body) = enter(meter, &head.headers, body).await?;
    let body = read::body(body, &head.headers, shared.limits).await?;
    let inbound = Inbound::parse(endpoint_of(&body), body).map_err(Failure::of_wire)?;
    let name = client.as_ref().map(|client| &*client.name);
    let choice = decide::decide(&shared, &state, &inbound, &controls, name, Scoring::Always).await?;
    Ok(described(&state, &choice))
}

/// Which kind of request a body is, by the field that only this kind has. What cannot be told is a chat, whose parser then says what is
/// wrong.
fn endpoint_of(body: &[u8]) -> Endpoint {
    #[derive(Deserialize)]
    struct Fields {
        messages: Option<IgnoredAny>,
        input: Option<IgnoredAny>,
        prompt: Option<IgnoredAny>,
    }
    match serde_json::from_slice(body) {
        Ok(Fields { messages: None, input: Some(_), .. }) => Endpoint::Responses,
        Ok(Fields { messages: None, prompt: Some(_), .. }) => Endpoint::Completions,
        _ => Endpoint::ChatCompletions,
    }
}

fn described(state: &State, choice: &Choice) -> Bytes {
    let name = |index: usize| state.table.experts()[index].name.as_str();
    let decision = &choice.decision;
    let number = |values: &[f32], index: usize| values.get(index).copied().filter(|value| value.is_finite());
    let scores = choice.scores.as_ref().and_then(|scores| scores.as_ref().ok()).map(|scores| {
        let one = |index: usize| {
            serde_json::json!({
                "quality": number(&scores.quality, index),
                "output_tokens": number(&scores.output_tokens, index),
                "seconds": number(&scores.seconds, index),
            })
        };
        (0..state.table.experts().len()).map(|index| (name(index), one(index))).collect::<BTreeMap<_, _>>()
    });
    let fallbacks: Vec<_> = decision.fallbacks.iter().map(|index| name(*index)).collect();
    let candidates: Vec<_> = std::iter::once(name(decision.expert)).chain(fallbacks.iter().copied()).collect();
    let timing = &choice.timing;
    serde_json::json!({
        "object": "expert_router.decision",
        "router": state.table.snapshot().router,
        "revision": state.table.snapshot().revision,
        "expert": name(decision.expert),
        "reason": decision.reason.as_str(),
        "predicted_cost_usd": decision.predicted_cost_usd,
        "candidates": candidates,
        "fallbacks": fallbacks,
        "scores": scores,
        "score_failure": choice.scores.as_ref().and_then(|scores| scores.as_ref().err()).map(|failure| failure.as_str()),
        "prompt_tokens": choice.prompt_tokens,
        "timing_ms": {
            "tokenize": milliseconds(timing.tokenize),
            "queue": milliseconds(timing.queue),
            "encode": milliseconds(timing.encode),
            "choose": milliseconds(timing.choose),
            "total": milliseconds(timing.total),
        },
    })
    .to_string()
    .into()
}
