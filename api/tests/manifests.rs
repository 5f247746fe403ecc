//! Manifests in, snapshots out: each `fixtures/*.yaml` beside the snapshot it makes. Add a case by adding a file.

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
