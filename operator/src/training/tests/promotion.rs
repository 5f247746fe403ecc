//! Which bundle comes into force, when, and by whose word.

use std::collections::BTreeSet;

use super::*;
use crate::router::dereference::model_facts;

/// The experts that a router takes the bundle in force to know.
fn known(world: &World) -> BTreeSet<String> {
    let model = RouterModel { status: Some(world.status.clone()), ..world.model.clone() };
    model_facts(&model).known_experts.expect("the table of a small pool is whole")
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
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
fn the_experts_of_the_bundle_in_force_are_known_whatever_is_on_trial() {
    let mut world = World::trained("volume");
    world.model.spec.promotion.mode = None;
    assert_eq!(known(&world), names(&["frontier", "local"]));
    let experts = &mut world.references.router.as_mut().unwrap().spec.experts;
    let added = api::router::Expert { name: "added".into(), ..experts[2].clone() };
    experts.push(added);
    world.go(&[asked("q0"), asked("q1")]);
    assert_eq!(world.status.candidate, None, "asked anew, and nothing is on trial yet");
    assert_eq!(known(&world), names(&["frontier", "local"]));
    world.go(&[fitted("two")]);
    assert_eq!(world.status.candidate.as_ref().unwrap().digest, "two");
    assert_eq!(known(&world), names(&["frontier", "local"]));
    let Summary::Evaluate(mut found) = evaluated("two", 0.75, Some(0.70)) else { unreachable!("it is an evaluation") };
    found.table.push(("added".into(), 0.6, None));
    world.go(&[Summary::Evaluate(found)]);
    assert_eq!((world.reason("Published").as_str(), world.status.evaluation.len()), ("False AwaitsPromotion", 5));
    assert_eq!(known(&world), names(&["frontier", "local"]));
    world.annotate(PROMOTE_ANNOTATION, "two");
    world.go(&[published("two")]);
    assert_eq!(known(&world), names(&["added", "frontier", "local"]));
}

#[test]
fn the_experts_of_a_bundle_published_before_they_were_kept_are_filled_in_and_no_event() {
    let mut world = World::trained("volume");
    let whole = world.status.clone();
    world.status.bundle.as_mut().unwrap().experts.clear();
    let before = world.status.clone();
    let standing = world.visit();
    assert_eq!(world.status, whole);
    assert_eq!(crate::training::happenings(&standing, &before, &world.status), []);
}
