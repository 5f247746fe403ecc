//! What the client adds up by itself, to hold what Prometheus has against.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Router, client};

/// USD for a million tokens: input, cached input, output. Dear, so that cents show.
pub(super) const SMALL: [f64; 3] = [300.0, 300.0, 900.0];
pub(super) const LARGE: [f64; 3] = [2500.0, 1250.0, 10_000.0];

/// What the client adds up by itself, from nothing but answers.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) by_expert: BTreeMap<String, Book>,
    pub(super) fell_back: u32,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) answers: f64,
    pub(super) input: f64,
    pub(super) cached: f64,
    pub(super) output: f64,
    pub(super) cost: f64,
    pub(super) baseline: f64,
}

impl Books {
    pub(super) async fn ask(&mut self, router: &Router, name: &str, body: &Value) -> Result<()> {
        let response = client()?.post(format!("{}/chat/completions", router.base_url())).json(body).send().await?;
        ensure!(response.status() == 200, "{name}: {}", response.status());
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (expert, reason) = (header("x-expert-router-expert"), header("x-expert-router-reason"));
        let shown_cost = header("x-expert-router-cost-usd");
        let text = response.text().await?;
        let usage = match text.lines().filter_map(|line| line.strip_prefix("data: ")).rfind(|data| *data != "[DONE]") {
            Some(last) => serde_json::from_str::<Value>(last)?,
            None => serde_json::from_str::<Value>(&text)?,
        }["usage"]
            .clone();
        let tokens = |field: &Value| field.as_f64().unwrap_or(0.0);
        let (input, output) = (tokens(&usage["prompt_tokens"]), tokens(&usage["completion_tokens"]));
        let cached = tokens(&usage["prompt_tokens_details"]["cached_tokens"]);
        ensure!(input > 0.0 && output > 0.0, "no usage in {text}");
        let cost = |prices: [f64; 3]| ((input - cached) * prices[0] + cached * prices[1] + output * prices[2]) / 1e6;
        let own = cost(if expert == "small" { SMALL } else { LARGE });
        if !shown_cost.is_empty() {
            same("the cost in the header", shown_cost.parse()?, own)?;
        }
        // A question for the small expert that the large one answered had met a fault.
        let for_small = body["messages"][0]["content"].as_str().is_some_and(|text| text.starts_with("What is"));
        self.fell_back += u32::from(for_small && expert == "large" && reason == "quality");
        let book = self.by_expert.entry(expert).or_default();
        book.answers += 1.0;
        book.input += input;
        book.cached += cached;
        book.output += output;
        book.cost += own;
        book.baseline += cost(LARGE);
        Ok(())
    }
}

pub(super) fn same(what: &str, counted: f64, added: f64) -> Result<()> {
    ensure!((counted - added).abs() < 1e-6, "{what}: Prometheus has {counted}, the client added up {added}");
    Ok(())
}
