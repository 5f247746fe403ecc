use std::collections::BTreeMap;

use ndarray::array;
use routing::Prices;

use super::{Chooser, Predictions, Rule, cost_weights, read_prices};

#[test]
fn prices_are_read_without_the_secrets_and_addresses_that_only_asking_needs() {
    let yaml = r#"
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {name: chat}
spec:
  experts:
    - {name: run, deployment: {image: "localhost/server:1", port: 8080}, modelName: m, pricing: {perRequest: "0.5"}}
    - name: paid
      url: https://llm.example.com/v1
      modelName: m
      credentials: {secretRef: {name: paid, key: apiKey}}
      pricing: {perRequest: "0.25"}
"#;
    let snapshot = read_prices(yaml, std::path::Path::new("chat.yaml")).unwrap();
    let prices: Vec<f64> = snapshot.experts.iter().filter_map(|expert| expert.prices).map(|prices| prices.per_request).collect();
    assert_eq!(prices, [0.5, 0.25]);
}

#[test]
fn free_experts_are_weighed_too() {
    let flat = |usd: f64| Some(Prices { per_request: usd, ..Prices::default() });
    let chooser = Chooser::new(&["free".into(), "paid".into()], &[flat(0.0), flat(1e-4)], &BTreeMap::new());
    let predictions =
        Predictions { quality: array![[0.1, 0.9]], output_tokens: array![[1.0, 1.0]], seconds: vec![1.0, 1.0], prompt_tokens: vec![1.0] };
    let choices: Vec<_> =
        cost_weights(0.0).into_iter().map(|cost_weight| chooser.choose(&predictions, Rule::Balanced { cost_weight }).unwrap()).collect();
    assert_eq!((choices.first(), choices.last()), (Some(&vec![1]), Some(&vec![0])));
    assert_eq!(cost_weights(1e-4).len(), 61);
}

#[test]
fn experts_may_have_any_name_and_settings_decide_between_score_and_cost() {
    let flat = |usd: f64| Some(Prices { per_request: usd, ..Prices::default() });
    let chooser = Chooser::new(&["a+b 16k".into(), "c/d".into()], &[flat(0.02), flat(0.01)], &BTreeMap::new());
    let predictions = Predictions {
        quality: array![[0.9, 0.8], [0.5, 0.6]],
        output_tokens: array![[1.0, 1.0], [1.0, 1.0]],
        seconds: vec![1.0, 1.0],
        prompt_tokens: vec![1.0, 1.0],
    };
    let check = |rule: Rule, expected: [usize; 2]| assert_eq!(chooser.choose(&predictions, rule).unwrap(), expected, "{rule:?}");
    check(Rule::Quality, [0, 1]);
    check(Rule::Cost { tolerance: 0.05 }, [0, 1]);
    check(Rule::Cost { tolerance: 0.15 }, [1, 1]);
    check(Rule::Balanced { cost_weight: 0.05 }, [0, 1]);
    check(Rule::Balanced { cost_weight: 0.2 }, [1, 1]);
}
