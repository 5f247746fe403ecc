//! Routing: who gets what, why, and what deciding takes.

mod aside;

use super::grafana::{Dashboard, Row, Unit, column, lines, number, query, shares, stacked, table};
use super::scope::Variable;

const MODEL_REASONS: &str = "quality|cost|balanced|session";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "expert-router-routing",
        title: "Routing",
        description: "Which expert gets which share of the requests, why, and what the decision takes.",
        variables: &[Variable::Namespace, Variable::Router, Variable::Expert],
        population: &[
            (Variable::Namespace, "expert_router_snapshot_info"),
            (Variable::Router, "expert_router_snapshot_info"),
            (Variable::Expert, "expert_router_decisions_total"),
        ],
        rows: vec![now(), shares_of_experts(), request_time(), decision_time(), quality(), aside::shadow(), aside::kept(), configuration()],
    }
}

fn now() -> Row {
    Row {
        title: "Now",
        panels: vec![
            number(
                Unit::PerSecond,
                "Requests",
                "Requests that ended, per second, over all endpoints and outcomes.",
                query("sum(rate(expert_router_requests_total[$__rate_interval]))", "requests"),
            ),
            number(
                Unit::Share,
                "Failed requests",
                "Share of requests that were answered with a 5xx status. Above 5 % an alert fires.",
                query("max(namespace_router:expert_router_errors:ratio5m)", "failed"),
            )
            .limits(&[(0.01, "orange"), (0.05, "red")]),
            number(
                Unit::Share,
                "Decided by the model",
                "Share of decisions in which the router model's scores (or the conversation they began) chose the expert. The rest was \
                 pinned by the client, had one candidate only, or had to do without a score.",
                query(
                    format!(
                        "sum(increase(expert_router_decisions_total{{reason=~\"{MODEL_REASONS}\"}}[$__range])) / \
                         sum(increase(expert_router_decisions_total[$__range]))"
                    ),
                    "by the model",
                ),
            ),
            number(
                Unit::Seconds,
                "Decision, 99th percentile",
                "Time from the parsed request to the decision: what the router itself adds before the expert is called.",
                query("max(namespace_router:expert_router_decision_duration_seconds:p99_5m)", "decision"),
            )
            .limits(&[(0.05, "orange"), (0.25, "red")]),
            number(
                Unit::Count,
                "Processes with a model",
                "Processes (gateways and sidecars) that route by a loaded router model. Fewer than there are processes: some have none yet \
                 or cannot load it, and there the fallback expert answers.",
                query("sum(expert_router_model_ready)", "with a model"),
            ),
            number(
                Unit::Count,
                "Revisions in force",
                "Different revisions of the configuration among the processes of one router. More than one for long: some process does not \
                 get or does not take the newest.",
                query(
                    "max(count by (namespace, router) (count by (namespace, router, revision) (expert_router_snapshot_info)))",
                    "revisions",
                ),
            )
            .limits(&[(2.0, "orange")]),
        ],
    }
}

fn shares_of_experts() -> Row {
    Row {
        title: "Who gets what, and why",
        panels: vec![
            stacked(
                Unit::PerSecond,
                "Decisions by expert",
                "Decisions per second, by the expert chosen. Fallbacks after a failure are not in it: see Experts.",
                [query("sum by (router, expert) (rate(expert_router_decisions_total[$__rate_interval]))", "{{router}} / {{expert}}")],
            ),
            shares(
                Unit::PerSecond,
                "Share of each expert",
                "The same as shares of all decisions. A sudden change without a change of configuration means other questions, or experts \
                 out of rotation.",
                [query("sum by (router, expert) (rate(expert_router_decisions_total[$__rate_interval]))", "{{router}} / {{expert}}")],
            ),
            stacked(
                Unit::PerSecond,
                "Decisions by reason",
                "Why the expert was chosen: by score (quality, cost, balanced), by conversation (session), by the client (pinned), by a \
                 spent budget (budget), for want of another (only_candidate), or without a score (no_model, model_broken, \
                 deadline_exceeded, overloaded).",
                [query("sum by (reason) (rate(expert_router_decisions_total[$__rate_interval])) > 0", "{{reason}}")],
            ),
            stacked(
                Unit::PerSecond,
                "Requests by outcome",
                "How requests ended, client's faults included. Outcomes that begin with upstream are the experts'.",
                [query("sum by (outcome) (rate(expert_router_requests_total[$__rate_interval]))", "{{outcome}}")],
            ),
            table(
                "Decisions in the time shown",
                "How often each expert was chosen for which reason.",
                [column(
                    "sum by (namespace, router, expert, reason) (increase(expert_router_decisions_total[$__range])) > 0",
                    "Decisions",
                    Unit::Count,
                )],
            ),
        ],
    }
}

fn whole_request(q: &str) -> String {
    format!("histogram_quantile({q}, sum by (le) (rate(expert_router_request_duration_seconds_bucket[$__rate_interval])))")
}

fn request_time() -> Row {
    Row {
        title: "How long requests take",
        panels: vec![
            lines(
                Unit::Seconds,
                "Whole request",
                "From a request's head to the last byte of its answer, as clients of all processes see it. Most of it is the expert's: see \
                 Experts.",
                [query(whole_request("0.5"), "half"), query(whole_request("0.95"), "95 %"), query(whole_request("0.99"), "99 %")],
            ),
            lines(
                Unit::Seconds,
                "Added by the router",
                "Mean time of a request in which the expert that answered was not at work: reading, deciding, and passing on, and experts \
                 that failed before it. What is above the decision time is the network of the clients and the proxy itself. Of all experts, \
                 whichever are chosen above.",
                [query(
                    "clamp_min(sum by (router) (rate(expert_router_request_duration_seconds_sum[$__rate_interval])) - \
                     sum by (router) (rate(gen_ai_client_operation_duration_seconds_sum{gen_ai_provider_name=~\".*\"}[$__rate_interval])), 0) / \
                     (sum by (router) (rate(expert_router_request_duration_seconds_count[$__rate_interval])) > 0)",
                    "{{router}}",
                )],
            ),
        ],
    }
}

