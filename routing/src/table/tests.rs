use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{compile, snapshot_json, with};

/// One field of a sound snapshot replaced: the error's text, or that there is none.
#[track_caller]
fn check(pointer: &str, value: Value, expected: Option<&str>) {
    let snapshot: Snapshot = serde_json::from_value(with(pointer, value)).unwrap();
    let error = Table::compile(snapshot).err().map(|error| error.to_string());
    match (error.as_deref(), expected) {
        (Some(error), Some(expected)) => assert!(error.starts_with(expected), "{error}"),
        (error, expected) => assert_eq!(error, expected),
    }
}

#[test]
fn names_are_checked_by_field() {
    check("/formatVersion", json!(2), Some("formatVersion: expected 1, got 2"));
    check("/router", json!(""), Some("router: expected a name"));
    check("/experts", json!([]), Some("experts: expected at least one expert"));
    check("/experts/1/name", json!("a b"), Some("experts[1].name: expected a name of letters"));
    check("/experts/1/name", json!("small"), Some("experts[1].name: expected a unique name, \"small\" is that of experts[0]"));
    check("/experts/1/name", json!("Auto"), Some("experts[1].name: expected another name: \"auto\" is the model that routes"));
    check("/router", json!("large"), Some("experts[2].name: expected another name: \"large\" is the router's"));
    check("/experts/2/modelName", json!(" "), Some("experts[2].modelName: expected what"));
    check("/policy/fallbackExpert", json!("huge"), Some("policy.fallbackExpert: expected one of the experts (small, middle, large), got"));
    check("/policy/baselineExpert", json!("huge"), Some("policy.baselineExpert: expected one of"));
}

#[test]
fn urls_are_checked_and_a_password_in_one_is_not_repeated() {
    let field = "/experts/0/baseUrl";
    for good in ["http://h", "https://h.example:8443/v1", "http://[::1]:8080/v1", "http://10.0.0.7/a/b/v1", "http://under_score:1/"] {
        check(field, json!(good), None);
    }
    for bad in [
        "",
        "h:80",
        "ftp://h",
        "http://",
        "http:///v1",
        "http://h:0",
        "http://h:99999",
        "http://h:x",
        "http://h?q=1",
        "http://h#f",
        "http://[::1/v1",
        "http://[zz]:1",
        "http://h /v1",
        "http://h\n/v1",
        "http://h\u{e4}/v1",
        "http://[::1]8080",
        "HTTP://h",
    ] {
        check(field, json!(bad), Some("experts[0].baseUrl: expected http://host"));
    }
    let snapshot: Snapshot = serde_json::from_value(with(field, json!("http://user:secret@h/v1"))).unwrap();
    let error = Table::compile(snapshot).unwrap_err().to_string();
    assert!(error.contains("credentials") && !error.contains("secret"), "{error}");
}

#[test]
fn numbers_are_checked_by_field() {
    check("/experts/1/prices/inputPerMillion", json!(-0.5), Some("experts[1].prices.inputPerMillion: expected a number from 0"));
    check("/experts/1/prices/perRequest", json!(1e300), Some("experts[1].prices.perRequest: expected a number from 0"));
    check("/experts/2/prices/cachedInputPerMillion", json!(-1.0), Some("experts[2].prices.cachedInputPerMillion: expected"));
    check("/experts/0/contextTokens", json!(0), Some("experts[0].contextTokens: expected at least 1"));
    check("/experts/0/maxInFlight", json!(0), Some("experts[0].maxInFlight: expected at least 1"));
    check("/experts/0/timeouts", json!({"idleMilliseconds": 0}), Some("experts[0].timeouts.idleMilliseconds: expected 1 to"));
    check("/experts/0/health", json!({"baseEjectionSeconds": 0}), Some("experts[0].health.baseEjectionSeconds: expected at least 1"));
    check("/experts/0/health", json!({"maxEjectionSeconds": 1}), Some("experts[0].health.maxEjectionSeconds: expected at least"));
    check("/experts/0/health", json!({"consecutiveFailures": 0, "baseEjectionSeconds": 0}), None);
    check("/policy/qualityTolerance", json!(-0.1), Some("policy.qualityTolerance: expected a number from 0"));
    check("/policy/weights", json!({"latency": -1.0}), Some("policy.weights.latency: expected"));
    check("/policy/scoreDeadlineMilliseconds", json!(0), Some("policy.scoreDeadlineMilliseconds: expected at least 1"));
    check("/policy/retryBudgetPercent", json!(1001), Some("policy.retryBudgetPercent: expected 0 to 1000"));
    check("/session/ttlSeconds", json!(0), Some("session.ttlSeconds: expected at least 1"));
    check("/session/maxSessions", json!(0), Some("session.maxSessions: expected at least 1"));
    check("/session/header", json!("x session"), Some("session.header: expected the name of an HTTP header"));
}

