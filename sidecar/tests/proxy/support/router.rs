//! A router in process, on free ports, with its snapshot in a folder of its own.

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use serde_json::{Value, json};
use sidecar::{Config, Flags, shared::Shared};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{Answer, Client, eventually};

/// An expert of a snapshot; `more` adds fields or replaces them.
pub fn expert_json(name: &str, url: &str, more: Value) -> Value {
    let mut expert = json!({"name": name, "baseUrl": url, "modelName": format!("{name}-model")});
    merge(&mut expert, more);
    expert
}

/// A snapshot without a model; `more` adds fields or replaces them.
pub fn snapshot(experts: &[Value], more: Value) -> Value {
    let mut snapshot = json!({"formatVersion": 1, "revision": "r1", "router": "chat", "experts": experts, "policy": {}});
    merge(&mut snapshot, more);
    snapshot
}

pub fn budget(amount_usd: f64, on_exceeded: &str) -> Value {
    json!({"name": "day", "amountUsd": amount_usd, "period": "Day", "onExceeded": on_exceeded})
}

fn merge(value: &mut Value, more: Value) {
    if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), more) {
        fields.extend(more);
    }
}

/// Running until dropped or stopped.
pub struct Router {
    pub client: Client,
    pub admin: Client,
    pub listen: std::net::SocketAddr,
    pub folder: tempfile::TempDir,
    pub shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<bool>>,
}

impl Router {
    pub async fn start(snapshot: Value) -> Self {
        Self::start_with(|_| snapshot, "").await
    }

    /// The snapshot may name files of the router's folder; flags may too, as `FOLDER/name`.
    pub async fn start_with(snapshot: impl FnOnce(&std::path::Path) -> Value, flags: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = snapshot(folder.path());
        std::fs::write(folder.path().join("snapshot.json"), snapshot.to_string()).unwrap();
        Self::start_in(folder, flags).await
    }

    /// With a model that answers by a function of the text.
    pub async fn start_scored(
        snapshot: Value,
        experts: &[&str],
        scores: impl Fn(&str) -> Result<Vec<f32>, String> + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("snapshot.json"), snapshot.to_string()).unwrap();
        Self::begin(folder, "", Some(model::Engine::fixed(experts, scores).unwrap()), None).await
    }

    /// With a model in force and one in shadow.
    pub async fn start_shadowed(snapshot: Value, flags: &str, in_force: model::Engine, shadow: model::Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("snapshot.json"), snapshot.to_string()).unwrap();
        Self::begin(folder, flags, Some(in_force), Some(shadow)).await
    }

    pub async fn start_in(folder: tempfile::TempDir, flags: &str) -> Self {
        Self::begin(folder, flags, None, None).await
    }

    async fn begin(folder: tempfile::TempDir, flags: &str, engine: Option<model::Engine>, shadow: Option<model::Engine>) -> Self {
        let flags = flags.replace("FOLDER", folder.path().to_str().unwrap());
        let common = "expert-router --listen 127.0.0.1:0 --admin 127.0.0.1:0 --drain-seconds 20 --snapshot";
        let file = folder.path().join("snapshot.json").to_str().unwrap().to_owned();
        let words = common.split(' ').map(str::to_owned).chain([file]).chain(flags.split_whitespace().map(str::to_owned));
        let config = Config::from(Flags::try_parse_from(words).unwrap());
        let mut builder = sidecar::build::Builder::new(config.clone(), Arc::default());
        if let Some(engine) = engine {
            builder = builder.with_engine(Arc::new(engine));
        }
        if let Some(shadow) = shadow {
            builder = builder.with_shadow(Arc::new(shadow));
        }
        let server = sidecar::start_with(config, builder).unwrap_or_else(|error| panic!("{error}"));
        let (listen, admin, shared) = (server.listen, server.admin, server.shared().clone());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { client: Client::new(listen), admin: Client::new(admin), listen, folder, shared, stop: Some(stop), running: Some(running) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As kubelet does: the new content under another name, then a rename.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let beside = self.path(&format!("{name}.beside"));
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    pub async fn chat(&self, model: &str) -> Answer {
        self.client
            .post("/v1/chat/completions", &json!({"model": model, "messages": [{"role": "user", "content": "Say something."}]}))
            .await
    }

    /// The value of a series as `/metrics` shows it; 0 where it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.admin.get("/metrics").await.text();
        text.lines().find_map(|line| without_router(line).strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0.0)
    }

    /// Waits for a series to have a value.
    pub async fn counts(&self, series: &str, value: f64) {
        eventually(&format!("{series} {value}"), || async { (self.metric(series).await - value).abs() < 1e-9 }).await;
    }

    pub async fn revision(&self, revision: &str) {
        eventually(&format!("revision {revision}"), || async { self.admin.get("/snapshot").await.json()["revision"] == revision }).await;
    }

    /// Tells the router to stop; the result comes when it has.
    pub fn stop(&mut self) -> JoinHandle<bool> {
        let _ = self.stop.take().unwrap().send(());
        self.running.take().unwrap()
    }
}

/// A sample without the label that all of a process share, and that comes last.
fn without_router(line: &str) -> String {
    let Some((start, rest)) = line.split_once("router=\"") else { return line.to_owned() };
    let end = rest.split_once("\"}").map_or("", |(_, end)| end);
    match start.strip_suffix(',') {
        Some(start) => format!("{start}}}{end}"),
        None => format!("{}{end}", start.trim_end_matches('{')),
    }
}
