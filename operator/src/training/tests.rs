//! Trainings played: manifests in, Jobs out; each Job's end told, and what follows looked at.

use std::path::Path;

use api::{
    RouterModel,
    status::{RouterModelStatus, Step, StepState},
    training::{Evaluated, Fitted, PROMOTE_ANNOTATION, Point, Prepared, Published, RETRAIN_ANNOTATION, Summary},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

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
        table: vec![("router at Quality".into(), score, Some(1.5)), ("oracle".into(), 0.9, None), ("oracle".into(), 0.1, None)],
        left_out: 0,
    })
}

fn published(digest: &str) -> Summary {
    Summary::Publish(Published { digest: digest.into() })
}

#[test]
fn manifests_become_jobs() {
    for fixture in ["volume", "store"] {
        let mut world = World::of(fixture);
        let valid = valid::validate(&world.model, &world.references).unwrap();
        let mut children = vec![json!(jobs::config_map(&valid)), json!(jobs::claim(&valid))];
        let parts: Vec<Summary> = (0..jobs::parts(&valid)).map(|part| asked(&format!("p{part}"))).collect();
        world.annotate(PROMOTE_ANNOTATION, "two");
        for said in [&parts[..], &[fitted("two")], &[evaluated("two", 0.99, None)]] {
            children.push(json!(world.visit().job.unwrap()));
            world.complete(said);
        }
        children.push(json!(world.visit().job.unwrap()));
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("tests/snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.bind(|| insta::assert_yaml_snapshot!(fixture, children));
    }
}

#[test]
fn a_training_goes_step_by_step_and_ends_published() {
    let mut world = World::of("volume");
    world.visit();
    assert_eq!((world.reason("DataPrepared").as_str(), world.reason("Trained").as_str()), ("False Asking", "False Waiting"));
    assert_eq!(world.reason("Ready"), "False Asking");
    assert_eq!(world.status.progress.map(|progress| (progress.done, progress.total)), Some((0, 6)));
    world.complete(&[asked("p0"), asked("p1")]);
    world.visit();
    assert_eq!((world.reason("DataPrepared").as_str(), world.reason("Trained").as_str()), ("True Prepared", "False Fitting"));
    assert_eq!(world.status.cost_usd.as_deref(), Some("0.500000"));
    world.complete(&[fitted("one")]);
    world.visit();
    assert_eq!(world.reason("Evaluated"), "False Evaluating");
    assert_eq!(world.status.candidate.as_ref().unwrap().digest, "one");
    world.complete(&[evaluated("one", 0.70, None)]);
    world.visit();
    assert_eq!((world.reason("Evaluated").as_str(), world.reason("Published").as_str()), ("True Evaluated", "False Publishing"));
    assert_eq!(world.status.evaluation.len(), 2, "a name stands once");
    world.complete(&[published("one")]);
    world.visit();
    assert_eq!(world.reason("Ready"), "True Published");
    let bundle = world.status.bundle.clone().unwrap();
    assert_eq!((bundle.uri.as_str(), bundle.digest.as_str()), ("pvc://router-models/llm/chat/one/bundle", "one"));
    assert_eq!(world.status.candidate, None);
    assert_eq!(world.created, ["prepare", "fit", "evaluate", "publish"]);
}

#[test]
fn at_rest_nothing_changes_and_nothing_is_made() {
    let mut world = World::trained("volume");
    let before = world.status.clone();
    world.observed = Observed::default();
    world.later(7 * 24 * 3600);
    let standing = world.visit();
    assert_eq!((world.status.clone(), world.created.len(), standing.look_at), (before, 0, None));
}

#[test]
fn a_visit_repeated_changes_nothing_at_any_point() {
    let mut world = World::of("volume");
    for said in [&[asked("p0"), asked("p1")][..], &[fitted("one")], &[evaluated("one", 0.7, None)], &[published("one")]] {
        world.visit();
        let (before, created) = (world.status.clone(), world.created.clone());
        world.later(1);
        world.visit();
        assert_eq!((&world.status, &world.created), (&before, &created));
        world.complete(said);
    }
}

#[test]
fn a_status_that_was_lost_is_found_again_from_the_jobs() {
    let mut world = World::trained("volume");
    world.status = RouterModelStatus::default();
    for _ in 0..4 {
        world.visit();
    }
    assert_eq!((world.reason("Ready").as_str(), world.created.len()), ("True Published", 0));
}

#[test]
fn a_price_alone_asks_nobody_and_trains_nothing() {
    let mut world = World::trained("volume");
    world.references.router.as_mut().unwrap().spec.experts[2].pricing = None;
    world.go(&[evaluated("one", 0.70, None)]);
    assert_eq!(world.created, ["evaluate"]);
    assert_eq!(world.reason("Ready"), "True Published");
}

#[test]
fn what_does_not_change_answers_asks_nobody() {
    let mut world = World::trained("volume");
    let router = world.references.router.as_mut().unwrap();
    router.spec.experts.reverse();
    router.spec.experts[0].context_tokens = Some(9000);
    router.spec.experts[2].deployment.as_mut().unwrap().replicas = Some(7);
    world.model.spec.job.max_cost_usd = api::Decimal::parse("50");
    world.model.spec.promotion.required_gain = api::Decimal::parse("0.5");
    world.model.spec.job.parallelism = Some(1);
    world.visit();
    assert_eq!((world.created.len(), world.reason("Ready").as_str()), (0, "True Published"));
    world.model.spec.router.seed = Some(7);
    let job = world.visit().job.unwrap();
    let arguments = job.spec.unwrap().template.spec.unwrap().containers[0].args.clone().unwrap();
    assert_eq!(arguments[arguments.len() - 2..], ["--parts", "2"], "where the answers lie");
}

#[test]
fn what_changes_answers_asks_again() {
    type Change = fn(&mut World);
    let changes: [Change; 7] = [
        |world| world.references.queries = Some(Some(format!("{QUERIES}{{\"id\":\"3\",\"prompt\":\"c\"}}\n"))),
        |world| drop(world.references.router.as_mut().unwrap().spec.experts.remove(1)),
        |world| world.references.router.as_mut().unwrap().spec.experts[1].model_name = "other".into(),
        |world| world.references.router.as_mut().unwrap().spec.experts[1].prepend_messages.clear(),
        |world| world.references.router.as_mut().unwrap().spec.experts[1].service.as_mut().unwrap().port = 1,
        |world| world.references.router.as_mut().unwrap().spec.experts[0].deployment.as_mut().unwrap().image = "other".into(),
        |world| world.annotate(RETRAIN_ANNOTATION, "now"),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut world = World::trained("volume");
        change(&mut world);
        world.visit();
        assert_eq!(world.created, ["prepare"], "change {number}");
        assert_eq!(world.reason("Ready"), "False Asking");
        assert_eq!(world.status.bundle.as_ref().unwrap().digest, "one", "the bundle stays in force");
        if number == 1 {
            continue;
        }
        // The same answers came back: there is nothing to train.
        world.complete(&[asked("p0"), asked("p1")]);
        world.visit();
        assert_eq!((world.created.len(), world.reason("Ready").as_str()), (1, "True Published"), "change {number}");
    }
}

#[test]
fn parameters_train_again_without_asking() {
    let mut world = World::trained("volume");
    world.model.spec.router.seed = Some(7);
    world.visit();
    assert_eq!(world.created, ["fit"]);
    let mut world = World::trained("volume");
    world.model.spec.router.objective = Some(routing::snapshot::Objective::Cost);
    world.visit();
    assert_eq!(world.created, ["fit"], "for Cost the choice among routers looks at prices");
}

#[test]
fn a_better_bundle_takes_the_place_and_a_worse_one_does_not() {
    for (score, in_service, expect, digest) in [
        (0.75, Some(0.70), "True Published", "two"),
        (0.72, Some(0.73), "True OlderKept", "one"),
        (0.655, None, "False GainTooSmall", "one"),
    ] {
        let mut world = World::trained("volume");
        world.model.spec.router.seed = Some(7);
        world.go(&[fitted("two")]);
        world.complete(&[evaluated("two", score, in_service)]);
        world.visit();
        if digest == "two" {
            world.complete(&[published("two")]);
            world.visit();
        }
        assert_eq!(world.reason("Published"), expect);
        assert_eq!(world.status.bundle.as_ref().unwrap().digest, digest);
        assert_eq!(world.status.candidate.is_some(), digest == "one");
        let (before, created) = (world.status.clone(), world.created.len());
        world.visit();
        assert_eq!((world.status.clone(), world.created.len()), (before, created));
    }
}

#[test]
fn a_better_bundle_is_published_only_after_its_time_in_shadow() {
    let mut world = World::of("volume");
    world.model.spec.promotion.shadow_percent = Some(10);
    world.model.spec.promotion.shadow_seconds = Some(600);
    world.go(&[asked("p0"), asked("p1")]);
    world.go(&[fitted("first")]);
    world.later(100);
    let standing = world.go(&[evaluated("first", 0.9, None)]);
    assert_eq!((world.reason("Published").as_str(), standing.job), ("False InShadow", None));
    assert!(world.message("Published").contains("expertrouter.dev/promote=first"), "{}", world.message("Published"));
    assert_eq!(standing.look_at, standing.shadow_until);
    assert_eq!(world.status.candidate.as_ref().unwrap().digest, "first");
    world.later(499);
    world.visit();
    assert_eq!(world.reason("Published"), "False InShadow");
    world.later(1);
    world.visit();
    assert_eq!(world.reason("Published"), "False Publishing");
    world.go(&[published("first")]);
    assert_eq!(world.status.bundle.as_ref().unwrap().digest, "first");
    assert_eq!(world.status.candidate, None);
}

#[test]
fn a_person_promotes_by_digest() {
    let mut world = World::of("volume");
    world.model.spec.promotion.mode = None;
    world.go(&[asked("p0"), asked("p1")]);
    world.go(&[fitted("one")]);
    world.go(&[evaluated("one", 0.60, None)]);
    assert_eq!((world.reason("Evaluated").as_str(), world.reason("Published").as_str()), ("False NoBetter", "False AwaitsPromotion"));
    assert!(world.message("Published").contains("expertrouter.dev/promote=one"), "{}", world.message("Published"));
    world.annotate(PROMOTE_ANNOTATION, "zero");
    world.visit();
    assert!(world.message("Published").contains("names another bundle now, zero"), "{}", world.message("Published"));
    world.annotate(PROMOTE_ANNOTATION, "one");
    world.go(&[published("one")]);
    assert_eq!((world.reason("Published").as_str(), world.status.bundle.as_ref().unwrap().digest.as_str()), ("True Published", "one"));
}

#[test]
fn a_job_that_failed_says_why_and_is_tried_again_ever_later() {
    let mut world = World::trained("volume");
    world.model.spec.router.seed = Some(7);
    world.visit();
    for (attempt, pause) in [30, 60, 120, 240].into_iter().enumerate() {
        world.fail("error: no rows");
        let standing = world.visit();
        assert_eq!(world.reason("Trained"), "False Failed");
        assert!(world.message("Trained").contains("BackoffLimitExceeded: error: no rows"), "{}", world.message("Trained"));
        assert_eq!(world.created.len(), attempt + 1);
        assert_eq!(standing.look_at.unwrap().duration_since(world.now).as_secs(), pause);
        assert_eq!(world.status.bundle.as_ref().unwrap().digest, "one", "the bundle stays in force");
        world.later(pause - 1);
        world.visit();
        assert_eq!(world.created.len(), attempt + 1, "too early");
        world.later(1);
        world.visit();
        assert_eq!(world.created.len(), attempt + 2);
    }
    world.complete(&[fitted("two")]);
    world.visit();
    assert_eq!(world.reason("Trained"), "True Fitted");
    assert_eq!(steps::pause(1000).as_secs(), 3600);
}

#[test]
fn a_change_of_the_job_tries_a_failed_step_again_at_once_and_leaves_a_running_one() {
    let mut world = World::of("volume");
    world.visit();
    world.model.spec.job.resources = Some(serde_json::from_value(json!({"limits": {"memory": "1Gi"}})).unwrap());
    world.visit();
    assert_eq!(world.created.len(), 1, "it goes on as it is");
    world.fail("OOMKilled");
    world.visit();
    world.model.spec.job.resources = Some(serde_json::from_value(json!({"limits": {"memory": "9Gi"}})).unwrap());
    world.visit();
    assert_eq!(world.created.len(), 2);
    world.fail("401: no such key");
    world.visit();
    world.references.secret_versions.insert("frontier".into(), "2".into());
    world.visit();
    assert_eq!(world.created.len(), 3, "a new key is tried at once");
}

#[test]
fn money_that_ran_out_stops_and_more_of_it_goes_on() {
    let mut world = World::of("volume");
    let Summary::Prepare(poor) = asked("p1") else { unreachable!() };
    let poor = Summary::Prepare(Prepared { done: 1, out_of_money: true, ..poor });
    world.go(&[asked("p0"), poor]);
    assert_eq!((world.reason("Ready").as_str(), world.created.len()), ("False BudgetSpent", 1));
    assert!(world.message("DataPrepared").contains("4 of 6 answers"), "{}", world.message("DataPrepared"));
    world.later(100_000);
    world.visit();
    assert_eq!(world.created.len(), 1);
    world.model.spec.job.max_cost_usd = api::Decimal::parse("6");
    world.go(&[asked("p0"), asked("p1")]);
    assert_eq!((world.reason("DataPrepared").as_str(), world.created.last().unwrap().as_str()), ("True Prepared", "fit"));
}

#[test]
fn a_job_whose_inputs_are_no_more_is_ended() {
    let mut world = World::of("volume");
    let first = world.visit().active.unwrap();
    world.references.queries = Some(Some("{\"id\":\"9\",\"prompt\":\"z\"}\n".into()));
    let second = world.visit();
    assert_ne!(second.active.as_deref(), Some(first.as_str()));
    assert!(world.observed.job(&first).is_none());
}

#[test]
fn the_schedule_looks_again_and_trains_only_for_news() {
    let mut world = World::of("store");
    let go = |world: &mut World, digest: &str| {
        world.visit();
        world.complete(&[asked(digest)]);
        world.visit()
    };
    go(&mut world, "p0");
    world.go(&[fitted("one")]);
    world.go(&[evaluated("one", 0.70, None)]);
    world.created.clear();
    let standing = world.visit();
    assert_eq!(standing.look_at, Some("2026-11-25T00:00:00Z".parse().unwrap()));
    world.later(14 * 3600);
    go(&mut world, "p0");
    assert_eq!(world.created, ["prepare"]);
    assert_eq!(world.reason("Published"), "False AwaitsPromotion");
    world.visit();
    assert_eq!(world.created, ["prepare"], "once a tick");
    world.later(5 * 24 * 3600);
    go(&mut world, "p9");
    assert_eq!(world.created, ["prepare", "prepare", "fit"]);
}

#[test]
fn pods_that_are_gone_or_say_something_else_are_a_failure() {
    let mut world = World::of("volume");
    world.visit();
    world.complete(&[asked("p0")]);
    world.visit();
    assert!(world.message("DataPrepared").contains("the Pod of part 1 that did it is gone"), "{}", world.message("DataPrepared"));
    assert_eq!(world.step(Step::Prepare), StepState::Failed);
    world.later(60);
    world.go(&[fitted("one"), fitted("one")]);
    assert!(world.message("DataPrepared").contains("another step"), "{}", world.message("DataPrepared"));
}

#[test]
fn what_holds_a_job_up_is_said() {
    let mut world = World::of("volume");
    let job = world.visit().active.unwrap();
    let state = PodState::Active(Some("ErrImagePull: no such image".into()));
    world.observed.pods.push(SeenPod { job, index: Some(0), created: None, state });
    world.visit();
    assert!(world.message("Ready").ends_with("held up: ErrImagePull: no such image"), "{}", world.message("Ready"));
}

#[test]
fn what_is_missing_is_named_and_what_was_trained_stays() {
    type Change = fn(&mut World);
    let changes: [(&str, &str, Change); 9] = [
        ("RouterMissing", "no ExpertRouter chat", |world| world.references.router = None),
        ("QueriesMissing", "no ConfigMap chat-queries", |world| world.references.queries = None),
        ("QueriesMissing", "no key queries.jsonl", |world| world.references.queries = Some(None)),
        ("QueriesMissing", "has no queries", |world| world.references.queries = Some(Some("\n".into()))),
        ("SecretMissing", "no Secret frontier", |world| world.references.missing_secrets.push("there is no Secret frontier".into())),
        ("VolumeMissing", "router-models", |world| world.references.missing_claims.push("router-models".into())),
        ("ExpertsUnresolved", "at least two", |world| world.references.router.as_mut().unwrap().spec.experts.truncate(1)),
        ("ExpertsUnresolved", "its clients' own authorization", |world| {
            world.references.router.as_mut().unwrap().spec.experts[1].forward_authorization = Some(true);
        }),
        ("Invalid", "spec.schedule: minute", |world| world.model.spec.schedule = Some("61 * * * *".into())),
    ];
    for (reason, words, change) in changes {
        let mut world = World::trained("volume");
        change(&mut world);
        assert!(world.try_visit().is_err());
        assert_eq!(world.reason("Ready"), format!("False {reason}"));
        assert!(world.message("Ready").contains(words), "{}", world.message("Ready"));
        assert_eq!(world.reason("Published"), "True Published");
        assert_eq!(world.status.bundle.as_ref().unwrap().digest, "one");
        let before = world.status.clone();
        world.later(60);
        assert!(world.try_visit().is_err());
        assert_eq!(world.status, before);
    }
}

#[test]
fn paths_do_not_lead_out_of_a_volume_and_places_outside_of_clusters_are_refused() {
    let check = |change: fn(&mut RouterModel), words: &str| {
        let mut world = World::of("volume");
        change(&mut world.model);
        let problem = world.try_visit().map(drop).unwrap_err();
        assert!(problem.reason == "Invalid" && problem.message.contains(words), "{problem:?}");
    };
    check(|model| model.spec.output.persistent_volume_claim.as_mut().unwrap().path = Some("a/../../b".into()), "within the volume");
    check(
        |model| {
            model.spec.output.persistent_volume_claim = None;
            model.spec.output.directory = Some("x".into());
        },
        "spec.output.directory",
    );
    check(
        |model| {
            model.spec.output.persistent_volume_claim = None;
            model.spec.output.uri = Some("ftp://x/y".into());
        },
        "spec.output.uri",
    );
    check(
        |model| {
            model.spec.queries.config_map_ref = None;
            model.spec.queries.uri = Some("queries.jsonl".into());
        },
        "spec.queries.uri",
    );
}

#[test]
fn names_of_jobs_fit_and_tell_models_apart() {
    let mut world = World::of("volume");
    world.model.metadata.name = Some("a".repeat(200));
    let long = world.visit().active.unwrap();
    assert!(long.len() <= 63, "{long}");
    let mut other = World::of("volume");
    other.model.metadata.uid = Some("8".into());
    assert_ne!(World::of("volume").visit().active, other.visit().active);
}
