//! The page of all metrics, from the tables of the binaries.

use std::fmt::Write as _;

const HEAD: &str = "<!-- Made by `make generate` from sidecar/src/metrics/table.rs and operator/src/metrics/table.rs. -->
# Metrics

## The data plane: gateway, sidecars, standalone

What `expert-router` shows on `/metrics` of its admin port. Labels come from closed sets: names of experts, budgets and client
keys, and the words of the code. Each also has the label `router`. What to look at first, and what to be told of, is in
[observability.md](observability.md).
";
const OPERATOR: &str = "
## The operator, and training

What the operator shows on `/metrics` of its metrics port. The Jobs of a training show nothing themselves: how they stand is in the
RouterModel's status, from which the operator makes the gauges `training_`, anew as often as spending is summed, so that what is
deleted is gone from here too. Their `model_namespace` is where the RouterModel is; `namespace`, which Prometheus adds, is where the
operator runs.
";

/// `docs/metrics.md`.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    table(&mut page, sidecar::metrics::METRICS.iter().map(|it| (it.name, it.kind.as_str(), it.labels, it.help)));
    page.push_str(OPERATOR);
    table(&mut page, operator::metrics::METRICS.iter().map(|it| (it.name, it.kind.as_str(), it.labels, it.help)));
    page
}

/// Name, kind, labels and meaning of each.
fn table<'a>(page: &mut String, metrics: impl Iterator<Item = (&'a str, &'a str, &'a [&'a str], &'a str)>) {
    page.push_str("\n| name | kind | labels | meaning |\n|---|---|---|---|\n");
    for (name, kind, labels, help) in metrics {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {help} |");
    }
}
