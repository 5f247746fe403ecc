//! Real requests through the router to the real server: single questions, a conversation, a stream.

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    http::{call, metric},
    process::Interrupt,
    recording::{Rows, id},
    screen::{Screen, row, short, table},
};

/// The router under traffic.
pub(super) struct Router<'a> {
    /// Where clients call.
    pub(super) address: &'a str,
    /// Where `/metrics` is.
    pub(super) admin: &'a str,
    pub(super) screen: &'a Screen,
    pub(super) interrupt: &'a Interrupt,
}

/// Questions sent of each kind.
const OF_EACH_KIND: usize = 2;

/// What the manifest calls the header that names a conversation.
const SESSION: &str = "x-session-id";

struct Answered {
    text: String,
    expert: String,
    reason: String,
    cost_usd: f64,
    baseline_usd: f64,
}

impl Router<'_> {
    /// Some questions of every kind that the router has not learnt from.
    pub(super) fn questions(&self, queries: &Rows) -> Result<()> {
        let mut rows = vec![row(["question", "expert", "reason", "answer", " cost", " baseline"])];
        for query in samples(queries) {
            self.interrupt.check()?;
            let prompt = query["prompt"].as_str().unwrap_or_default();
            let answered =
                self.ask(&[json!({"role": "user", "content": prompt})], None).with_context(|| format!("asking {}", id(query)))?;
            rows.push(answered.cells(prompt));
        }
        print!("{}", table(&rows));
        Ok(())
    }

    /// A conversation of several turns: it stays with its expert.
    pub(super) fn conversation(&self, turns: &[&str]) -> Result<()> {
        let mut messages: Vec<Value> = Vec::new();
        let mut rows = vec![row(["turn", "expert", "reason", "answer", " cost", " baseline"])];
        for turn in turns {
            self.interrupt.check()?;
            messages.push(json!({"role": "user", "content": turn}));
            let answered = self.ask(&messages, Some("demo-conversation"))?;
            messages.push(json!({"role": "assistant", "content": answered.text}));
            rows.push(answered.cells(turn));
        }
        print!("{}", table(&rows));
        Ok(())
    }

    fn ask(&self, messages: &[Value], session: Option<&str>) -> Result<Answered> {
        let before = metric(&self.metrics()?, "expert_router_baseline_cost_usd_total");
        let headers: Vec<(&str, &str)> = session.map(|session| (SESSION, session)).into_iter().collect();
        let body = json!({"model": "auto", "messages": messages});
        let response = call(self.address, "/v1/chat/completions", &headers, Some(&body))?;
        let told = |name: &str| response.header(name).to_owned();
        let (expert, reason) = (told("x-expert-router-expert"), told("x-expert-router-reason"));
        let cost_usd = told("x-expert-router-cost-usd").parse().context("an answer of a priced expert has a cost")?;
        let answer = response.json()?;
        let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default().to_owned();
        // An answer is counted when its last byte has left, which may be a moment after it is read here.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let baseline_usd = metric(&self.metrics()?, "expert_router_baseline_cost_usd_total") - before;
        Ok(Answered { text, expert, reason, cost_usd, baseline_usd })
    }

    /// A stream, shown as it comes.
    pub(super) fn stream(&self, prompt: &str) -> Result<()> {
        let body = json!({"model": "auto", "stream": true, "messages": [{"role": "user", "content": prompt}]});
        let response = call(self.address, "/v1/chat/completions", &[], Some(&body))?;
        let (expert, reason) = (response.header("x-expert-router-expert").to_owned(), response.header("x-expert-router-reason").to_owned());
        print!("      {prompt}\n      {expert} ({reason}): ");
        let (mut events, mut done) = (0, false);
        for line in response.lines() {
            let line = line?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                done = true;
                continue;
            }
            let event: Value = serde_json::from_str(data).context("an event is not JSON")?;
            if let Some(piece) = event.pointer("/choices/0/delta/content").and_then(Value::as_str) {
                events += 1;
                print!("{piece}");
                std::io::stdout().flush()?;
            }
        }
        println!("   [{events} pieces, {}]", if done { "whole" } else { "cut off" });
        anyhow::ensure!(done && events > 0, "the stream did not come to its end");
        Ok(())
    }

    /// What the router itself counted.
    pub(super) fn savings(&self) -> Result<()> {
        let page = self.metrics()?;
        let of = |name: &str| metric(&page, &format!("expert_router_{name}"));
        let (cost, baseline) = (of("cost_usd_total"), of("baseline_cost_usd_total"));
        self.screen.say(&format!(
            "{:.0} requests cost USD {cost:.6}; the baseline expert would have cost USD {baseline:.6}: USD {:.6} saved, {:.0} %",
            of("requests_total"),
            of("savings_usd"),
            100.0 * (1.0 - cost / baseline)
        ));
        self.screen.say("(the baseline is charged for the same questions and answers, and for its own longer instructions)");
        let (sum, count) = (of("decision_duration_seconds_sum{phase=\"total\"}"), of("decision_duration_seconds_count{phase=\"total\"}"));
        if count > 0.0 {
            self.screen.say(&format!("a decision took {:.1} ms on average", 1000.0 * sum / count));
        }
        Ok(())
    }

    fn metrics(&self) -> Result<String> {
        call(self.admin, "/metrics", &[], None)?.text()
    }
}

impl Answered {
    fn cells(&self, prompt: &str) -> Vec<String> {
        vec![
            short(prompt, 52),
            self.expert.clone(),
            self.reason.clone(),
            short(&self.text, 34),
            format!("{:.7}", self.cost_usd),
            format!("{:.7}", self.baseline_usd),
        ]
    }
}

/// The first questions of each kind's test split.
fn samples(queries: &Rows) -> Vec<&Value> {
    let mut seen: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let test = queries.iter().filter(|query| query["split"] == "test");
    test.filter(|query| {
        let count = seen.entry(query["dataset"].as_str().unwrap_or_default()).or_default();
        *count += 1;
        *count <= OF_EACH_KIND
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_of_the_test_split_and_some_of_each_kind() {
        let query = |id: usize, dataset: &str, split: &str| json!({"id": id.to_string(), "dataset": dataset, "split": split});
        let queries: Rows =
            (0..9).map(|at| query(at, if at % 2 == 0 { "a" } else { "b" }, if at < 2 { "train" } else { "test" })).collect();
        assert_eq!(samples(&queries).iter().map(|query| id(query)).collect::<Vec<_>>(), ["2", "3", "4", "5"]);
    }
}
