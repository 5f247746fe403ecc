//! One step: as it was recorded, or as its Job stands.

use api::{
    status::{StepState, StepStatus},
    training::{Prepared, Summary},
};
use k8s_openapi::{
    api::batch::v1::JobSpec,
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use serde_json::json;

use super::{
    super::{
        inputs::digest_of,
        jobs::{self, Task},
        observed::JobState,
        valid::ValidModel,
    },
    Stand, Walk, pause,
};
use crate::names;

/// Pods of a Job that runs are looked at this often: they are not watched.
const LOOK_SECONDS: i64 = 15;

impl Walk<'_> {
    /// One step: as recorded, or as its Job stands.
    pub(super) fn step<T>(&mut self, task: &Task<'_>, inputs: String, of: impl Fn(Summary) -> Option<T>) -> Stand<T> {
        let step = task.step();
        let spec = jobs::job_spec(self.model, self.images, task);
        let template = jobs::template_digest(self.model, &spec);
        let recorded = self.before.get(&step).filter(|recorded| recorded.inputs == inputs).cloned();
        if let Some(recorded) = &recorded
            && recorded.state == StepState::Succeeded
            && let Some(summary) = recorded.message.as_deref().and_then(|message| Summary::parse(message).ok())
            && !is_worth_another_try(&summary, recorded, &template)
            && let Some(found) = of(summary)
        {
            return Stand::Done(found);
        }
        // A Job that runs goes on, though a new one would be made another way.
        if let Some(running) = recorded.as_ref().filter(|recorded| recorded.state == StepState::Running) {
            let attempt = Attempt { task, inputs: &inputs, template: &running.template, failures: running.failures, spec: &spec };
            if self.observed.job(&attempt.name(self.model)).is_some() {
                return self.look(&attempt, Some(running.started_at.0), of);
            }
        }
        let failed = recorded.filter(|recorded| recorded.state != StepState::Succeeded && recorded.template == template);
        let failures = failed.as_ref().map_or(0, |failed| failed.failures);
        let attempt = Attempt { task, inputs: &inputs, template: &template, failures, spec: &spec };
        if let Some(failed) = failed.filter(|failed| failed.state == StepState::Failed) {
            let retry_at = failed.failed_at.as_ref().map_or(self.now, |at| at.0 + pause(failures));
            if self.now < retry_at {
                self.look_no_later_than(retry_at);
                return Stand::Failed { message: failed.message.unwrap_or_default(), failures, retry_at };
            }
        }
        self.look(&attempt, None, of)
    }

    /// As the attempt's Job stands; where there is none, it is to be made.
    fn look<T>(&mut self, attempt: &Attempt<'_>, started: Option<Timestamp>, of: impl Fn(Summary) -> Option<T>) -> Stand<T> {
        let name = attempt.name(self.model);
        self.active = Some(name.clone());
        let state = self.observed.job(&name).map(|job| job.state.clone());
        let running = attempt.record(StepState::Running, started.unwrap_or(self.now));
        match state {
            None => {
                let job = jobs::job(self.model, attempt.task.step(), &name, attempt.spec.clone());
                self.job = Some(Box::new(job));
                self.run(running, None)
            }
            Some(JobState::Active) => {
                let trouble = self.observed.trouble(&name);
                self.run(running, trouble)
            }
            Some(JobState::Failed { message, at }) => {
                let message = self.observed.failure(&name).map_or(message.clone(), |log| format!("{message}: {log}"));
                self.fail(running, message, at)
            }
            Some(JobState::Complete { at }) => match self.found(attempt, &name) {
                Ok(summary) => {
                    let line = summary.to_line();
                    match of(summary) {
                        Some(found) => {
                            let step = attempt.task.step();
                            self.before
                                .insert(step, StepStatus { state: StepState::Succeeded, failures: 0, message: Some(line), ..running });
                            Stand::Done(found)
                        }
                        None => self.fail(running, "its Job told of another step".to_owned(), at),
                    }
                }
                Err(why) => self.fail(running, why, at),
            },
        }
    }

    /// What a Job that is done found, by its Pods.
    fn found(&self, attempt: &Attempt<'_>, name: &str) -> Result<Summary, String> {
        let parts = match attempt.task {
            Task::Prepare => u32::try_from(attempt.spec.completions.unwrap_or(1)).unwrap_or(1),
            _ => return self.observed.summary(name, None),
        };
        let mut whole = Prepared { done: 0, total: 0, spent_usd: 0.0, out_of_money: false, parts, digest: String::new() };
        let mut digests = Vec::new();
        for part in 0..parts {
            let Summary::Prepare(found) = self.observed.summary(name, Some(part))? else {
                return Err("its Job told of another step".to_owned());
            };
            whole.done += found.done;
            whole.total += found.total;
            whole.spent_usd += found.spent_usd;
            whole.out_of_money |= found.out_of_money;
            digests.push(found.digest);
        }
        whole.digest = if let [digest] = digests.as_slice() { digest.clone() } else { digest_of(&json!(digests)) };
        Ok(Summary::Prepare(whole))
    }

    fn run<T>(&mut self, running: StepStatus, trouble: Option<String>) -> Stand<T> {
        self.before.insert(running.name, running);
        self.look_no_later_than(self.now + SignedDuration::from_secs(LOOK_SECONDS));
        Stand::Running { trouble }
    }

    fn fail<T>(&mut self, running: StepStatus, message: String, at: Timestamp) -> Stand<T> {
        let failures = running.failures.saturating_add(1);
        let retry_at = at + pause(failures);
        self.look_no_later_than(retry_at.max(self.now + SignedDuration::from_secs(1)));
        let failed =
            StepStatus { state: StepState::Failed, failures, failed_at: Some(Time(at)), message: Some(message.clone()), ..running };
        self.before.insert(failed.name, failed);
        // This Job has ended; the next one has another name.
        self.active = None;
        Stand::Failed { message, failures, retry_at }
    }
}

/// Asking that stopped for want of money goes on when anything in its Job changes, such as the limit.
fn is_worth_another_try(summary: &Summary, recorded: &StepStatus, template: &str) -> bool {
    matches!(summary, Summary::Prepare(prepared) if prepared.out_of_money) && recorded.template != template
}

/// One Job that does a step.
struct Attempt<'a> {
    task: &'a Task<'a>,
    inputs: &'a str,
    template: &'a str,
    failures: i32,
    spec: &'a JobSpec,
}

impl Attempt<'_> {
    fn name(&self, model: &ValidModel) -> String {
        let digest = digest_of(&json!([self.inputs, self.template, self.failures, model.owner.uid]));
        names::job(&model.owner.key.name, &format!("{}-{}", jobs::word(self.task.step()), digest.get(..10).unwrap_or(&digest)))
    }

    fn record(&self, state: StepState, started_at: Timestamp) -> StepStatus {
        StepStatus {
            name: self.task.step(),
            state,
            inputs: self.inputs.to_owned(),
            template: self.template.to_owned(),
            started_at: Time(started_at),
            tick: None,
            failures: self.failures,
            failed_at: None,
            message: None,
        }
    }
}
