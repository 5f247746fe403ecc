//! What is done beside answering: a model in shadow, and requests kept for training.

use super::super::grafana::{Row, Unit, lines, query, stacked};

pub(super) fn shadow() -> Row {
    const AGREED: &str = "sum by (router) (rate(expert_router_shadow_decisions_total{agreed=\"true\"}[$__rate_interval])) / \
                          sum by (router) (rate(expert_router_shadow_decisions_total[$__rate_interval]))";
    Row {
        title: "A model in shadow",
        panels: vec![
            lines(
                Unit::Share,
                "Agreement in shadow",
                "Share of the requests looked at for which the model in shadow would have chosen the same expert. Where it is high, \
                 promoting the model changes little.",
                [query(AGREED, "{{router}}")],
            ),
            lines(
                Unit::Score,
                "Gain predicted in shadow",
                "Mean score the model in shadow predicts for its own choices less that for the choices made. Its own opinion of itself: the \
                 held-out gain is on the dashboard Training.",
                [query(
                    "sum by (router) (rate(expert_router_shadow_predicted_gain_sum[$__rate_interval])) / \
                     sum by (router) (rate(expert_router_shadow_predicted_gain_count[$__rate_interval]))",
                    "{{router}}",
                )],
            ),
            stacked(
                Unit::PerSecond,
                "Choices in shadow",
                "Whom the model in shadow would have chosen, of the requests looked at.",
                [query(
                    "sum by (router, expert) (rate(expert_router_shadow_decisions_total[$__rate_interval]))",
                    "{{router}} / {{expert}}",
                )],
            ),
            lines(
                Unit::Dollars,
                "Cost of an hour in shadow",
                "Predicted cost of the requests looked at, for an hour at this pace: by the choices of the model in shadow, and by those made.",
                [query(
                    "3600 * sum by (router, of) (rate(expert_router_shadow_predicted_cost_usd_total[$__rate_interval]))",
                    "{{router}} {{of}}",
                )],
            ),
            lines(
                Unit::PerSecond,
                "Not looked at",
                "Requests the model in shadow was to look at and did not: queue_full (it is slower than they come: lower shadowPercent), \
                 no_score (it fails on them), refused (it scores nobody that may answer).",
                [query("sum by (router, reason) (rate(expert_router_shadow_skipped_total[$__rate_interval]))", "{{router}} / {{reason}}")],
            ),
            lines(
                Unit::Count,
                "Processes with a model in shadow",
                "Processes that have one loaded. It takes as much memory as the one in force.",
                [query("sum by (router) (expert_router_shadow_ready)", "{{router}}")],
            ),
        ],
    }
}

pub(super) fn kept() -> Row {
    Row {
        title: "Requests kept for training",
        panels: vec![
            lines(
                Unit::PerSecond,
                "Requests kept",
                "Rows written to the log of requests, where the router keeps one.",
                [query("sum by (router) (rate(expert_router_request_log_rows_total[$__rate_interval]))", "{{router}}")],
            ),
            lines(
                Unit::PerSecond,
                "Requests not kept",
                "Rows left out of it: queue_full and write_failed are the disk's doing, too_large the limit's, unsuitable the request's. And \
                 files deleted because all together would be larger than they may be.",
                [
                    query(
                        "sum by (router, reason) (rate(expert_router_request_log_dropped_total[$__rate_interval]))",
                        "{{router}} / {{reason}}",
                    ),
                    query(
                        "sum by (router) (rate(expert_router_request_log_deleted_files_total[$__rate_interval]))",
                        "{{router}} files deleted",
                    ),
                ],
            ),
        ],
    }
}
