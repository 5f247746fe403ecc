//! From manifests to Jobs, and step by step to a bundle in force; the same whatever is lost or repeated.

use serde_json::json;

use super::*;

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
        settings.set_snapshot_path("snapshots");
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
    assert_eq!(world.status.evaluation.len(), 4, "a name stands once");
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
fn names_of_jobs_fit_and_tell_models_apart() {
    for length in [40, 44, 200] {
        let mut world = World::of("volume");
        world.model.metadata.name = Some("a".repeat(length));
        let long = world.visit().active.unwrap();
        assert!(format!("{long}-999").len() <= 63, "a Job with an index is refused else: {long}");
    }
    let mut other = World::of("volume");
    other.model.metadata.uid = Some("8".into());
    assert_ne!(World::of("volume").visit().active, other.visit().active);
}