fn decision_time() -> Row {
    let quantile = |q: &str| {
        format!(
            "histogram_quantile({q}, sum by (le) (rate(expert_router_decision_duration_seconds_bucket{{phase=\"total\"}}[$__rate_interval])))"
        )
    };
    Row {
        title: "What deciding takes",
        panels: vec![
            lines(
                Unit::Seconds,
                "Decision time",
                "From the parsed request to the decision, over all processes.",
                [query(quantile("0.5"), "half"), query(quantile("0.95"), "95 %"), query(quantile("0.99"), "99 %")],
            ),
            stacked(
                Unit::Seconds,
                "Decision time by phase",
                "Mean time a decision spends in each phase: tokenize (text to tokens or features), queue (waiting for the encoder), encode \
                 (in the model), choose (scores to decision). A growing queue means too few inference threads.",
                [query(
                    "sum by (phase) (rate(expert_router_decision_duration_seconds_sum{phase!=\"total\"}[$__rate_interval])) / on () group_left () \
                     sum(rate(expert_router_decision_duration_seconds_count{phase=\"total\"}[$__rate_interval]))",
                    "{{phase}}",
                )],
            ),
            lines(
                Unit::PerSecond,
                "Decisions without a score",
                "Decisions that had to do without a score, by why: no_model, model_broken, deadline_exceeded (scoreDeadlineMilliseconds), \
                 overloaded (too many wait for the encoder).",
                [query("sum by (router, reason) (rate(expert_router_score_failures_total[$__rate_interval]))", "{{router}} / {{reason}}")],
            ),
            lines(
                Unit::Share,
                "Scores from the cache",
                "Share of decisions whose score was remembered from an equal prompt.",
                [query(
                    "sum by (router) (rate(expert_router_score_cache_hits_total[$__rate_interval])) / \
                     sum by (router) (rate(expert_router_decision_duration_seconds_count{phase=\"total\"}[$__rate_interval]))",
                    "{{router}}",
                )],
            ),
        ],
    }
}

fn quality() -> Row {
    Row {
        title: "Quality as predicted",
        panels: vec![
            lines(
                Unit::Score,
                "Predicted score",
                "Mean score the model predicts for the best expert and for the one that was chosen. What lies between is given up for cost, \
                 latency, stickiness or limits. Bundles that give probabilities instead of scores have no score to show; their loss is \
                 beside this.",
                [
                    query(
                        "sum by (router) (rate(expert_router_predicted_score_sum{of=\"best\"}[$__rate_interval])) / \
                         sum by (router) (rate(expert_router_predicted_score_count{of=\"best\"}[$__rate_interval]))",
                        "{{router}} best",
                    ),
                    query(
                        "sum by (router) (rate(expert_router_predicted_score_sum{of=\"chosen\"}[$__rate_interval])) / \
                         sum by (router) (rate(expert_router_predicted_score_count{of=\"chosen\"}[$__rate_interval]))",
                        "{{router}} chosen",
                    ),
                ],
            ),
            lines(
                Unit::Score,
                "Quality given up",
                "Predicted score of the best expert less that of the chosen one, in units of the score the router was trained on: mean, and \
                 what nine of ten decisions stay below.",
                [
                    query(
                        "sum by (router) (rate(expert_router_predicted_loss_sum[$__rate_interval])) / \
                         sum by (router) (rate(expert_router_predicted_loss_count[$__rate_interval]))",
                        "{{router}} mean",
                    ),
                    query(
                        "histogram_quantile(0.9, sum by (router, le) (rate(expert_router_predicted_loss_bucket[$__rate_interval])))",
                        "{{router}} 90 %",
                    ),
                ],
            ),
            lines(
                Unit::PerSecond,
                "Refusals",
                "Requests for which no expert could be chosen, by why: capability and context (the request fits none), unhealthy (all out of \
                 rotation), saturated (all at maxInFlight), or no score where the policy fails closed.",
                [query("sum by (router, reason) (rate(expert_router_refusals_total[$__rate_interval]))", "{{router}} / {{reason}}")],
            ),
            lines(
                Unit::Count,
                "Conversations remembered",
                "Conversations that are kept with their expert now.",
                [query("sum by (router) (expert_router_sessions)", "{{router}}")],
            ),
        ],
    }
}

fn configuration() -> Row {
    Row {
        title: "Processes and their configuration",
        panels: vec![
            lines(
                Unit::Seconds,
                "Age of the configuration",
                "Since each router's newest and oldest configuration in force was loaded. After a change both fall to nothing.",
                [
                    query("min by (router) (expert_router_snapshot_age_seconds)", "{{router}} newest"),
                    query("max by (router) (expert_router_snapshot_age_seconds)", "{{router}} oldest"),
                ],
            ),
            lines(
                Unit::Count,
                "Changes that cannot be used",
                "Processes that keep an older configuration because the newest cannot be used. /snapshot of their admin port says why.",
                [query("sum by (router) (expert_router_config_stale)", "{{router}}")],
            ),
            lines(
                Unit::Count,
                "Client connections",
                "Connections open now.",
                [query("sum by (router) (expert_router_connections)", "{{router}}")],
            ),
            lines(
                Unit::Bytes,
                "Memory",
                "Resident memory of the largest process of each router.",
                [query("max by (router) (process_resident_memory_bytes{router!=\"\"})", "{{router}}")],
            ),
        ],
    }
}
