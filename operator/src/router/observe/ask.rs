//! Pods asked by their admin ports.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::router::{
    judge::Report,
    spend::{Counter, read_metrics},
};

/// Pods of a router asked at once.
const AT_ONCE: usize = 32;
/// A Pod that takes longer is asked again next time.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than this is no answer of a proxy.
const MOST_BYTES: usize = 4 << 20;

pub(super) type Http = Client<HttpConnector, Empty<Bytes>>;

/// A Pod to be asked.
pub(super) struct Asking {
    pub(super) name: String,
    pub(super) uid: String,
    /// Where, once it has an address.
    pub(super) admin: Option<String>,
}

/// A Pod that was asked.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) answer: Option<Answer>,
}

pub(super) struct Answer {
    pub(super) report: Report,
    pub(super) counter: Counter,
}

pub(super) fn http() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(PATIENCE));
    Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(60)).build(connector)
}

/// Asks them at the same time: one that does not answer keeps nobody waiting but itself.
pub(super) async fn all(http: &Http, pods: Vec<Asking>) -> Vec<Asked> {
    let asked = pods.into_iter().map(|Asking { name, uid, admin }| async move {
        let answer = match &admin {
            Some(admin) => ask(http, admin).await,
            None => None,
        };
        Asked { name, uid, answer }
    });
    stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
}

async fn ask(http: &Http, admin: &str) -> Option<Answer> {
    let sample = read_metrics(&get(http, admin, "/metrics").await?);
    let mut report = Report { revision: sample.revision, model_ready: sample.model_ready, problem: None };
    if !sample.model_ready {
        let snapshot = get(http, admin, "/snapshot").await?;
        report.problem = problem(&snapshot);
    }
    Some(Answer { report, counter: sample.counter })
}

/// What a proxy says is wrong with its bundle.
fn problem(snapshot: &str) -> Option<String> {
    let snapshot: serde_json::Value = serde_json::from_str(snapshot).ok()?;
    Some(snapshot.pointer("/model/problem")?.as_str()?.to_owned())
}

async fn get(http: &Http, admin: &str, path: &str) -> Option<String> {
    let uri = format!("http://{admin}{path}").parse().ok()?;
    let answer = async {
        let response = http.get(uri).await.ok().filter(|response| response.status().is_success())?;
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.ok()?;
        String::from_utf8(body.to_bytes().to_vec()).ok()
    };
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn silent_pods_are_waited_for_together() {
        // It takes connections and answers none.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = silent.local_addr().unwrap().to_string();
        let pod = |number: usize| Asking { name: format!("pod-{number}"), uid: number.to_string(), admin: Some(admin.clone()) };
        let begun = Instant::now();
        let asked = all(&http(), (0..30).map(pod).collect()).await;
        assert_eq!(asked.iter().filter(|pod| pod.answer.is_none()).count(), 30);
        assert!(begun.elapsed() < 10 * PATIENCE, "one after the other they take 30 times as long as one: {:?}", begun.elapsed());
    }

    #[test]
    fn a_broken_bundle_is_heard_of() {
        assert_eq!(problem(r#"{"model": {"state": "broken", "problem": "bundle /a: no"}}"#).as_deref(), Some("bundle /a: no"));
        assert_eq!(problem(r#"{"model": {"state": "none"}}"#), None);
        assert_eq!(problem("<html>"), None);
    }
}
