use routing::{
    Prices,
    snapshot::{Capability, Expert},
};
use serde_json::{Value, json};

use super::{AskOptions, Asker, Backoff};

fn expert() -> Expert {
    let mut expert = Expert::plain("atlas");
    expert.model_name = "atlas-7b".into();
    expert.prices = Some(Prices { input_per_million: 1.0, output_per_million: 10.0, ..Prices::default() });
    expert
}

fn asker(expert: &Expert) -> Asker {
    Asker::new(expert, &AskOptions { max_tokens: 100, logprobs: true, backoff: Backoff::default() }).unwrap()
}

fn body(expert: &Expert) -> Value {
    serde_json::from_slice(&asker(expert).body(&[json!({"role": "user", "content": "Hi"})]).unwrap()).unwrap()
}

#[test]
fn an_expert_is_asked_in_its_own_way() {
    let mut expert = expert();
    expert.prepend_messages = vec![json!({"role": "system", "content": "Be brief."})];
    expert.body_overrides = serde_json::from_value(json!({"temperature": 0, "max_tokens": 24})).unwrap();
    let body = body(&expert);
    assert_eq!((body["model"].as_str(), body["messages"][0]["content"].as_str()), (Some("atlas-7b"), Some("Be brief.")));
    assert_eq!((&body["messages"][1]["content"], &body["temperature"], &body["max_tokens"]), (&json!("Hi"), &json!(0), &json!(24)));
    assert_eq!(body.get("logprobs"), None, "it does not say that it has them");
}

#[test]
fn no_answer_is_without_limit_and_log_probabilities_are_asked_for_where_there_are_some() {
    let mut expert = expert();
    expert.capabilities = vec![Capability::Logprobs];
    let asked = body(&expert);
    assert_eq!((&asked["max_tokens"], &asked["logprobs"]), (&json!(100), &json!(true)));
    expert.body_overrides = serde_json::from_value(json!({"max_completion_tokens": 7})).unwrap();
    assert_eq!(body(&expert).get("max_tokens"), None, "one limit is enough");
}

#[test]
fn the_worst_case_is_above_what_any_tokenizer_makes_of_it() {
    let mut expert = expert();
    let asker_of = |expert: &Expert| {
        let asker = asker(expert);
        let body = asker.body(&[json!({"role": "user", "content": "x".repeat(1000)})]).unwrap();
        (asker.most_cost_usd(&body), asker.likely_cost_usd(&body, Some(20.0)))
    };
    let (most, likely) = asker_of(&expert);
    assert!((2000.0 / 1e6..3000.0 / 1e6).contains(&most), "{most}");
    assert!(likely > (250.0 + 20.0 * 10.0) / 1e6 && likely < most, "{likely}");
    expert.context_tokens = Some(50);
    assert!((asker_of(&expert).0 - (50.0 + 1000.0) / 1e6).abs() < 1e-12, "a prompt longer than the context is not answered");
    expert.prices = None;
    assert_eq!(asker_of(&expert), (0.0, 0.0));
}
