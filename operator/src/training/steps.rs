//! How far a training has come and what is due: inputs, what was recorded, what is there, to what is now. Pure; the clock is an argument.
//!
//! A step is done when it was recorded as done with the same inputs. Else its Job is looked for, by a name that follows from the inputs,
//! from the Job's own template and from how many before it failed; and is made where it is not there. So a visit that was cut off at any
//! point, and one by a controller that knows nothing but the status, come to the same end.

mod step;

use std::collections::BTreeMap;

use api::{
    status::{BundleStatus, RouterModelStatus, Step, StepState, StepStatus},
    training::{Evaluated, Fitted, Prepared, Published, Summary},
};
use k8s_openapi::{
    api::batch::v1::Job,
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};

use super::{
    inputs,
    jobs::Task,
    observed::Observed,
    promote::{Decision, Rule},
    valid::ValidModel,
};
use crate::config::Images;

/// A step that failed is tried again after this long, then twice as long, and so on up to [`LAST_RETRY_SECONDS`].
const FIRST_RETRY_SECONDS: i64 = 30;
const LAST_RETRY_SECONDS: i64 = 3600;

/// How a step stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Stand<T> {
    /// An earlier one is not done.
    NotYet,
    /// Its Job is there, or about to be; what holds it up, where anything does.
    Running {
        /// Such as an image that cannot be pulled.
        trouble: Option<String>,
    },
    /// Its Job failed.
    Failed {
        /// Why.
        message: String,
        /// Jobs in a row that did.
        failures: i32,
        /// When there will be another.
        retry_at: Timestamp,
    },
    /// What it found.
    Done(T),
}

impl<T> Stand<T> {
    /// What it found.
    #[must_use]
    pub fn done(&self) -> Option<&T> {
        if let Self::Done(found) = self { Some(found) } else { None }
    }
}

/// Where a training stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Asked and scored.
    pub prepared: Stand<Prepared>,
    /// Answers of a preparation under way: had, and wanted as far as that is known.
    pub progress: (u64, Option<u64>),
    /// Fitted.
    pub fitted: Stand<Fitted>,
    /// Evaluated.
    pub evaluated: Stand<Evaluated>,
    /// What becomes of the bundle; none before it is evaluated.
    pub decision: Option<Decision>,
    /// Its gain over the best single expert.
    pub gain: Option<f64>,
    /// Until when the bundle is in shadow at least, where it is to be in shadow at all.
    pub shadow_until: Option<Timestamp>,
    /// Published.
    pub published: Stand<Published>,
    /// The bundle in force.
    pub bundle: Option<BundleStatus>,
    /// What to remember.
    pub steps: Vec<StepStatus>,
    /// To be made.
    pub job: Option<Box<Job>>,
    /// The Job that may run; others may not.
    pub active: Option<String>,
    /// When to look again, whatever happens.
    pub look_at: Option<Timestamp>,
}

/// Works out where a training stands.
#[must_use]
pub fn advance(model: &ValidModel, status: &RouterModelStatus, observed: &Observed, images: &Images, now: Timestamp) -> Standing {
    let before = status.steps.iter().map(|step| (step.name, step.clone())).collect();
    // The API server keeps whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let walk = Walk { model, observed, images, now, before, job: None, active: None, look_at: None };
    walk.go(status.bundle.clone())
}

/// How long a step waits after that many failures.
#[must_use]
pub fn pause(failures: i32) -> SignedDuration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(20);
    SignedDuration::from_secs((FIRST_RETRY_SECONDS << doublings).min(LAST_RETRY_SECONDS))
}

struct Walk<'a> {
    model: &'a ValidModel,
    observed: &'a Observed,
    images: &'a Images,
    now: Timestamp,
    /// What was recorded, and is by and by what is to be.
    before: BTreeMap<Step, StepStatus>,
    job: Option<Box<Job>>,
    active: Option<String>,
    look_at: Option<Timestamp>,
}

impl<'a> Walk<'a> {
    fn go(mut self, bundle: Option<BundleStatus>) -> Standing {
        let in_force = bundle.as_ref().map(|bundle| bundle.digest.clone());
        // Elsewhere nobody can fetch it: it was published before the output moved.
        let at_output = bundle.as_ref().filter(|bundle| bundle.uri == self.model.output.bundle_uri(&bundle.digest));
        let at_output = at_output.map(|bundle| bundle.digest.as_str());
        let tick = self.tick();
        let prepared = self.prepare(tick);
        let fitted = match prepared.done().filter(|prepared| !prepared.out_of_money) {
            Some(prepared) => self.fit(prepared),
            None => Stand::NotYet,
        };
        let evaluated = match (prepared.done(), fitted.done()) {
            (Some(prepared), Some(fitted)) => self.evaluate(prepared, &fitted.digest, at_output),
            _ => Stand::NotYet,
        };
        let shadow_until = self.shadow_until();
        let rule = self.rule(in_force.as_deref(), shadow_until);
        let decision = evaluated.done().map(|evaluated| rule.decide(evaluated));
        if let Some(until) = shadow_until.filter(|_| decision == Some(Decision::InShadow)) {
            self.look_no_later_than(until);
        }
        let gain = evaluated.done().map(|evaluated| rule.gain(evaluated));
        let published = match (fitted.done(), decision) {
            (Some(fitted), Some(Decision::Publish)) => self.publish(&fitted.digest),
            _ => Stand::NotYet,
        };
        let newly = published.done().map(|it| self.published(&it.digest, evaluated.done(), bundle.as_ref()));
        if let Some(tick) = self.model.schedule.as_ref().and_then(|schedule| schedule.next_after(self.now)) {
            self.look_no_later_than(tick);
        }
        Standing {
            progress: self.progress(&prepared),
            prepared,
            fitted,
            evaluated,
            decision,
            gain,
            shadow_until,
            published,
            bundle: newly.or(bundle),
            steps: self.before.into_values().collect(),
            job: self.job,
            active: self.active,
            look_at: self.look_at,
        }
    }

