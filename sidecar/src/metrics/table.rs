//! The table of all metrics. The first half of `docs/metrics.md` is made from it.

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations below each bound.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// As scraped.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// In the order the code gives their values.
    pub labels: &'static [&'static str],
    /// For people.
    pub help: &'static str,
}

/// From a lexical score's microseconds to an encoder under load.
const DECISION_SECONDS: &[f64] =
    &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// The bounds OpenTelemetry's GenAI conventions advise.
const OPERATION_SECONDS: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const TOKENS: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
const FIRST_TOKEN_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const OUTPUT_TOKEN_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// Of predicted scores, which lie between 0 and 1 where they are shares of right answers or BERTScores.
const SCORES: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Of what is given up of them; 0 is the best expert itself.
const LOSSES: &[f64] = &[0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
/// Of what a model in shadow promises more, or less.
const GAINS: &[f64] = &[-0.2, -0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
const TOKENS_PER_SECOND: &[f64] = &[1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 400.0, 800.0, 1600.0];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], buckets: &'static [f64], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram(buckets), labels, help }
}

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    // Requests.
    counter(
        "expert_router_requests_total",
        &["endpoint", "outcome", "status"],
        "Requests that have ended, however they ended; status is its class, or none where the client never got one.",
    ),
    histogram(
        "expert_router_request_duration_seconds",
        &["endpoint"],
        OPERATION_SECONDS,
        "From a request's head to the last byte of its answer.",
    ),
    gauge("expert_router_connections", &[], "Client connections open now."),
    counter("expert_router_connections_total", &[], "Client connections accepted."),
    counter(
        "expert_router_tls_handshake_failures_total",
        &[],
        "Client connections that failed in the TLS handshake: as a rule a client that does not trust the certificate.",
    ),
    // Decisions.
    counter("expert_router_decisions_total", &["expert", "reason"], "Decisions, by the expert chosen and why."),
    counter(
        "expert_router_refusals_total",
        &["reason"],
        "Requests for which no expert could be chosen, by why: raise maxInFlight (saturated), add an expert that can (capability, context).",
    ),
    histogram(
        "expert_router_decision_duration_seconds",
        &["phase"],
        DECISION_SECONDS,
        "Time of a decision by phase: tokenize, queue (waiting for the encoder), encode, choose; and total.",
    ),
    counter(
        "expert_router_score_failures_total",
        &["reason"],
        "Decisions that had to do without a score, by why. deadline_exceeded, overloaded: more inference threads or a faster router.",
    ),
    counter("expert_router_score_cache_hits_total", &[], "Scores that came from the cache of repeated prompts."),
    histogram(
        "expert_router_predicted_score",
        &["of"],
        SCORES,
        "Score the model predicts for the best expert and for the chosen one; of bundles that give scores, not probabilities.",
    ),
    histogram(
        "expert_router_predicted_loss",
        &[],
        LOSSES,
        "Predicted score of the best expert less that of the chosen one: the quality given up.",
    ),
    gauge("expert_router_shadow_ready", &[], "1 while a model is in shadow: asked too, and not listened to; else 0."),
    counter(
        "expert_router_shadow_decisions_total",
        &["expert", "agreed"],
        "Requests looked at by the model in shadow, by the expert it would have chosen, and whether that was the one chosen: true, false.",
    ),
    histogram(
        "expert_router_shadow_predicted_gain",
        &[],
        GAINS,
        "Score the model in shadow predicts for its own choice less that for the choice made; below 0 where it gives up score for cost.",
    ),
    counter(
        "expert_router_shadow_predicted_cost_usd_total",
        &["of"],
        "Cost the model in shadow predicts, in USD: of its own choices (shadow) and of the choices made (chosen), for the same requests.",
    ),
    counter(
        "expert_router_shadow_skipped_total",
        &["reason"],
        "Requests the model in shadow was to look at and did not: queue_full (it is too slow), no_score (it failed), refused.",
    ),
    gauge(
        "expert_router_model_ready",
        &[],
        "1 where a router model is loaded and in use, else 0: then the fallback expert answers what needs a score.",
    ),
    gauge("expert_router_sessions", &[], "Conversations remembered."),
    // Experts.
    counter("expert_router_upstream_attempts_total", &["expert", "result"], "Requests sent to an expert, by what came of each."),
    counter("expert_router_fallbacks_total", &["expert", "cause"], "Requests that moved on from this expert to the next, by what failed."),
    counter(
        "expert_router_stale_connection_retries_total",
        &["expert"],
        "Requests sent again because a pooled connection turned out to be closed.",
    ),
    counter(
        "expert_router_retries_denied_total",
        &[],
        "Fallbacks not made because the retry budget was spent: too many fail at once for stepping in to help.",
    ),
    counter("expert_router_streams_cut_total", &["expert", "cause"], "Answers that broke off after they had begun, by why."),
    gauge("expert_router_in_flight", &["expert"], "Requests an expert is working on now."),
    gauge(
        "expert_router_ejected",
        &["expert"],
        "1 while an expert is out of rotation for its failures, else 0. Why: expert_router_upstream_attempts_total by result.",
    ),
    counter("expert_router_ejections_total", &["expert"], "Times an expert was taken out of rotation for its failures."),
    gauge(
        "expert_router_paused",
        &["expert"],
        "1 while an expert is out of rotation since it asked for it (429 or 503 with Retry-After), else 0.",
    ),
    counter(
        "expert_router_pauses_total",
        &["expert"],
        "Times an expert asked for a pause: raise its limits, or give it less to do (maxInFlight).",
    ),
    // Tokens and money.
    counter("expert_router_tokens_total", &["expert", "type"], "Tokens: input (cached ones included), cached_input, output."),
    counter(
        "expert_router_usage_missing_total",
        &["expert"],
        "Answers without usage: their tokens, and so their cost, are estimates. Have the server send usage.",
    ),
    counter(
        "expert_router_unpriced_requests_total",
        &["expert"],
        "Answers of experts without prices: they count as free. Give the expert pricing.",
    ),
    counter("expert_router_cost_usd_total", &["expert"], "What answers cost, in USD."),
    counter(
        "expert_router_baseline_cost_usd_total",
        &["expert"],
        "What the answers of this expert would have cost from the baseline expert, in USD.",
    ),
    gauge(
        "expert_router_savings_usd",
        &[],
        "Baseline cost less cost of all answers since the start, in USD; falls where the baseline would have been cheaper.",
    ),
    counter(
        "expert_router_client_cost_usd_total",
        &["client"],
        "What answers cost, in USD, by the name of the client key; empty where keys are not asked for.",
    ),
    gauge(
        "expert_router_budget_spent_usd",
        &["budget"],
        "Spent in the current period, as far as this process knows; of a budget per client key, by all clients together.",
    ),
    gauge("expert_router_budget_amount_usd", &["budget"], "What the period may cost."),
    gauge(
        "expert_router_budget_used_ratio",
        &["budget"],
        "Spent of the amount, 1 being all; of a budget per client key, by the client that spent most.",
    ),
    gauge("expert_router_budget_period_remaining_seconds", &["budget"], "Until the budget starts anew."),
    gauge("expert_router_expert_cost_per_hour_usd", &["expert"], "What an hour of an expert costs that is paid by the hour."),
    histogram("expert_router_output_tokens_per_second", &["expert"], TOKENS_PER_SECOND, "Output tokens by the seconds an answer took."),
    // OpenTelemetry's names.
    histogram(
        "gen_ai_client_token_usage",
        &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
        TOKENS,
        "Tokens of an answer; the provider is the expert's name.",
    ),
    histogram(
        "gen_ai_client_operation_duration_seconds",
        &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"],
        OPERATION_SECONDS,
        "From sending the request to the expert to the last byte of its answer; error_type is empty where it went well.",
    ),
    histogram(
        "gen_ai_server_time_to_first_token_seconds",
        &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
        FIRST_TOKEN_SECONDS,
        "From sending the request to the first piece of a streamed answer.",
    ),
    histogram(
        "gen_ai_server_time_per_output_token_seconds",
        &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
        OUTPUT_TOKEN_SECONDS,
        "Seconds per output token after the first, of streamed answers.",
    ),
    // Configuration.
    counter("expert_router_config_reloads_total", &[], "Times a new configuration went into force, the first included."),
    counter(
        "expert_router_config_reload_failures_total",
        &["what"],
        "Changes that could not be used: source, files, model, shadow, keys or tls. The configuration before them stays in force.",
    ),
    gauge(
        "expert_router_config_stale",
        &[],
        "1 while a newer configuration is there that cannot be used, else 0. Why: /snapshot of the admin port, and the log.",
    ),
    gauge("expert_router_snapshot_info", &["revision"], "1 for the revision in force."),
    gauge("expert_router_snapshot_age_seconds", &[], "Since the configuration in force was loaded."),
    gauge(
        "expert_router_tls_certificate_not_after_seconds",
        &[],
        "When the certificate that clients meet ends, seconds since 1970; 0 where TLS is not served.",
    ),
    // Traces.
    counter(
        "expert_router_trace_spans_total",
        &["result"],
        "Spans by what became of them: sent; dropped, since the queue was full; unsent, since the collector was away or busy for too long; rejected by it. Nothing where nothing is traced.",
    ),
    // The log of requests.
    counter("expert_router_request_log_rows_total", &[], "Requests kept for training."),
    counter(
        "expert_router_request_log_dropped_total",
        &["reason"],
        "Requests not kept: queue_full (the disk is too slow), too_large, unsuitable (tools, pictures, no text), write_failed.",
    ),
    counter(
        "expert_router_request_log_deleted_files_total",
        &[],
        "Files of kept requests deleted because all together would have been larger than they may be.",
    ),
    // Process.
    gauge("process_start_time_seconds", &[], "Start of the process, seconds since 1970."),
    gauge("process_resident_memory_bytes", &[], "Resident memory."),
    gauge("process_open_fds", &[], "Open file descriptors."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_follow_prometheus_habits() {
        let mut names = std::collections::BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} twice", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted(), "{}", metric.name);
            }
        }
    }
}
