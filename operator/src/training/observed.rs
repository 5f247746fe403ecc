//! What is there of a model's Jobs and their Pods, as far as steps need to know.

use api::training::{Prepared, Summary};
use k8s_openapi::{
    api::{
        batch::v1::JobStatus,
        core::v1::{ContainerStateTerminated, Pod},
    },
    jiff::Timestamp,
};

use crate::conditions::shorten;

/// The label and annotation of a Pod's part.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// Of a log's tail this much is passed on.
const MOST_LOG: usize = 1024;

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The model's Jobs.
    pub jobs: Vec<SeenJob>,
    /// Their Pods.
    pub pods: Vec<SeenPod>,
}

/// A Job.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenJob {
    /// Its name.
    pub name: String,
    /// Tells it from a later one of the same name.
    pub uid: String,
    /// How it stands.
    pub state: JobState,
}

/// How a Job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    /// It has not ended.
    Active,
    /// It has done what it should.
    Complete {
        /// When.
        at: Timestamp,
    },
    /// It has given up.
    Failed {
        /// Why, in Kubernetes' words.
        message: String,
        /// When.
        at: Timestamp,
    },
}

/// A Pod of a Job.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenPod {
    /// Whose.
    pub job: String,
    /// Its part.
    pub index: Option<u32>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// How it stands.
    pub state: PodState,
}

/// How a Pod stands.
#[derive(Debug, Clone, PartialEq)]
pub enum PodState {
    /// It runs, or is about to; what holds it up, where anything does.
    Active(Option<String>),
    /// It ended well, and said this.
    Succeeded(String),
    /// It failed, and said this.
    Failed(String),
}

impl Observed {
    /// A Job by its name.
    #[must_use]
    pub fn job(&self, name: &str) -> Option<&SeenJob> {
        self.jobs.iter().find(|job| job.name == name)
    }

    /// What the Pod of a part found.
    ///
    /// # Errors
    /// There is none that succeeded, or it said something else.
    pub fn summary(&self, job: &str, part: Option<u32>) -> Result<Summary, String> {
        let said = self.pods.iter().find_map(|pod| match &pod.state {
            PodState::Succeeded(said) if pod.job == job && (part.is_none() || pod.index == part) => Some(said),
            _ => None,
        });
        let of = part.map_or(String::new(), |part| format!(" of part {part}"));
        let said = said.ok_or_else(|| format!("its Job is complete, but the Pod{of} that did it is gone"))?;
        Summary::parse(said).map_err(|error| error.to_string())
    }

    /// What the parts that are done found.
    #[must_use]
    pub fn parts(&self, job: &str) -> Vec<Prepared> {
        let said = self.pods.iter().filter(|pod| pod.job == job).filter_map(|pod| match &pod.state {
            PodState::Succeeded(said) => Summary::parse(said).ok(),
            _ => None,
        });
        said.filter_map(|summary| if let Summary::Prepare(found) = summary { Some(found) } else { None }).collect()
    }

    /// What the Pod that failed last said.
    #[must_use]
    pub fn failure(&self, job: &str) -> Option<String> {
        let failed = self.pods.iter().filter(|pod| pod.job == job).filter_map(|pod| match &pod.state {
            PodState::Failed(said) => Some((pod.created, said)),
            _ => None,
        });
        failed.max_by_key(|(created, _)| *created).map(|(_, said)| said.clone())
    }

    /// What holds up a Job that runs: a Pod that cannot start, or else the last that failed.
    #[must_use]
    pub fn trouble(&self, job: &str) -> Option<String> {
        let held_up = self.pods.iter().filter(|pod| pod.job == job).find_map(|pod| match &pod.state {
            PodState::Active(trouble) => trouble.clone(),
            _ => None,
        });
        held_up.or_else(|| self.failure(job).map(|said| format!("a Pod failed, another is tried: {said}")))
    }
}

impl JobState {
    /// As a Job's status says.
    #[must_use]
    pub fn of(status: &JobStatus) -> Self {
        let condition =
            |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True");
        let time = |condition: &k8s_openapi::api::batch::v1::JobCondition| {
            condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
        };
        if let Some(complete) = condition("Complete") {
            return Self::Complete { at: time(complete) };
        }
        match condition("Failed") {
            Some(failed) => {
                let words = [failed.reason.as_deref(), failed.message.as_deref()];
                let message = words.into_iter().flatten().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
                Self::Failed { message, at: time(failed) }
            }
            None => Self::Active,
        }
    }
}

impl SeenPod {
    /// What is kept of a Pod; nothing of one that belongs to no Job.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let label = |name: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(name));
        let annotation = |name: &str| pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
        let index = label(INDEX).or_else(|| annotation(INDEX)).and_then(|index| index.parse().ok());
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Some(Self { job: label(JOB_NAME)?.clone(), index, created, state: PodState::of(pod) })
    }
}

