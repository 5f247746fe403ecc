//! Trainings played: manifests in, Jobs out; each Job's end told, and what follows looked at.

mod again;
mod course;
mod failure;
mod promotion;
mod refusal;

use std::path::Path;

use api::{
    RouterModel,
    status::{RouterModelStatus, Step, StepState},
    training::{Evaluated, Fitted, PROMOTE_ANNOTATION, Point, Prepared, Published, RETRAIN_ANNOTATION, Summary},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{
    jobs,
    observed::{JobState, Observed, PodState, SeenJob, SeenPod},
    report,
    steps::{self, Standing},
    valid::{self, Problem, References},
};
use crate::{conditions::Finding, config::Images};

const QUERIES: &str = "{\"id\":\"1\",\"prompt\":\"a\"}\n{\"id\":\"2\",\"prompt\":\"b\"}\n";

fn images() -> Images {
    Images {
        router: "localhost/router:1".into(),
        train: "localhost/train:1".into(),
        pull_policy: Some("IfNotPresent".into()),
        pull_secrets: vec!["registry".into()],
    }
}

/// One model, what it names, and a cluster that does what it is told.
struct World {
    model: RouterModel,
    references: References,
    status: RouterModelStatus,
    observed: Observed,
    now: Timestamp,
    findings: Vec<Finding>,
    created: Vec<String>,
}

impl World {
    fn of(fixture: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/training/tests/fixtures").join(fixture).with_extension("yaml");
        let objects = api::read_objects(&std::fs::read_to_string(path).unwrap()).unwrap();
        let references =
            References { router: objects.routers.into_iter().next(), queries: Some(Some(QUERIES.to_owned())), ..References::default() };
        Self {
            model: objects.models.into_iter().next().unwrap(),
            references,
            status: RouterModelStatus::default(),
            observed: Observed::default(),
            now: "2026-11-24T11:00:00Z".parse().unwrap(),
            findings: Vec::new(),
            created: Vec::new(),
        }
    }

    /// One visit, without its reads and writes.
    fn try_visit(&mut self) -> Result<Standing, Problem> {
        let valid = match valid::validate(&self.model, &self.references) {
            Ok(valid) => valid,
            Err(problem) => {
                (self.findings, self.status) = report::of_problem(&problem, &self.status, Some(1), self.now);
                return Err(problem);
            }
        };
        let standing = steps::advance(&valid, &self.status, &self.observed, &images(), self.now);
        self.observed.jobs.retain(|job| job.state != JobState::Active || standing.active.as_deref() == Some(job.name.as_str()));
        if let Some(job) = &standing.job {
            let name = job.metadata.name.clone().unwrap();
            self.created.push(job.metadata.labels.as_ref().unwrap()[jobs::STEP].clone());
            self.observed.jobs.push(SeenJob { name, uid: "u".into(), state: JobState::Active });
        }
        (self.findings, self.status) = report::of_standing(&valid, &standing, &self.status, Some(1), self.now);
        Ok(standing)
    }

    fn visit(&mut self) -> Standing {
        self.try_visit().unwrap()
    }

    /// The Job that runs ends well; each of its Pods said so.
    fn complete(&mut self, said: &[Summary]) {
        let at = self.now;
        let job = self.observed.jobs.iter_mut().find(|job| job.state == JobState::Active).expect("a Job runs");
        job.state = JobState::Complete { at };
        let pod = |(index, said): (usize, &Summary)| SeenPod {
            job: job.name.clone(),
            index: u32::try_from(index).ok(),
            created: Some(at),
            state: PodState::Succeeded(said.to_line()),
        };
        let pods: Vec<SeenPod> = said.iter().enumerate().map(pod).collect();
        self.observed.pods.extend(pods);
    }

    fn fail(&mut self, log: &str) {
        let at = self.now;
        let job = self.observed.jobs.iter_mut().find(|job| job.state == JobState::Active).expect("a Job runs");
        job.state = JobState::Failed { message: "BackoffLimitExceeded".into(), at };
        let pod = SeenPod { job: job.name.clone(), index: None, created: Some(at), state: PodState::Failed(log.to_owned()) };
        self.observed.pods.push(pod);
    }

    fn later(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// A visit, and the end of what it began.
    fn go(&mut self, said: &[Summary]) -> Standing {
        self.visit();
        self.complete(said);
        self.visit()
    }

    /// From nothing to a bundle in force.
    fn trained(fixture: &str) -> Self {
        let mut world = Self::of(fixture);
        world.go(&[asked("p0"), asked("p1")]);
        world.go(&[fitted("one")]);
        world.go(&[evaluated("one", 0.70, None)]);
        world.go(&[published("one")]);
        assert_eq!(world.reason("Ready"), "True Published");
        world.created.clear();
        world
    }

    fn reason(&self, kind: &str) -> String {
        let condition = self.status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        format!("{} {}", condition.status, condition.reason)
    }

    fn message(&self, kind: &str) -> &str {
        &self.status.conditions.iter().find(|condition| condition.type_ == kind).unwrap().message
    }

    fn annotate(&mut self, name: &str, value: &str) {
        self.model.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
    }

    fn step(&self, step: Step) -> StepState {
        self.status.steps.iter().find(|status| status.name == step).unwrap().state
    }
}

fn asked(digest: &str) -> Summary {
    Summary::Prepare(Prepared { done: 3, total: 3, spent_usd: 0.25, out_of_money: false, parts: 1, digest: digest.into() })
}

fn fitted(digest: &str) -> Summary {
    Summary::Fit(Fitted { digest: digest.into(), kind: "lexical".into() })
}

fn evaluated(digest: &str, score: f64, in_service: Option<f64>) -> Summary {
    let point = |name: &str, score| Point { name: name.into(), score, cost: Some(1.5) };
    Summary::Evaluate(Evaluated {
        digest: digest.into(),
        split: "test".into(),
        rows: 40,
        router: point(digest, score),
        best_single: point("frontier", 0.65),
        in_service: in_service.map(|score| point("one", score)),
        table: vec![
            ("router at Quality".into(), score, Some(1.5)),
            ("oracle of all".into(), 0.9, None),
            ("oracle of all".into(), 0.1, None),
            ("local".into(), 0.5, None),
            ("frontier".into(), 0.65, Some(1.5)),
        ],
        left_out: 0,
    })
}

fn published(digest: &str) -> Summary {
    Summary::Publish(Published { digest: digest.into() })
}
