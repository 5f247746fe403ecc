//! Figures out of samples: percentiles, the table for people, the JSON for machines.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What one case came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) case: &'static str,
    pub(super) rate: f64,
    /// Milliseconds from each request's due time.
    pub(super) latencies: Vec<f64>,
    pub(super) peak_rps: f64,
    pub(super) rss_mib: f64,
    pub(super) start_ms: f64,
    /// CPU time of the process for each request of the open loop.
    pub(super) cpu_ms: f64,
    /// Mean milliseconds of each phase of a decision, where it has phases.
    pub(super) phases: BTreeMap<String, f64>,
}

const PERCENTILES: [(f64, &str); 3] = [(0.50, "p50"), (0.90, "p90"), (0.99, "p99")];

impl Figures {
    fn percentiles(&self) -> [f64; 3] {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        PERCENTILES.map(|(share, _)| percentile(&sorted, share))
    }

    /// The same percentile of the direct case taken off.
    fn added(&self, direct: &Figures) -> [f64; 3] {
        let (mine, base) = (self.percentiles(), direct.percentiles());
        std::array::from_fn(|index| mine[index] - base[index])
    }
}

/// The value that so large a share of the samples does not exceed.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The document of `target/bench/latency.json`.
pub(super) fn to_json(all: &[Figures]) -> Value {
    let Some(direct) = all.iter().find(|figures| figures.case == "direct") else { return json!({"cases": []}) };
    let cases = all.iter().map(|figures| {
        let mut made = json!({"case": figures.case, "rate_rps": round(figures.rate)});
        for ((_, name), value) in PERCENTILES.iter().zip(figures.percentiles()) {
            made[format!("{name}_ms")] = round(value);
        }
        for ((_, name), value) in PERCENTILES.iter().zip(figures.added(direct)) {
            made[format!("added_{name}_ms")] = round(value);
        }
        made["peak_rps"] = round(figures.peak_rps);
        made["rss_mib"] = round(figures.rss_mib);
        made["start_ms"] = round(figures.start_ms);
        made
    });
    json!({"cases": cases.collect::<Vec<_>>()})
}

fn round(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}

/// The table for people.
pub(super) fn to_table(all: &[Figures]) -> String {
    let Some(direct) = all.iter().find(|figures| figures.case == "direct") else { return String::new() };
    let mut text = format!(
        "{:12} {:>8} {:>8} | {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} {:>8}\n",
        "case",
        "rate",
        "requests",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "+p50 ms",
        "+p90 ms",
        "+p99 ms",
        "peak rps",
        "CPU ms",
        "RSS MiB",
        "start ms"
    );
    for figures in all {
        let ([p50, p90, p99], [a50, a90, a99]) = (figures.percentiles(), figures.added(direct));
        text += &format!(
            "{:12} {:8.1} {:8} | {p50:8.3} {p90:8.3} {p99:8.3} | {a50:8.3} {a90:8.3} {a99:8.3} | {:8.0} {:8.3} {:8.1} {:8.1}\n",
            figures.case,
            figures.rate,
            figures.latencies.len(),
            figures.peak_rps,
            figures.cpu_ms,
            figures.rss_mib,
            figures.start_ms
        );
    }
    text += "\nWhere a decision's time goes (means, ms), and what is left of the added p50 for the proxy:\n";
    for figures in all.iter().filter(|figures| !figures.phases.is_empty()) {
        let phases: Vec<_> = figures.phases.iter().map(|(phase, ms)| format!("{phase} {ms:.3}")).collect();
        let decision = figures.phases.get("total").copied().unwrap_or(0.0);
        text += &format!("{:12} {}, proxy {:.3}\n", figures.case, phases.join(", "), figures.added(direct)[0] - decision);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_field_and_adds_over_the_direct_call() {
        let case = |case, scale: f64| Figures {
            case,
            rate: 200.0,
            latencies: (1..=100).rev().map(|number| f64::from(number) * scale).collect(),
            peak_rps: 5000.0,
            ..Figures::default()
        };
        let document = to_json(&[case("direct", 0.01), case("envoy", 0.03)]);
        let envoy = &document["cases"][1];
        assert_eq!((&envoy["p50_ms"], &envoy["p99_ms"]), (&json!(1.5), &json!(2.97)));
        assert_eq!((&envoy["added_p50_ms"], &envoy["added_p99_ms"]), (&json!(1.0), &json!(1.98)));
        assert_eq!(document["cases"][0]["added_p90_ms"], 0.0);
        for field in ["case", "rate_rps", "p90_ms", "added_p90_ms", "peak_rps", "rss_mib", "start_ms"] {
            assert!(!envoy[field].is_null(), "{field}");
        }
    }
}
