//! Which bundle comes into force, when, and by whose word.

use super::*;

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
