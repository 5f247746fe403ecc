//! A bundle published and fetched again, whole or not at all.

use std::{fs, path::Path, process::Output};

use model::{
    Bundle,
    bundle::{ExpertEntry, FORMAT_VERSION, Input, Manifest, Output as Meaning},
};
use serde_json::json;

use crate::server::serve;

/// A bundle that is sound as files; nobody runs its graph.
fn bundle(expert: &str) -> Bundle {
    let entry = |name: &str| ExpertEntry { name: name.into(), mean_score: None, mean_output_tokens: None, mean_seconds: None };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        router: "lexical".into(),
        experts: vec![entry("atlas"), entry(expert)],
        output: Meaning::Scores,
        text: model::TextRules::default(),
        inputs: vec![Input::Surface { name: "surface".into(), version: model::lexical::SURFACE_VERSION }],
        encoder: None,
        files: Default::default(),
        training: json!({}),
        evaluation: json!({}),
    };
    Bundle::assemble(manifest, b"a graph".to_vec(), None).unwrap()
}

fn train(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_expert-router-train"));
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

#[track_caller]
fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(words), "{said}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_bundle_goes_over_a_disk_and_the_older_one_stays_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (old, new) = (bundle("birch"), bundle("cedar"));
    old.write(&path("old")).unwrap();
    new.write(&path("new")).unwrap();
    fs::write(path("evaluation.json"), "{}").unwrap();
    let publish = |bundle: &str| {
        let (bundle, with, output) = (path(bundle), path("evaluation.json"), path("out/chat"));
        done(&train(&["publish", "--bundle", text(&bundle), "--with", text(&with), "--output", text(&output)], &[]));
    };
    let fetch = |uri: &str, sha256: &str| train(&["fetch", "--uri", uri, "--sha256", sha256, "--out", text(&path("serving"))], &[]);
    publish("old");
    let output = path("out/chat");
    // By the folder of what was published: what is in force.
    done(&fetch(text(&output), &old.digest));
    assert_eq!(Bundle::read(&path("serving")).unwrap().digest, old.digest);
    publish("new");
    publish("new");
    let of_old = output.join(&old.digest).join("bundle");
    assert!(output.join(&new.digest).join("evaluation.json").is_file() && of_old.join("bundle.json").is_file());
    let current: serde_json::Value = serde_json::from_slice(&fs::read(output.join("current.json")).unwrap()).unwrap();
    assert_eq!(current, json!({"sha256": new.digest, "bundle": format!("{}/bundle", new.digest)}));
    let names: Vec<_> = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing temporary stays: {names:?}");
    done(&fetch(&format!("file://{}", text(&output)), &new.digest));
    assert_eq!(Bundle::read(&path("serving")).unwrap().digest, new.digest);
    // Another digest than was asked for, or a damaged file: what was there stays.
    refused(&fetch(text(&output), &old.digest), "expected SHA-256");
    fs::write(of_old.join("router.onnx"), "another graph").unwrap();
    refused(&fetch(text(&of_old), &old.digest), "router.onnx: expected SHA-256");
    assert_eq!(Bundle::read(&path("serving")).unwrap().digest, new.digest);
    // Published again it is mended.
    publish("old");
    done(&fetch(text(&of_old), &old.digest));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "nothing temporary stays");
}

#[test]
fn a_folder_that_is_no_bundle_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    bundle("birch").write(&path("bundle")).unwrap();
    fs::create_dir(path("home")).unwrap();
    fs::write(path("home/letters"), "dear").unwrap();
    refused(&train(&["fetch", "--uri", text(&path("bundle")), "--out", text(&path("home"))], &[]), "left as it is");
    assert_eq!(fs::read_to_string(path("home/letters")).unwrap(), "dear");
    refused(&train(&["fetch", "--uri", text(&path("nowhere")), "--out", text(&path("new"))], &[]), "there is no such file");
    refused(&train(&["fetch", "--uri", "ftp://a/b", "--out", text(&path("new"))], &[]), "ftp is none of file, http, https, s3, gs, az");
    assert!(!path("new").exists());
    fs::create_dir(path("pointing")).unwrap();
    fs::write(path("pointing/current.json"), r#"{"sha256": "", "bundle": "../bundle"}"#).unwrap();
    refused(&train(&["fetch", "--uri", text(&path("pointing")), "--out", text(&path("new"))], &[]), "is not a folder below");
}

