//! Accounts: what clients saw of each request against what the proxies logged of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::load::record::{Outcome, Record};

/// What a proxy logged of a request at its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// The client's own id.
    pub(crate) id: String,
    /// Requests sent to experts.
    pub(crate) attempts: u64,
    /// Who was chosen.
    pub(crate) chosen: String,
    /// Who answered.
    pub(crate) expert: String,
    /// What it cost.
    pub(crate) cost_usd: Option<f64>,
}

impl Line {
    /// Reads a log line; `None` where it is not that of a request.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        if value["target"] != "expert_router::request" {
            return None;
        }
        let string = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Some(Self {
            id: value["request_id"].as_str()?.to_owned(),
            attempts: value["attempts"].as_u64().unwrap_or_default(),
            chosen: string("chosen"),
            expert: string("expert"),
            cost_usd: value["cost_usd"].as_f64(),
        })
    }
}

/// Log lines by the id of their request.
pub(crate) type Lines = BTreeMap<String, Vec<Line>>;

/// What became of the requests of a phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Tally {
    /// Sent by clients.
    pub(crate) sent: u64,
    /// Whole and valid.
    pub(crate) answered: u64,
    /// Lost before the first byte.
    pub(crate) failed: u64,
    /// Met a connection that was just being closed.
    pub(crate) raced: u64,
    /// Broke off after the first byte, seen as such.
    pub(crate) cut: u64,
    /// Broke off unseen.
    pub(crate) silent: u64,
    /// Requests sent to experts beyond the first for a client's.
    pub(crate) retried: u64,
    /// Answered by another expert than was chosen.
    pub(crate) fallen_back: u64,
    /// Of the requests that a proxy must have seen, those logged exactly once.
    pub(crate) metered: u64,
    /// Those that a proxy must have seen and none logged.
    pub(crate) unmetered: Vec<String>,
    /// Those logged more than once.
    pub(crate) metered_twice: Vec<String>,
    /// Those whose client was told another cost than was logged.
    pub(crate) cost_differs: Vec<String>,
    /// USD, by the logs.
    pub(crate) cost_usd: f64,
    /// How requests failed or broke off, and how often.
    pub(crate) troubles: BTreeMap<String, u64>,
    /// Who answered, and how often.
    pub(crate) experts: BTreeMap<String, u64>,
    /// The slowest hundredth of whole answers took at least this long.
    pub(crate) p99_ms: f64,
}

/// Adds up.
pub(crate) fn tally(records: &[Record], lines: &Lines) -> Tally {
    let mut tally = Tally { sent: records.len() as u64, ..Tally::default() };
    for record in records {
        tally.count(record);
        tally.meter(record, lines.get(&record.id).map_or(&[], Vec::as_slice));
    }
    let mut times: Vec<f64> = records.iter().filter(|record| record.outcome == Outcome::Answered).map(|record| record.total_ms).collect();
    tally.p99_ms = quantile(&mut times, 0.99);
    tally
}

/// Requests that a proxy must have logged and that are not in its log yet.
pub(crate) fn missing<'a>(records: &'a [Record], lines: &Lines) -> BTreeSet<&'a str> {
    let missing = |record: &&Record| must_be_metered(record) && !lines.contains_key(&record.id);
    records.iter().filter(missing).map(|record| record.id.as_str()).collect()
}

/// A response proves that a proxy had it. Without one it may have been lost on the way.
fn must_be_metered(record: &Record) -> bool {
    record.status != 0
}

impl Tally {
    fn count(&mut self, record: &Record) {
        match record.outcome {
            Outcome::Answered => self.answered += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Raced => self.raced += 1,
            Outcome::Cut => self.cut += 1,
            Outcome::Silent => self.silent += 1,
        }
        if record.outcome == Outcome::Answered {
            *self.experts.entry(record.expert.clone()).or_default() += 1;
        } else {
            let trouble = format!("{:?}: {} {}", record.outcome, record.status, record.detail);
            *self.troubles.entry(trouble).or_default() += 1;
        }
    }

    fn meter(&mut self, record: &Record, lines: &[Line]) {
        match lines {
            [] if must_be_metered(record) => self.unmetered.push(record.id.clone()),
            [] => {}
            [line] => {
                self.metered += u64::from(must_be_metered(record));
                self.retried += line.attempts.saturating_sub(1);
                self.fallen_back += u64::from(record.outcome == Outcome::Answered && line.chosen != line.expert);
                self.cost_usd += line.cost_usd.unwrap_or_default();
                let told = record.cost_usd.filter(|_| record.outcome == Outcome::Answered);
                if let Some(told) = told
                    && line.cost_usd.is_none_or(|logged| (logged - told).abs() > 1e-9)
                {
                    self.cost_differs.push(record.id.clone());
                }
            }
            _ => self.metered_twice.push(record.id.clone()),
        }
    }
}

/// What may happen in a phase.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowed {
    /// Streams may be cut: an expert dies with them. They have to be seen as cut all the same.
    pub(crate) cut: bool,
}

