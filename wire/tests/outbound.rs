//! Client JSON in, what is read of it and the forwarded JSON out: one file per case in `fixtures/`. Add a case by adding a file with
//! its first two sections and running with `UPDATE_FIXTURES=1`; then read what came out.

#![expect(clippy::unwrap_used, reason = "a test, its helpers included, stops at the first surprise")]

use std::{fmt::Write, fs, path::Path};

use bytes::Bytes;
use serde_json::{Map, Value};
use wire::{Endpoint, Inbound, Outbound};

#[test]
fn forwarded_bodies_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "fixtures are gone");
    for file in files {
        check(&file);
    }
}

fn check(file: &Path) {
    let recorded = fs::read_to_string(file).unwrap();
    let (head, rest) = recorded.split_once("\n--- client\n").unwrap();
    let (client, _) = rest.split_once("\n--- read\n").unwrap();
    let (path, change) = head.split_once('\n').unwrap();
    let endpoint = Endpoint::of_path(path.trim_start_matches("POST ")).unwrap();
    let inbound = Inbound::parse(endpoint, Bytes::from(client.to_owned())).unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
    let forwarded = forward(&inbound, &serde_json::from_str(change).unwrap());
    let actual = format!("{head}\n--- client\n{client}\n--- read\n{}--- forwarded\n{forwarded}\n", facts(&inbound));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(file, actual).unwrap();
    } else {
        assert_eq!(actual, recorded, "{}", file.display());
    }
}

fn forward(inbound: &Inbound, change: &Map<String, Value>) -> String {
    let out = inbound.outbound(&Outbound {
        model_name: change["model_name"].as_str().unwrap(),
        prepend_messages: change.get("prepend_messages").and_then(Value::as_array).map_or(&[], Vec::as_slice),
        body_overrides: change.get("body_overrides").and_then(Value::as_object).unwrap_or(&Map::new()),
        ask_usage: change.get("ask_usage").and_then(Value::as_bool).unwrap_or_default(),
    });
    String::from_utf8(out.to_vec()).unwrap()
}

fn facts(inbound: &Inbound) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Debug| writeln!(text, "{name}: {value:?}").unwrap();
    line("model", &inbound.model());
    line("stream, usage asked", &(inbound.stream(), inbound.usage_asked()));
    line("max output tokens, choices", &(inbound.max_output_tokens(), inbound.choices()));
    line("needs", &inbound.needs());
    for turn in inbound.prompt().turns {
        line(&turn.role, &turn.text);
    }
    let opening = inbound.conversation_opening().map_or("none".to_owned(), |bytes| bytes.escape_ascii().to_string());
    writeln!(text, "opening: {opening}").unwrap();
    text
}
