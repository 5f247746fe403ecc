//! The operator's own metrics, as it counts them, without a cluster: each time it is scraped it has done a little more.

use anyhow::Result;
use api::status::RouterModelStatus;
use operator::metrics::Metrics;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Answers that the training wants.
const WANTED: u32 = 120;

/// Where it is scraped.
pub(super) async fn serve() -> Result<String> {
    let metrics = Metrics::default();
    metrics.leading.set(1);
    metrics.certificate_end.set(4_102_444_800);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        let mut scrapes = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            work(&metrics, scrapes);
            scrapes += 1;
            let page = metrics.render();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";
            let mut request = [0; 4096];
            // Prometheus asks for one page only, in one piece.
            if stream.read(&mut request).await.is_ok() {
                let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{page}", page.len()).as_bytes()).await;
            }
        }
    });
    Ok(address)
}

/// Some visits, a few of which fail, and what they write.
fn work(metrics: &Metrics, scrapes: u32) {
    for kind in ["ExpertRouter", "RouterModel"] {
        for visit in 0..4 {
            metrics.reconciled(kind, visit > 0 || !scrapes.is_multiple_of(4), 0.002 * f64::from(visit + 1));
        }
        metrics.watch_failed(kind);
    }
    for kind in ["ConfigMap", "Deployment"] {
        metrics.applied(kind, "apply");
    }
    for (kind, ready, count) in
        [("ExpertRouter", "True", 5), ("ExpertRouter", "False", 1), ("RouterModel", "True", 1), ("RouterModel", "False", 1)]
    {
        metrics.count(kind, ready, count);
    }
    for result in ["injected", "injected", "skipped"] {
        metrics.injected(result);
    }
    metrics.trainings([("shop", "chat", &training(scrapes))].into_iter());
}

/// A training that asks, and a bundle of an earlier one in force.
fn training(scrapes: u32) -> RouterModelStatus {
    let done = (12 * (scrapes + 1)).min(WANTED);
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        json!({"type": kind, "status": status, "reason": "Reason", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let evaluated = |name: &str, score: &str, cost: Value| json!({"name": name, "score": score, "costPerThousandUsd": cost});
    let status = json!({
        "conditions": [condition("DataPrepared", done == WANTED), condition("Published", true), condition("Ready", done == WANTED)],
        "progress": {"done": done, "total": WANTED},
        "costUsd": format!("{}", 0.0125 * f64::from(done)),
        "evaluation": [
            evaluated("router at Quality", "0.81", json!("1.40")),
            evaluated("small", "0.62", json!("0.20")),
            evaluated("large", "0.78", json!("2.10")),
            evaluated("oracle", "0.90", json!("0.95")),
        ],
        "candidate": {"digest": "0a", "gain": "0.03"},
        "steps": [{"name": "Fit", "state": "Succeeded", "inputs": "", "template": "", "startedAt": "2026-01-01T00:00:00Z", "failures": 0}],
    });
    serde_json::from_value(status).expect("a status as the operator writes it")
}