    fn rule<'r>(&self, in_force: Option<&'r str>, shadow_until: Option<Timestamp>) -> Rule<'r>
    where
        'a: 'r,
    {
        Rule {
            mode: self.model.mode,
            objective: self.model.objective,
            required_gain: self.model.required_gain,
            promoted: self.model.promoted.as_deref(),
            in_force,
            in_shadow: shadow_until.is_some_and(|until| self.now < until),
        }
    }

    /// Proxies take a bundle into shadow as soon as it is there, which is when its evaluation begins.
    fn shadow_until(&self) -> Option<Timestamp> {
        let since = self.before.get(&Step::Evaluate)?.started_at.0;
        self.model.shadow_seconds.map(|seconds| since + SignedDuration::from_secs(seconds))
    }

    /// The tick of the schedule that the newest preparation answers to. A preparation under way is not begun anew for the next tick.
    fn tick(&self) -> Option<Timestamp> {
        let prepare = self.before.get(&Step::Prepare)?;
        let due = self.model.schedule.as_ref().filter(|_| prepare.state == StepState::Succeeded);
        let due = due.and_then(|schedule| schedule.last_between(prepare.started_at.0, self.now));
        due.or_else(|| prepare.tick.as_ref().map(|tick| tick.0))
    }

    fn prepare(&mut self, tick: Option<Timestamp>) -> Stand<Prepared> {
        let inputs = inputs::prepare(self.model, tick);
        let stand = self.step(&Task::Prepare, inputs, |summary| if let Summary::Prepare(found) = summary { Some(found) } else { None });
        if let Some(prepare) = self.before.get_mut(&Step::Prepare) {
            prepare.tick = tick.map(Time);
        }
        stand
    }

    fn fit(&mut self, prepared: &Prepared) -> Stand<Fitted> {
        let inputs = inputs::fit(self.model, prepared);
        self.step(
            &Task::Fit { parts: prepared.parts },
            inputs,
            |summary| if let Summary::Fit(found) = summary { Some(found) } else { None },
        )
    }

    fn evaluate(&mut self, prepared: &Prepared, digest: &str, in_force: Option<&str>) -> Stand<Evaluated> {
        let inputs = inputs::evaluate(self.model, prepared, digest);
        let task = Task::Evaluate { digest, in_force, parts: prepared.parts };
        self.step(&task, inputs, |summary| if let Summary::Evaluate(found) = summary { Some(found) } else { None })
    }

    fn publish(&mut self, digest: &str) -> Stand<Published> {
        let inputs = inputs::publish(self.model, digest);
        let task = Task::Publish { digest };
        self.step(&task, inputs, |summary| if let Summary::Publish(found) = summary { Some(found) } else { None })
    }

    /// A bundle in its place, and the experts it was evaluated among. These go with its digest: a table that is cut unlearns nothing.
    fn published(&self, digest: &str, evaluated: Option<&Evaluated>, before: Option<&BundleStatus>) -> BundleStatus {
        let known = before.filter(|bundle| bundle.digest == digest && !bundle.experts.is_empty()).map(|bundle| bundle.experts.clone());
        let told = evaluated.filter(|evaluated| evaluated.digest == digest).map(Evaluated::experts);
        BundleStatus {
            uri: self.model.output.bundle_uri(digest),
            digest: digest.to_owned(),
            experts: known.or(told).unwrap_or_default(),
            credentials: None,
        }
    }

    fn look_no_later_than(&mut self, at: Timestamp) {
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Answers had, and wanted: by the parts that are done, and by the queries where those can be counted.
    fn progress(&self, prepared: &Stand<Prepared>) -> (u64, Option<u64>) {
        if let Stand::Done(prepared) = prepared {
            return (prepared.done, Some(prepared.total));
        }
        let parts = self.active.as_deref().map(|name| self.observed.parts(name)).unwrap_or_default();
        let wanted = match &self.model.queries {
            super::valid::Queries::ConfigMap { count, .. } => Some(count * self.model.experts.len() as u64),
            _ => None,
        };
        (parts.iter().map(|part| part.done).sum(), wanted)
    }
}
