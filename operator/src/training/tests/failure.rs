//! Jobs that fail, stop for want of money, or wait.

use serde_json::json;

use super::*;

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
