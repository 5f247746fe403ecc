//! Manifests in, snapshots out: each `fixtures/*.yaml` beside the snapshot it makes. Add a case by adding a file.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{fs, path::Path};

use api::{Standalone, read_manifest};

fn standalone() -> Standalone {
    Standalone {
        base_directory: "/srv/router".into(),
        secrets_directory: Some("/etc/secrets".into()),
        expert_urls: [("local".to_owned(), "http://127.0.0.1:8080/v1".to_owned())].into(),
    }
}

#[test]
fn each_fixture_makes_its_snapshot() {
    let mut cases: Vec<_> = fs::read_dir("fixtures").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    assert!(cases.len() >= 4);
    for case in cases {
        let yaml = fs::read_to_string(&case).unwrap();
        let name = case.file_stem().unwrap().to_str().unwrap();
        let mut standalone = standalone();
        standalone.expert_urls.retain(|_, _| name == "whole");
        let snapshot = read_manifest(&yaml, &standalone).unwrap_or_else(|error| panic!("{name}: {error}"));
        insta::with_settings!({snapshot_path => "../fixtures", prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_json_snapshot!(name, snapshot);
        });
    }
}

#[test]
fn the_revision_changes_with_the_content_and_not_with_the_text() {
    let yaml = fs::read_to_string(Path::new("fixtures/least.yaml")).unwrap();
    let revision = |yaml: &str| read_manifest(yaml, &Standalone::default()).unwrap().revision;
    assert_eq!(revision(&yaml), revision(&format!("# a comment\n{yaml}")));
    assert_ne!(revision(&yaml), revision(&yaml.replace("llama", "lama")));
    assert_eq!(revision(&yaml).len(), 16);
}

#[test]
fn the_manual_s_example_is_a_manifest() {
    let page = fs::read_to_string("../docs/manifest.md").unwrap();
    let yaml = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let snapshot = read_manifest(yaml, &Standalone { secrets_directory: Some("s".into()), ..Standalone::default() }).unwrap();
    assert_eq!(snapshot.experts.len(), 3);
    assert_eq!(snapshot.model.unwrap().uri, "bundles/chat");
}

#[test]
fn a_change_of_spent_money_is_a_change_of_the_snapshot() {
    let yaml = fs::read_to_string("fixtures/whole.yaml").unwrap();
    let router = api::read_objects(&yaml).unwrap().routers.remove(0);
    let spec_without_names = {
        let mut router = router;
        router.spec.client_keys = None;
        router.spec.experts.retain(|expert| expert.credentials.is_none());
        router.spec.policy = api::router::Policy::default();
        router
    };
    let snapshot = |spent: f64| {
        let references = api::References {
            expert_urls: [("local".to_owned(), "http://chat-local.llm.svc:8080/v1".to_owned())].into(),
            namespace: "llm".into(),
            spent: [("month".to_owned(), (spent, 1_793_491_200))].into(),
            ..api::References::default()
        };
        api::snapshot(&spec_without_names, &references).unwrap()
    };
    let (before, after) = (snapshot(1.0), snapshot(2.0));
    assert_eq!((after.budgets[0].spent_usd, after.budgets[0].period_start, after.budgets[1].spent_usd), (2.0, 1_793_491_200, 0.0));
    assert_ne!(before.revision, after.revision);
}
