//! What is done again, and what is not, when something changes or the time has come.

use super::*;

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
fn the_bundle_in_force_is_asked_for_only_where_it_was_published() {
    for (claim, expect) in [("router-models", true), ("elsewhere", false)] {
        let mut world = World::trained("volume");
        world.model.spec.output.persistent_volume_claim.as_mut().unwrap().name = claim.to_owned();
        world.model.spec.router.seed = Some(7);
        if world.visit().prepared.done().is_none() {
            // The answers lay beside the output.
            world.complete(&[asked("p0"), asked("p1")]);
        }
        let job = world.go(&[fitted("two")]).job.unwrap();
        let arguments = job.spec.unwrap().template.spec.unwrap().containers[0].args.clone().unwrap();
        assert_eq!(arguments.iter().any(|argument| argument == "--in-force"), expect, "{claim}: {arguments:?}");
        assert_eq!(world.status.bundle.as_ref().unwrap().uri, "pvc://router-models/llm/chat/one/bundle", "it stays in force");
    }
}