#[test]
fn messages_overrides_models_and_budgets_are_checked_by_field() {
    let budget = |name: &str, amount: f64| json!({"name": name, "amountUsd": amount, "period": "Day", "onExceeded": "Refuse"});
    check("/experts/0/prependMessages", json!([{"content": "hi"}]), Some("experts[0].prependMessages[0].role: expected"));
    check("/experts/0/prependMessages", json!([{"role": "system", "content": "hi"}]), None);
    check("/experts/0/bodyOverrides", json!({"messages": []}), Some("experts[0].bodyOverrides.messages: expected another field"));
    check("/experts/0/bodyOverrides", json!({"temperature": 0}), None);
    check("/model", json!({"uri": ""}), Some("model.uri: expected the path of a bundle"));
    check("/model", json!({"uri": "b", "sha256": "12"}), Some("model.sha256: expected 64 hexadecimal digits"));
    check("/budgets", json!([budget("a", 1.0), budget("a", 2.0)]), Some("budgets[1].name: expected a unique name"));
    check("/budgets", json!([budget("a", -1.0)]), Some("budgets[0].amountUsd: expected a number from 0"));
}

#[test]
fn unknown_fields_of_a_newer_writer_are_ignored() {
    check("/experts/0/sparkle", json!({"a": 1}), None);
    check("/horizon", json!([1]), None);
}

#[test]
fn a_bundle_binds_by_name_and_says_what_it_lacks() {
    let table = compile(snapshot_json());
    assert_eq!(table.bind(&["large", "other", "small", "middle"]), Ok(vec![2, 3, 0]));
    assert_eq!(table.bind(&["large", "small "]), Err(vec!["small".to_owned(), "middle".to_owned()]));
}

#[test]
fn names_resolve_to_indexes() {
    let table = compile(snapshot_json());
    assert_eq!((table.expert("middle"), table.expert("auto")), (Some(1), None));
    assert_eq!((table.fallback(), table.baseline()), (Some(1), Some(2)));
}

#[test]
fn prepended_text_is_counted_in_strings_and_parts() {
    let messages = json!([
        {"role": "system", "content": "0123456789"},
        {"role": "user", "content": [{"type": "text", "text": "01234567"}, {"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user", "content": null},
    ]);
    let table = compile(with("/experts/1/prependMessages", messages));
    assert_eq!(table.prepended_tokens(1), (4 + 3) + (4 + 2) + 4);
    assert_eq!((table.prepended_tokens(0), table.prepended_tokens(9)), (0, 0));
}

/// Any JSON value, of modest depth.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z]{1,8}", inner), 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Every place in a JSON value, as pointers.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, child)| (key.clone(), child)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, child)| (index.to_string(), child)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let pointer = format!("{at}/{key}");
        pointers(child, &pointer, found);
        found.push(pointer);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = serde_json::from_slice::<Snapshot>(&bytes).map(Table::compile);
    }

    #[test]
    fn no_single_wrong_value_panics_anywhere(place in any::<prop::sample::Index>(), value in any_json()) {
        let mut places = Vec::new();
        pointers(&snapshot_json(), "", &mut places);
        let json = with(&places[place.index(places.len())], value);
        let Ok(snapshot) = serde_json::from_value::<Snapshot>(json) else { return Ok(()) };
        if let Ok(table) = Table::compile(snapshot) {
            let request = crate::Request { prompt_tokens: u64::MAX, max_output_tokens: Some(u64::MAX), ..crate::Request::default() };
            let _ = crate::choose(&table, &request, &[], Err(crate::ScoreFailure::NoModel));
            let _ = crate::render(&table);
        }
    }

    #[test]
    fn a_snapshot_survives_being_written_and_read(thousandths in 0_u32..1_000_000_000, tokens in 1_u32..) {
        let mut json = with("/experts/0/prices/perHour", json!(f64::from(thousandths) / 1e3));
        json["experts"][1]["contextTokens"] = json!(tokens);
        let snapshot: Snapshot = serde_json::from_value(json).unwrap();
        let again: Snapshot = serde_json::from_str(&serde_json::to_string(&snapshot).unwrap()).unwrap();
        prop_assert_eq!(again, snapshot);
    }
}
