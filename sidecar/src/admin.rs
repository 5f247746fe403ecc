//! What operators see: `/metrics`, `/dashboard`, `/decisions`, `/healthz`, `/readyz`, `/snapshot`. Plain HTTP on a port of its own, which is not for clients.
//!
//! `/snapshot` shows what is in force, how the experts are, and the last change that could not be used. It shows no secret: names of
//! files but never their contents, and of `bodyOverrides` and `prependMessages`, into which people write what they like, only how much
//! there is.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    keys::ClientKeys,
    shared::Shared,
    state::{Model, State, lock},
};

/// The page for those without Grafana: it reads `/metrics`, `/snapshot` and `/decisions` and nothing else.
const DASHBOARD: &str = include_str!("admin/dashboard.html");
/// Nothing from outside, whatever names people give to experts.
const DASHBOARD_MAY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'";

/// Serves until dropped.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, as a rule: those of clients come back in a moment.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&shared, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().timer(hyper_util::rt::TokioTimer::new());
            // Whoever scrapes and breaks off has told us all there is to know.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" if shared.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".into()),
        "/readyz" => text(StatusCode::OK, "ready\n".into()),
        "/metrics" => text(StatusCode::OK, metrics(shared)),
        "/dashboard" => {
            let mut response = text(StatusCode::OK, DASHBOARD.into());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DASHBOARD_MAY));
            response
        }
        "/snapshot" => json_of(&snapshot(shared)),
        "/decisions" => json_of(&json!({"decisions": shared.recent.list()})),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /dashboard, /decisions, /healthz, /readyz and /snapshot\n".into()),
    }
}

fn json_of(value: &Value) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, format!("{value:#}\n"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

/// Gauges of things that change by themselves are set when somebody looks.
fn metrics(shared: &Shared) -> String {
    let metrics = &shared.metrics;
    let _alone = metrics.begin_scrape();
    let (state, now) = (shared.state.load(), shared.now());
    for expert in &state.experts {
        let (name, now) = ([expert.name.as_str()], expert.live.state(now));
        metrics.ejected.with_label_values(&name).set(i64::from(now.ejected));
        metrics.paused.with_label_values(&name).set(i64::from(now.paused));
    }
    let budgets = &state.table.snapshot().budgets;
    let clients = state.keys.as_ref().map(ClientKeys::names).unwrap_or_default();
    for (budget, balance) in budgets.iter().zip(shared.spend.balances(budgets, &clients)) {
        let name = [budget.name.as_str()];
        metrics.budget_spent.with_label_values(&name).set(balance.spent_usd);
        metrics.budget_amount.with_label_values(&name).set(budget.amount_usd);
        metrics.budget_used.with_label_values(&name).set(balance.used);
        metrics.budget_remaining.with_label_values(&name).set(balance.remaining_seconds as f64);
    }
    metrics.config_stale.set(i64::from(lock(&shared.last_error).is_some()));
    metrics.sessions.set(i64::try_from(shared.sessions.len()).unwrap_or(i64::MAX));
    metrics.snapshot_age.set(state.since.elapsed().as_secs_f64());
    metrics.render(&state.table.snapshot().router)
}

fn snapshot(shared: &Shared) -> Value {
    let state = shared.state.load();
    let snapshot = state.table.snapshot();
    let spent = shared.spend.totals(&snapshot.budgets);
    let budgets: Vec<_> = snapshot
        .budgets
        .iter()
        .zip(spent)
        .map(|(budget, spent)| json!({"name": budget.name, "spentUsd": spent, "amountUsd": budget.amount_usd, "period": budget.period}))
        .collect();
    json!({
        "router": snapshot.router,
        "revision": snapshot.revision,
        "since": state.since_unix,
        "ageSeconds": state.since.elapsed().as_secs_f64(),
        "draining": shared.is_draining(),
        "model": model(&state),
        "shadow": state.shadow.as_ref().map(|shadow| {
            let bundle = shadow.bound.engine.bundle();
            json!({"digest": bundle.digest, "router": bundle.manifest.router, "percent": shadow.percent})
        }),
        "lastError": lock(&shared.last_error).clone(),
        "experts": experts(shared, &state),
        "budgets": budgets,
        "conversations": shared.sessions.len(),
        "snapshot": without_free_text(snapshot),
    })
}

fn model(state: &State) -> Value {
    match &state.model {
        Model::None => json!({"state": "none"}),
        Model::Broken(problem) => json!({"state": "broken", "problem": problem}),
        Model::Ready(bound) => {
            let bundle = bound.engine.bundle();
            json!({"state": "ready", "digest": bundle.digest, "router": bundle.manifest.router})
        }
    }
}

fn experts(shared: &Shared, state: &State) -> Vec<Value> {
    let now = shared.now();
    let one = |expert: &Arc<crate::state::Expert>| {
        let (ejected_for, paused_for) = {
            let ejection = lock(&expert.live.ejection);
            (ejection.ejected_for(now).as_secs_f64(), ejection.paused_for(now).as_secs_f64())
        };
        json!({
            "name": expert.name,
            "ejected": ejected_for > 0.0,
            "ejectedForSeconds": ejected_for,
            "paused": paused_for > 0.0,
            "pausedForSeconds": paused_for,
            "inFlight": expert.live.in_flight.load(Ordering::Acquire),
        })
    };
    state.experts.iter().map(one).collect()
}

fn without_free_text(snapshot: &routing::Snapshot) -> Value {
    // A snapshot came from JSON and goes back to it.
    let mut value = serde_json::to_value(snapshot).unwrap_or_default();
    for expert in value["experts"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(messages) = expert.get_mut("prependMessages") {
            *messages = json!(format!("{} messages", messages.as_array().map_or(0, Vec::len)));
        }
        if let Some(overrides) = expert.get_mut("bodyOverrides") {
            *overrides = json!(overrides.as_object().map(|fields| fields.keys().collect::<Vec<_>>()));
        }
    }
    value
}