impl Allowed {
    /// What happened that may not; empty where all is well.
    pub(crate) fn judge(self, tally: &Tally) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |fine: bool, what: String| {
            if !fine {
                wrong.push(what);
            }
        };
        check(tally.sent > 0, "nothing was sent".into());
        check(tally.failed == 0, format!("{} lost before the first byte", tally.failed));
        check(tally.silent == 0, format!("{} ended silently before they were whole", tally.silent));
        check(self.cut || tally.cut == 0, format!("{} cut", tally.cut));
        check(tally.unmetered.is_empty(), format!("{} not metered, such as {}", tally.unmetered.len(), first(&tally.unmetered)));
        check(
            tally.metered_twice.is_empty(),
            format!("{} metered twice, such as {}", tally.metered_twice.len(), first(&tally.metered_twice)),
        );
        check(
            tally.cost_differs.is_empty(),
            format!("{} told another cost than logged, such as {}", tally.cost_differs.len(), first(&tally.cost_differs)),
        );
        wrong
    }
}

fn first(ids: &[String]) -> &str {
    ids.first().map_or("none", String::as_str)
}

/// The value that this share of all is at most; 0 of nothing.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, outcome: Outcome, status: u16) -> Record {
        Record {
            id: id.into(),
            phase: "p".into(),
            sent_at: 0,
            stream: false,
            kept: false,
            outcome,
            status,
            detail: String::new(),
            expert: "a".into(),
            reason: String::new(),
            cost_usd: Some(0.5),
            tokens: None,
            first_byte_ms: 1.0,
            total_ms: 2.0,
        }
    }

    fn line(id: &str, attempts: u64, chosen: &str, cost_usd: f64) -> (String, Vec<Line>) {
        let line = Line { id: id.into(), attempts, chosen: chosen.into(), expert: "a".into(), cost_usd: Some(cost_usd) };
        (id.into(), vec![line])
    }

    #[test]
    fn each_request_is_counted_once_by_how_it_ended() {
        let outcomes = [Outcome::Answered, Outcome::Failed, Outcome::Raced, Outcome::Cut, Outcome::Silent];
        let records: Vec<Record> = outcomes.into_iter().map(|outcome| record("x", outcome, 0)).collect();
        let tally = tally(&records, &Lines::new());
        assert_eq!((tally.sent, tally.answered, tally.failed, tally.raced, tally.cut, tally.silent), (5, 1, 1, 1, 1, 1));
        assert_eq!(tally.troubles.len(), 4);
    }

    #[test]
    fn retries_fallbacks_and_money_come_from_the_logs() {
        let records = [record("1", Outcome::Answered, 200), record("2", Outcome::Answered, 200), record("3", Outcome::Cut, 200)];
        let lines = Lines::from([line("1", 1, "a", 0.5), line("2", 3, "b", 0.5), line("3", 2, "b", 0.25)]);
        let tally = tally(&records, &lines);
        assert_eq!((tally.retried, tally.fallen_back, tally.metered, tally.cost_usd), (3, 1, 3, 1.25));
        assert!(tally.cost_differs.is_empty());
        assert!(Allowed { cut: true }.judge(&tally).is_empty());
        assert_eq!(Allowed::default().judge(&tally), ["1 cut"]);
    }

    #[test]
    fn a_request_with_a_response_has_to_be_logged_and_only_once() {
        let records = [record("1", Outcome::Answered, 200), record("2", Outcome::Answered, 200), record("3", Outcome::Raced, 0)];
        let mut lines = Lines::from([line("1", 1, "a", 0.5)]);
        let same = lines["1"][0].clone();
        lines.get_mut("1").unwrap().push(same);
        assert_eq!(missing(&records, &lines), BTreeSet::from(["2"]));
        let tally = tally(&records, &lines);
        assert_eq!((tally.unmetered.as_slice(), tally.metered_twice.as_slice()), (&["2".to_owned()][..], &["1".to_owned()][..]));
        assert_eq!(Allowed::default().judge(&tally).len(), 2);
    }

    #[test]
    fn a_client_is_told_what_is_logged() {
        let tally = tally(&[record("1", Outcome::Answered, 200)], &Lines::from([line("1", 1, "a", 0.4)]));
        assert_eq!(tally.cost_differs, ["1"]);
    }

    #[test]
    fn only_lines_of_requests_are_read() {
        let text = r#"{"timestamp":"t","level":"INFO","target":"expert_router::request","message":"request","request_id":"r-1","attempts":2,"chosen":"a","expert":"b","cost_usd":0.1}"#;
        let line = Line::parse(text).unwrap();
        assert_eq!((line.id.as_str(), line.attempts, line.chosen.as_str(), line.expert.as_str()), ("r-1", 2, "a", "b"));
        assert_eq!(Line::parse(&text.replace("expert_router::request", "sidecar::serve")), None);
        assert_eq!(Line::parse("thread panicked"), None);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        assert_eq!((quantile(&mut values, 0.5), quantile(&mut values, 0.9), quantile(&mut [], 0.5)), (5.0, 9.0, 0.0));
    }
}