impl PodState {
    fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let container = status.container_statuses.iter().flatten().find_map(|container| container.state.clone());
        let ended = container.as_ref().and_then(|state| state.terminated.as_ref());
        let said = |ended: Option<&ContainerStateTerminated>| ended.and_then(|ended| ended.message.clone()).unwrap_or_default();
        match status.phase.as_deref() {
            Some("Succeeded") => Self::Succeeded(said(ended)),
            Some("Failed") => {
                let reasons = [status.reason, status.message, ended.and_then(|ended| ended.reason.clone())];
                let reason = reasons.into_iter().flatten().find(|reason| !reason.is_empty() && reason != "Error");
                Self::Failed(explain(reason, ended))
            }
            _ => {
                let waiting = container
                    .and_then(|state| state.waiting)
                    .filter(|waiting| !matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing")));
                let waiting = waiting.map(|it| format!("{}: {}", it.reason.unwrap_or_default(), it.message.unwrap_or_default()));
                let unscheduled =
                    status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
                Self::Active(waiting.or_else(|| unscheduled.and_then(|condition| condition.message.clone())))
            }
        }
    }
}

/// Why a Pod failed: the tail of its log, after what Kubernetes has to say.
fn explain(reason: Option<String>, ended: Option<&ContainerStateTerminated>) -> String {
    let log = ended.and_then(|ended| ended.message.as_deref()).unwrap_or_default().trim();
    // The end says most: it is what is kept.
    let start = (log.len().saturating_sub(MOST_LOG)..=log.len()).find(|start| log.is_char_boundary(*start)).unwrap_or(0);
    let tail = &log[start..];
    let reason = match reason.as_deref() {
        Some("OOMKilled") => Some("OOMKilled: the container needed more than its memory limit".to_owned()),
        Some(other) => Some(shorten(other, MOST_LOG)),
        None => None,
    };
    match (reason, tail.is_empty(), ended) {
        (Some(reason), true, _) => reason,
        (Some(reason), false, _) => format!("{reason}: {tail}"),
        (None, false, _) => tail.to_owned(),
        (None, true, Some(ended)) => format!("the container ended with {} and said nothing", ended.exit_code),
        (None, true, None) => "the Pod failed and said nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> SeenPod {
        let pod = json!({
            "metadata": {"name": "p", "labels": {JOB_NAME: "j", INDEX: "1"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": status,
        });
        SeenPod::of(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn ended(phase: &str, terminated: serde_json::Value) -> PodState {
        let container =
            json!({"name": "train", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": {"terminated": terminated}});
        pod(json!({"phase": phase, "containerStatuses": [container]})).state
    }

    #[test]
    fn a_pod_that_failed_says_why() {
        let check = |terminated, expect: &str| assert_eq!(ended("Failed", terminated), PodState::Failed(expect.to_owned()));
        check(json!({"exitCode": 1, "reason": "Error", "message": "asking\nerror: no route to host\n"}), "asking\nerror: no route to host");
        check(json!({"exitCode": 137, "reason": "OOMKilled"}), "OOMKilled: the container needed more than its memory limit");
        check(json!({"exitCode": 2, "reason": "Error"}), "the container ended with 2 and said nothing");
        let PodState::Failed(long) = ended("Failed", json!({"exitCode": 1, "message": format!("{}the end", "ä".repeat(3000))})) else {
            panic!()
        };
        assert!(long.len() <= MOST_LOG && long.ends_with("the end"));
    }

    #[test]
    fn a_pod_that_cannot_start_says_why() {
        let waiting = json!({"phase": "Pending", "containerStatuses": [{
            "name": "train", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
        }]});
        assert_eq!(pod(waiting).state, PodState::Active(Some("ErrImagePull: no such image".to_owned())));
        let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]});
        assert_eq!(pod(unscheduled).state, PodState::Active(Some("0/2 nodes".to_owned())));
        assert_eq!(pod(json!({"phase": "Running"})).state, PodState::Active(None));
        assert_eq!(pod(json!({})).index, Some(1));
    }

    #[test]
    fn a_job_has_ended_when_its_conditions_say_so() {
        let state = |conditions: serde_json::Value| JobState::of(&serde_json::from_value(json!({"conditions": conditions})).unwrap());
        assert_eq!(state(json!([])), JobState::Active);
        assert_eq!(state(json!([{"type": "SuccessCriteriaMet", "status": "True"}])), JobState::Active);
        let failed = json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let JobState::Failed { message, .. } = state(failed) else { panic!() };
        assert_eq!(message, "BackoffLimitExceeded: too often");
        assert!(matches!(state(json!([{"type": "Complete", "status": "True"}])), JobState::Complete { .. }));
    }
}
