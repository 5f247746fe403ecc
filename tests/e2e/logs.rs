//! Logs of Pods, followed from their first line to their last, so that those of Pods that are gone are known too.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, hash_map::DefaultHasher},
    fs::{self, File},
    hash::{Hash as _, Hasher as _},
    io::Write as _,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, api::LogParams};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{
    metering::{Line, Lines},
    objects::{Objects, name_of},
};

/// How often it is looked for new Pods: those that live for less have said little.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Follows the logs of some Pods until it is dropped.
pub(crate) struct Logs {
    state: Arc<Mutex<State>>,
    watching: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    followed: BTreeSet<String>,
    lines: Lines,
    /// Lines that speak of trouble, by what they say, and how often.
    troubles: BTreeMap<String, u64>,
}

/// Which Pods.
#[derive(Clone)]
pub(crate) struct Whose {
    /// Their namespace.
    pub(crate) objects: Objects,
    /// Their labels.
    pub(crate) labels: String,
    /// Their container.
    pub(crate) container: String,
}

impl Logs {
    /// Begins to follow; each log is also written to a file of this folder.
    pub(crate) fn follow(whose: Whose, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let state = Arc::<Mutex<State>>::default();
        let watching = tokio::spawn(watch(whose, folder.to_owned(), state.clone()));
        Ok(Self { state, watching })
    }

    /// What is known of requests by now.
    pub(crate) fn lines(&self) -> Lines {
        lock(&self.state).lines.clone()
    }

    /// What went wrong by what was said, and how often.
    pub(crate) fn troubles(&self) -> BTreeMap<String, u64> {
        lock(&self.state).troubles.clone()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(whose: Whose, folder: PathBuf, state: Arc<Mutex<State>>) {
    let mut followers = tokio::task::JoinSet::new();
    loop {
        // While the API server is away there is nobody to ask; those that are followed are gone on with afterwards.
        for pod in whose.objects.list("pods", &whose.labels).await.unwrap_or_default() {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if has_started(&pod, &whose.container) && lock(&state).followed.insert(uid.clone()) {
                let follower = Follower { whose: whose.clone(), pod: name_of(&pod), uid, folder: folder.clone(), state: state.clone() };
                followers.spawn(follower.follow());
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containerStatuses", "initContainerStatuses"].into_iter().filter_map(|list| pod["status"][list].as_array()).flatten()
}

fn has_started(pod: &Value, container: &str) -> bool {
    statuses(pod)
        .any(|status| status["name"] == container && (!status["state"]["running"].is_null() || !status["state"]["terminated"].is_null()))
}

struct Follower {
    whose: Whose,
    pod: String,
    /// Another Pod of the same name is another's to follow.
    uid: String,
    folder: PathBuf,
    state: Arc<Mutex<State>>,
}

/// Where a log was left.
#[derive(Default)]
struct Place {
    time: Option<Timestamp>,
    /// What was read: a log is gone on with from a whole second, and so says some lines again.
    seen: HashSet<u64>,
}

impl Follower {
    async fn follow(self) {
        let api = Api::<Pod>::namespaced(self.whose.objects.client(), &self.whose.objects.namespace);
        let path = self.folder.join(format!("{}-{}.log", self.pod, self.whose.container));
        let Ok(mut file) = File::create(&path) else { return };
        let mut place = Place::default();
        loop {
            let whole = self.read(&api, &mut place, &mut file).await.is_ok();
            let pod = self.whose.objects.find("pods", &self.pod).await;
            let pod = pod.map(|pod| pod.filter(|pod| pod["metadata"]["uid"] == self.uid.as_str()));
            let ended = match &pod {
                Ok(None) => return,
                Ok(Some(pod)) => {
                    statuses(pod).any(|status| status["name"] == self.whose.container.as_str() && status["state"]["running"].is_null())
                }
                Err(_) => false,
            };
            if ended && whole {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// To the end of the log, or of the connection.
    async fn read(&self, api: &Api<Pod>, place: &mut Place, file: &mut File) -> Result<()> {
        let parameters = LogParams {
            container: Some(self.whose.container.clone()),
            follow: true,
            timestamps: true,
            since_time: place.time,
            ..LogParams::default()
        };
        let stream = api.log_stream(&self.pod, &parameters).await?;
        let mut lines = pin!(stream.lines());
        while let Some(line) = lines.try_next().await? {
            let Some((time, text)) = line.split_once(' ') else { continue };
            if place.passes(time, &line) {
                // A file that cannot be written costs a copy, not the count.
                let _ = writeln!(file, "{time} {text}");
                lock(&self.state).note(text);
            }
        }
        Ok(())
    }
}

impl Place {
    /// Whether a line is new.
    fn passes(&mut self, time: &str, line: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return false;
        }
        if let Ok(time) = time.parse::<Timestamp>() {
            self.time = Some(self.time.map_or(time, |before| before.max(time)));
        }
        true
    }
}

impl State {
    fn note(&mut self, text: &str) {
        if let Some(line) = Line::parse(text) {
            self.lines.entry(line.id.clone()).or_default().push(line);
        } else if let Some(trouble) = trouble(text) {
            *self.troubles.entry(trouble).or_default() += 1;
        }
    }
}

/// What a line says of trouble: an error, a panic, or something that is no log line of ours.
pub(crate) fn trouble(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return None;
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Some(text.chars().take(160).collect()) };
    let level = value["level"].as_str().unwrap_or_default();
    if level != "ERROR" && level != "WARN" {
        return None;
    }
    let message = value["message"].as_str().or_else(|| value["fields"]["message"].as_str()).unwrap_or("without a message");
    Some(format!("{level} {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_comes_again_is_not_new() {
        let mut place = Place::default();
        assert!(place.passes("2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.1Z a"));
        assert!(place.passes("2026-01-01T00:00:00.2Z", "2026-01-01T00:00:00.2Z a"));
        assert!(!place.passes("2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.1Z a"));
        assert_eq!(place.time.unwrap().to_string(), "2026-01-01T00:00:00.2Z");
    }

    #[test]
    fn troubles_are_errors_warnings_and_what_is_no_log_line() {
        assert_eq!(trouble(r#"{"level":"INFO","message":"fine"}"#), None);
        assert_eq!(trouble(r#"{"level":"WARN","message":"the grace ended first"}"#).as_deref(), Some("WARN the grace ended first"));
        assert_eq!(trouble("thread 'serve' panicked at x.rs").as_deref(), Some("thread 'serve' panicked at x.rs"));
        assert_eq!(trouble(""), None);
    }

    #[test]
    fn a_container_has_started_once_it_runs_or_ran() {
        let pod = |state: Value| serde_json::json!({"status": {"initContainerStatuses": [{"name": "c", "state": state}]}});
        assert!(!has_started(&pod(serde_json::json!({"waiting": {}})), "c"));
        assert!(has_started(&pod(serde_json::json!({"running": {}})), "c"));
        assert!(!has_started(&pod(serde_json::json!({"running": {}})), "d"));
    }
}
