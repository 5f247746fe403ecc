//! Experts: latency, errors, ejections, load and throughput of each.

use super::grafana::{Dashboard, Row, Unit, column, lines, query, stacked, states, table};
use super::scope::Variable;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "expert-router-experts",
        title: "Experts",
        description: "How fast, how reliable and how busy each expert is, as the routers see it.",
        variables: &[Variable::Namespace, Variable::Router, Variable::Expert],
        population: &[
            (Variable::Namespace, "expert_router_snapshot_info"),
            (Variable::Router, "expert_router_snapshot_info"),
            (Variable::Expert, "expert_router_decisions_total"),
        ],
        rows: vec![glance(), latency(), failures(), load()],
    }
}

fn quantile(q: &str, metric: &str) -> String {
    format!("histogram_quantile({q}, sum by (router, gen_ai_provider_name, le) (rate({metric}_bucket[$__rate_interval])))")
}

const PROVIDER: &str = "{{router}} / {{gen_ai_provider_name}}";

fn glance() -> Row {
    Row {
        title: "At a glance",
        panels: vec![table(
            "All experts",
            "The last five minutes of each expert: requests sent to it, share of them that failed, first token and whole answer (what 95 % \
             stay below), requests it works on, output tokens.",
            [
                column("sum by (namespace, router, expert) (rate(expert_router_upstream_attempts_total[5m]))", "Requests", Unit::PerSecond),
                column("namespace_router_expert:expert_router_attempt_failures:ratio10m", "Failed", Unit::Share),
                column("namespace_router_expert:gen_ai_server_time_to_first_token_seconds:p95_10m", "First token", Unit::Seconds),
                column("namespace_router_expert:gen_ai_client_operation_duration_seconds:p95_10m", "Whole answer", Unit::Seconds),
                column("sum by (namespace, router, expert) (expert_router_in_flight)", "In flight", Unit::Count),
                column(
                    "sum by (namespace, router, expert) (rate(expert_router_tokens_total{type=\"output\"}[5m]))",
                    "Output",
                    Unit::TokensPerSecond,
                ),
                column("max by (namespace, router, expert) (expert_router_ejected)", "Out of rotation", Unit::State),
            ],
        )],
    }
}

fn latency() -> Row {
    Row {
        title: "Latency",
        panels: vec![
            lines(
                Unit::Seconds,
                "Time to first token, half",
                "From sending the request to the first piece of a streamed answer: half of the streams stay below.",
                [query(quantile("0.5", "gen_ai_server_time_to_first_token_seconds"), PROVIDER)],
            ),
            lines(
                Unit::Seconds,
                "Time to first token, 95 %",
                "The same for 95 % of the streams. Above 5 s for ten minutes an alert fires.",
                [query(quantile("0.95", "gen_ai_server_time_to_first_token_seconds"), PROVIDER)],
            )
            .limits(&[(5.0, "red")]),
            lines(
                Unit::Seconds,
                "Time per output token",
                "Seconds for each token after the first, of streamed answers: half stay below.",
                [query(quantile("0.5", "gen_ai_server_time_per_output_token_seconds"), PROVIDER)],
            ),
            lines(
                Unit::Seconds,
                "Whole answer, 95 %",
                "From sending the request to the last byte of its answer, errors included.",
                [query(quantile("0.95", "gen_ai_client_operation_duration_seconds"), PROVIDER)],
            ),
        ],
    }
}

fn failures() -> Row {
    Row {
        title: "Failures",
        panels: vec![
            stacked(
                Unit::PerSecond,
                "Failed attempts",
                "Requests sent to an expert that came to nothing, by what happened: client_error (4xx: the request's fault), rate_limited \
                 (429), server_error (5xx), connect, timeout, reset, cut, cancelled (the client left).",
                [query(
                    "sum by (router, expert, result) (rate(expert_router_upstream_attempts_total{result!=\"ok\"}[$__rate_interval])) > 0 \
                     or sum by (router, expert, result) (rate(expert_router_upstream_attempts_total{result=\"server_error\"}[$__rate_interval]))",
                    "{{router}} / {{expert}} {{result}}",
                )],
            ),
            lines(
                Unit::Share,
                "Share of attempts that failed",
                "Failed attempts of all attempts over ten minutes; faults of requests and clients that left are not counted.",
                [query(
                    "max by (router, expert) (namespace_router_expert:expert_router_attempt_failures:ratio10m)",
                    "{{router}} / {{expert}}",
                )],
            ),
            lines(
                Unit::PerSecond,
                "Fallbacks",
                "Requests that moved on from this expert to the next before the first byte of an answer, by what failed.",
                [query(
                    "sum by (router, expert, cause) (rate(expert_router_fallbacks_total[$__rate_interval]))",
                    "{{router}} / {{expert}} {{cause}}",
                )],
            ),
            lines(
                Unit::PerSecond,
                "Answers that broke off",
                "Answers that ended before they were whole after they had begun: nothing can be retried then, and the client sees an error.",
                [query(
                    "sum by (router, expert, cause) (rate(expert_router_streams_cut_total[$__rate_interval]))",
                    "{{router}} / {{expert}} {{cause}}",
                )],
            ),
            states(
                "Out of rotation",
                "While an expert is ejected for its failures in any process, until a probe goes well; and while it is paused, since it asked for it.",
                [
                    query("max by (router, expert) (expert_router_ejected)", "{{router}} / {{expert}}"),
                    query("max by (router, expert) (expert_router_paused)", "{{router}} / {{expert}} paused"),
                ],
            ),
            lines(
                Unit::PerSecond,
                "Ejections, pauses, and fallbacks denied",
                "Times experts were taken out of rotation or asked for it, and fallbacks that were not made because the retry budget was spent.",
                [
                    query(
                        "sum by (router, expert) (rate(expert_router_ejections_total[$__rate_interval]))",
                        "{{router}} / {{expert}} ejected",
                    ),
                    query("sum by (router, expert) (rate(expert_router_pauses_total[$__rate_interval]))", "{{router}} / {{expert}} paused"),
                    query("sum by (router) (rate(expert_router_retries_denied_total[$__rate_interval]))", "{{router}} denied"),
                ],
            ),
        ],
    }
}

fn load() -> Row {
    Row {
        title: "Load and throughput",
        panels: vec![
            stacked(
                Unit::Count,
                "In flight",
                "Requests each expert works on now, over all processes.",
                [query("sum by (router, expert) (expert_router_in_flight)", "{{router}} / {{expert}}")],
            ),
            stacked(
                Unit::TokensPerSecond,
                "Output tokens",
                "Output tokens per second of all answers together.",
                [query(
                    "sum by (router, expert) (rate(expert_router_tokens_total{type=\"output\"}[$__rate_interval]))",
                    "{{router}} / {{expert}}",
                )],
            ),
            lines(
                Unit::TokensPerSecond,
                "Speed of one answer",
                "Output tokens of an answer by the seconds it took: half of the answers are faster.",
                [query(
                    "histogram_quantile(0.5, sum by (router, expert, le) (rate(expert_router_output_tokens_per_second_bucket[$__rate_interval])))",
                    "{{router}} / {{expert}}",
                )],
            ),
            lines(
                Unit::Share,
                "Input from the expert's cache",
                "Share of the input tokens that the expert had in its prompt cache.",
                [query(
                    "sum by (router, expert) (rate(expert_router_tokens_total{type=\"cached_input\"}[$__rate_interval])) / \
                     sum by (router, expert) (rate(expert_router_tokens_total{type=\"input\"}[$__rate_interval]))",
                    "{{router}} / {{expert}}",
                )],
            ),
        ],
    }
}
