//! What is missing or makes no sense is named, and nothing is taken away for it.

use super::*;
use crate::apply::ApplyError;

/// What the API server says to a write it does not want.
fn quota() -> kube::Error {
    let status = serde_json::json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": "exceeded quota: jobs"});
    kube::Error::Api(serde_json::from_value(status).unwrap())
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
fn a_child_that_cannot_be_written_is_named_and_what_was_trained_stays() {
    let (kind, name) = ("ConfigMap".to_owned(), "chat-training".to_owned());
    let taken = ApplyError::Taken { kind: kind.clone(), name: name.clone(), holder: "somebody else".into() };
    let refused = ApplyError::Write { kind: "Job".into(), name: "chat-fit-0".into(), source: Box::new(quota()) };
    for (error, reason, words) in [(taken, "NameTaken", "ConfigMap chat-training"), (refused, "NotWritten", "exceeded quota: jobs")] {
        let mut world = World::trained("volume");
        let problem = report::unwritten(&error).unwrap();
        (world.findings, world.status) = report::of_problem(&problem, &world.status, Some(2), world.now);
        assert_eq!(world.reason("DataPrepared"), format!("False {reason}"));
        assert_eq!(world.reason("Ready"), format!("False {reason}"));
        assert!(world.message("Ready").contains(words), "{}", world.message("Ready"));
        assert_eq!((world.status.observed_generation, world.reason("Published").as_str()), (Some(2), "True Published"));
        assert_eq!(world.status.bundle.as_ref().unwrap().digest, "one");
        world.visit();
        assert_eq!((world.reason("Ready").as_str(), world.created.len()), ("True Published", 0), "once it can be written");
    }
    let unreachable = ApplyError::Write { kind, name, source: Box::new(kube::Error::LinesCodecMaxLineLengthExceeded) };
    assert_eq!(report::unwritten(&unreachable), None);
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
