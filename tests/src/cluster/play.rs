//! The part of a node: no kubelet is here, so a test says what became of Pods.

use anyhow::Result;
use serde_json::{Value, json};

use super::Namespace;

impl Namespace {
    /// Makes every Pod that bears this label run and be ready, once; how many there were. Deployments above then count them.
    ///
    /// # Errors
    /// The server is away.
    pub async fn play_pods(&self, label: &str) -> Result<usize> {
        let pods = self.list("pods", label).await?;
        let mut played = 0;
        for pod in pods.iter().filter(|pod| pod["status"]["phase"] == "Pending" && pod["metadata"]["deletionTimestamp"].is_null()) {
            played += usize::from(self.set_pod_status(pod, &running(pod)).await?);
        }
        Ok(played)
    }

    /// Ends a Pod as a container would that exits with this code and leaves this termination message.
    ///
    /// # Errors
    /// The server is away.
    pub async fn end_pod(&self, pod: &Value, exit_code: i32, message: &str) -> Result<bool> {
        let phase = if exit_code == 0 { "Succeeded" } else { "Failed" };
        let ended = json!({"terminated": {"exitCode": exit_code, "message": message, "reason": if exit_code == 0 { "Completed" } else { "Error" },
                           "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}});
        let statuses = container_statuses(pod, "containers", &ended, false);
        let mut status = json!({"phase": phase, "containerStatuses": statuses});
        status["initContainerStatuses"] = container_statuses(pod, "initContainers", &json!({"terminated": {"exitCode": 0}}), false);
        self.set_pod_status(pod, &status).await
    }

    async fn set_pod_status(&self, pod: &Value, status: &Value) -> Result<bool> {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        // A Pod that a controller took away meanwhile is no failure of the test.
        let merged = self.api().merge(&format!("{}/{name}/status", self.path("pods")), &json!({"status": status})).await;
        match merged {
            Ok(_) => Ok(true),
            Err(error) if error.downcast_ref::<super::Refusal>().is_some_and(|refusal| refusal.status == 404) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn running(pod: &Value) -> Value {
    let true_since = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(true_since);
    let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    json!({
        "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": conditions,
        "containerStatuses": container_statuses(pod, "containers", &state, true),
        "initContainerStatuses": container_statuses(pod, "initContainers", &state, true),
    })
}

fn container_statuses(pod: &Value, list: &str, state: &Value, ready: bool) -> Value {
    let containers = pod["spec"][list].as_array().cloned().unwrap_or_default();
    let status = |container: &Value| {
        json!({"name": container["name"], "image": container["image"], "imageID": "played", "ready": ready, "started": ready,
               "restartCount": 0, "state": state})
    };
    containers.iter().map(status).collect()
}
