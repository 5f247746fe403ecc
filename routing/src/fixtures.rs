//! A router whose numbers all differ, for tests.

use serde_json::{Value, json};

use crate::{Recommended, Scores, Snapshot, Table};

/// `small` is free of charge by the token and paid by the hour, `middle` cheap, `large` dear; `odd` has no price.
pub(crate) fn snapshot_json() -> Value {
    json!({
        "formatVersion": 1, "revision": "r1", "router": "chat",
        "experts": [
            {"name": "small", "baseUrl": "http://127.0.0.1:8001/v1", "modelName": "s", "contextTokens": 1000, "placement": "Edge",
             "prices": {"perHour": 0.36}},
            {"name": "middle", "baseUrl": "http://10.0.0.7:8002/v1", "modelName": "m", "contextTokens": 8000, "maxInFlight": 4,
             "capabilities": ["Tools", "JsonSchema"], "prices": {"inputPerMillion": 0.5, "outputPerMillion": 1.5}},
            {"name": "large", "baseUrl": "https://llm.example.com/v1", "modelName": "l", "contextTokens": 100_000, "placement": "Cloud",
             "capabilities": ["Tools", "Vision"],
             "prices": {"inputPerMillion": 5.0, "outputPerMillion": 15.0, "cachedInputPerMillion": 2.5}},
        ],
        "policy": {"objective": "Quality", "fallbackExpert": "middle", "baselineExpert": "large"},
        "session": {"header": "x-session-id", "ttlSeconds": 1800, "maxSessions": 100, "switchGain": 0.05},
    })
}

/// The fixture with one pointer's value replaced (or added).
pub(crate) fn with(pointer: &str, value: Value) -> Value {
    let mut json = snapshot_json();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match json.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.insert(key.into(), value)),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
    json
}

pub(crate) fn compile(json: Value) -> Table {
    Table::compile(serde_json::from_value::<Snapshot>(json).unwrap()).unwrap()
}

/// With 10, 200 and 400 expected output tokens and 1, 2 and 3 expected seconds.
pub(crate) fn scores(quality: [f32; 3]) -> Scores {
    Scores {
        quality: quality.to_vec(),
        output_tokens: vec![10.0, 200.0, 400.0],
        seconds: vec![1.0, 2.0, 3.0],
        recommended: Recommended::default(),
    }
}
