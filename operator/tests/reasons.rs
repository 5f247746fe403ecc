//! Reasons of conditions: those in the code, those that `api::status` lists, and those in the manual are the same.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{collections::BTreeSet, fs, path::Path};

use api::status::{model_conditions, router_conditions};

/// Words in capitals that are no reasons: verdicts, conditions of others, and values of theirs.
const OTHERS: [&str; 4] = ["True", "False", "Unknown", "OOMKilled"];

/// String literals in a file of the operator, less its tests, that look like a reason.
fn words(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let looks_like_one = |word: &&str| {
        word.len() > 2 && word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let literals = code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| line.split('"').skip(1).step_by(2));
    literals.filter(looks_like_one).filter(|word| !OTHERS.contains(word)).map(str::to_owned).collect()
}

fn check(files: &[&str], listed: &[&str]) {
    let used: BTreeSet<String> = files.iter().flat_map(|file| words(file)).collect();
    let listed: BTreeSet<String> = listed.iter().map(|word| (*word).to_owned()).collect();
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| these.difference(those).cloned().collect::<Vec<_>>();
    assert_eq!((only(&used, &listed), only(&listed, &used)), (vec![], vec![]), "used and not listed, listed and not used, in {files:?}");
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/status.md")).unwrap();
    let missing: Vec<_> = listed.iter().filter(|reason| !manual.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "not in docs/status.md: {missing:?}");
}

#[test]
fn every_reason_of_a_router_is_listed_and_in_the_manual() {
    check(&["router/judge.rs", "router/bundle.rs", "router/experts.rs", "router/valid.rs"], &router_conditions::REASONS);
}

#[test]
fn every_reason_of_a_model_is_listed_and_in_the_manual() {
    check(&["training/report.rs", "training/valid.rs", "training/valid/places.rs"], &model_conditions::REASONS);
}