#[test]
fn a_bundle_comes_over_the_web_as_folder_and_as_tar() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bundle = bundle("birch");
    bundle.write(&path("bundle")).unwrap();
    bundle.write_tar(&path("bundle.tar.gz")).unwrap();
    let (url, files) = serve();
    for name in ["bundle.json", "router.onnx"] {
        files.there.lock().unwrap().insert(format!("/chat/{name}"), fs::read(path("bundle").join(name)).unwrap());
    }
    let tar = fs::read(path("bundle.tar.gz")).unwrap();
    files.there.lock().unwrap().insert("/chat.tar.gz".into(), tar.clone());
    let fetch = |uri: &str, sha256: &str, out: &str| train(&["fetch", "--uri", uri, "--sha256", sha256, "--out", text(&path(out))], &[]);
    done(&fetch(&format!("{url}/chat?token=secret"), &bundle.digest, "one"));
    let asked = files.asked.lock().unwrap().clone();
    assert_eq!(asked, ["GET /chat/bundle.json?token=secret", "GET /chat/router.onnx?token=secret"]);
    let of_tar = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&tar));
    done(&fetch(&format!("{url}/chat.tar.gz?token=secret"), &of_tar, "two"));
    for out in ["one", "two"] {
        assert_eq!(Bundle::read(&path(out)).unwrap().digest, bundle.digest);
    }
    // Nothing more is asked for what is here already.
    let asked = files.asked.lock().unwrap().len();
    done(&fetch(&format!("{url}/chat"), &bundle.digest, "one"));
    assert_eq!(files.asked.lock().unwrap().len(), asked);
    files.there.lock().unwrap().insert("/chat/router.onnx".into(), b"half of".to_vec());
    let output = fetch(&format!("{url}/chat?token=secret"), &bundle.digest, "three");
    refused(&output, "router.onnx: expected SHA-256");
    assert!(!path("three").exists() && !String::from_utf8_lossy(&output.stderr).contains("token"), "the query is not told");
    refused(&fetch(&format!("{url}/gone"), &bundle.digest, "three"), "there is no such file");
}

#[test]
fn a_bundle_goes_through_an_object_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bundle = bundle("birch");
    bundle.write(&path("bundle")).unwrap();
    let (url, files) = serve();
    // As a Secret is mounted.
    fs::create_dir(path("store")).unwrap();
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "hush-hush\n"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("unrelated", "x"),
    ] {
        fs::write(path("store").join(name), value).unwrap();
    }
    let credentials = ["--credentials", text(&path("store"))].map(str::to_owned);
    let (source, out) = (path("bundle"), path("out"));
    let publish = ["publish", "--bundle", text(&source), "--output", "s3://models/llm/chat", &credentials[0], &credentials[1]];
    done(&train(&publish, &[]));
    let puts: Vec<String> = files.asked.lock().unwrap().iter().filter(|asked| asked.starts_with("PUT")).cloned().collect();
    let at = |name: &str| format!("PUT /models/llm/chat/{name}");
    let of_bundle = |name: &str| at(&format!("{}/bundle/{name}", bundle.digest));
    assert_eq!(puts, [of_bundle("router.onnx"), of_bundle("bundle.json"), at("current.json")], "readers see the last when all is there");
    assert!(*files.authorised.lock().unwrap(), "signed with the key of the Secret");
    let uri = format!("s3://models/llm/chat/{}/bundle", bundle.digest);
    done(&train(&["fetch", "--uri", &uri, "--sha256", &bundle.digest, "--out", text(&out), &credentials[0], &credentials[1]], &[]));
    assert_eq!(Bundle::read(&out).unwrap().digest, bundle.digest);
    // By the environment, and by what is in force.
    let environment = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    done(&train(&["fetch", "--uri", "s3://models/llm/chat", "--out", text(&path("again"))], &environment));
    let output = train(&["fetch", "--uri", "s3://models/llm/other", "--out", text(&path("other"))], &environment);
    refused(&output, "s3://models/llm/other/bundle.json: there is no such file");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hush"), "{output:?}");
}
