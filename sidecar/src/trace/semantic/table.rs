//! The table of all attributes of spans. `docs/spans.md` is made from it, and a test holds what a collector gets against it.

use std::fmt::Write as _;

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// Its name; a name that ends with a dot is followed by an expert's.
    pub key: &'static str,
    /// The spans it is on: `S`erver, `D`ecide, `C`lient.
    pub on: &'static str,
    /// `string`, `int`, `double`, `boolean`, `string[]`.
    pub kind: &'static str,
    /// On every such span.
    pub always: bool,
    /// For people.
    pub meaning: &'static str,
}

/// What precedes an expert's name where a score is given.
pub const SCORE: &str = "expert_router.score.";

const fn always(key: &'static str, on: &'static str, kind: &'static str, meaning: &'static str) -> Attribute {
    Attribute { key, on, kind, always: true, meaning }
}

const fn known(key: &'static str, on: &'static str, kind: &'static str, meaning: &'static str) -> Attribute {
    Attribute { key, on, kind, always: false, meaning }
}

/// Every attribute there is.
pub const ATTRIBUTES: &[Attribute] = &[
    // HTTP's conventions.
    always("http.request.method", "SC", "string", "`_OTHER` for methods nobody has defined."),
    known("http.route", "S", "string", "The path's pattern, for paths of this router."),
    always("url.path", "S", "string", "As asked for, up to 256 bytes; never the query."),
    always("url.scheme", "S", "string", "`http` or `https`."),
    known("http.response.status_code", "SC", "int", "Absent where there was no answer."),
    known("http.request.resend_count", "C", "int", "From the second attempt on: how many came before."),
    always("network.protocol.version", "S", "string", "`1.1` or `2`."),
    known("user_agent.original", "S", "string", "The client's, up to 256 bytes."),
    always("server.port", "C", "int", "The expert's."),
    always("server.address", "C", "string", "The expert's host."),
    known(
        "error.type",
        "SC",
        "string",
        "On errors. SERVER: the outcome, where the fault was the expert's or the router's. CLIENT: the status, else `timeout`, `connect`, `reset`, `cut`, `upstream_cut`.",
    ),
    // GenAI's conventions.
    known("gen_ai.operation.name", "SC", "string", "`chat`, `text_completion`, `embeddings`."),
    always("gen_ai.provider.name", "C", "string", "The expert's name, as in the metrics."),
    known("gen_ai.request.model", "SC", "string", "SERVER: as the client asked, `auto` where it named none. CLIENT: the expert's model."),
    always("gen_ai.request.stream", "C", "boolean", "The client asked for a stream."),
    known("gen_ai.request.choice.count", "C", "int", "Where it is not 1."),
    known("gen_ai.request.max_tokens", "C", "int", "As asked for."),
    known("gen_ai.request.temperature", "C", "double", "As asked for."),
    known("gen_ai.request.top_p", "C", "double", "As asked for."),
    known("gen_ai.request.top_k", "C", "double", "As asked for."),
    known("gen_ai.request.frequency_penalty", "C", "double", "As asked for."),
    known("gen_ai.request.presence_penalty", "C", "double", "As asked for."),
    known("gen_ai.request.seed", "C", "int", "As asked for."),
    known("gen_ai.response.id", "C", "string", "The expert's id of the answer."),
    known("gen_ai.response.model", "C", "string", "As the expert's server calls it."),
    known("gen_ai.response.finish_reasons", "C", "string[]", "Why each choice ended."),
    known("gen_ai.response.time_to_first_chunk", "C", "double", "Seconds from sending to the first content, of streams."),
    known("gen_ai.usage.input_tokens", "C", "int", "Of the attempt that answered; cached ones included."),
    known("gen_ai.usage.output_tokens", "C", "int", "Of the attempt that answered."),
    known("gen_ai.usage.cache_read.input_tokens", "C", "int", "The part of the input that came from the expert's cache."),
    // Our own.
    always("expert_router.router", "S", "string", "The router's name."),
    always("expert_router.revision", "S", "string", "Of the configuration it was served by."),
    always("expert_router.request_id", "S", "string", "As in the answer's `x-request-id` and in the log."),
    always("expert_router.outcome", "S", "string", "How it ended, as in `expert_router_requests_total`."),
    known("expert_router.client", "S", "string", "Name of the client's key."),
    known("expert_router.expert", "SC", "string", "SERVER: who answered. CLIENT: who was asked."),
    known("expert_router.reason", "SD", "string", "Why, as in `expert_router_decisions_total`."),
    always("expert_router.attempts", "S", "int", "Requests sent to experts."),
    known("expert_router.read_seconds", "S", "double", "To the end of the request's body."),
    known("expert_router.cost_usd", "S", "double", "What the answer cost."),
    known("expert_router.baseline_cost_usd", "S", "double", "What the baseline would have cost."),
    known("expert_router.usage_estimated", "S", "boolean", "The expert said nothing of tokens: they are guessed."),
    always("expert_router.chosen", "D", "string", "Who was chosen first."),
    always("expert_router.prompt_tokens", "D", "int", "Estimated, to see whom the prompt fits."),
    known("expert_router.predicted_cost_usd", "D", "double", "Predicted cost of the chosen expert."),
    known("expert_router.score_failure", "D", "string", "Why there are no scores."),
    known(SCORE, "D", "double", "And the expert's name: its predicted score, where the model was asked."),
    always("expert_router.phase.tokenize_seconds", "D", "double", "Text to tokens or features."),
    always("expert_router.phase.queue_seconds", "D", "double", "Waiting for the model."),
    always("expert_router.phase.encode_seconds", "D", "double", "In the model."),
    always("expert_router.phase.choose_seconds", "D", "double", "Scores to decision."),
    always("expert_router.attempt.result", "C", "string", "As in `expert_router_upstream_attempts_total`."),
];

/// The table for people.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "<!-- Made by `make generate` from sidecar/src/trace/semantic/table.rs. -->\n\
         # Spans\n\n\
         What `expert-router` says of a traced request ([tracing.md](tracing.md)). Each makes\n\n\
         - a SERVER span, `POST /v1/chat/completions`: what the client saw, from the request's head to the answer's last byte;\n\
         - an INTERNAL span, `decide`: from the parsed request to the choice of an expert;\n\
         - a CLIENT span for each request to an expert, `chat MODEL`, those that failed included.\n\n\
         Names without `expert_router.` are OpenTelemetry's, of its conventions for HTTP and for generative AI (schema 1.42). There is no text\n\
         of a prompt or an answer in any of them. `*`: on every such span.\n\n\
         | attribute | on | type | meaning |\n|---|---|---|---|\n",
    );
    for attribute in ATTRIBUTES {
        let spans: Vec<_> = [('S', "SERVER"), ('D', "decide"), ('C', "CLIENT")]
            .into_iter()
            .filter_map(|(letter, name)| attribute.on.contains(letter).then_some(name))
            .collect();
        let (expert, star) = (if attribute.key == SCORE { "EXPERT" } else { "" }, if attribute.always { "*" } else { "" });
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}{expert}`{star} | {} | {} | {} |", attribute.key, spans.join(", "), attribute.kind, attribute.meaning);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_the_conventions_or_ours() {
        let mut keys = std::collections::BTreeSet::new();
        for attribute in ATTRIBUTES {
            assert!(keys.insert(attribute.key), "{} twice", attribute.key);
            let namespaces = ["http.", "url.", "network.", "user_agent.", "server.", "error.", "gen_ai.", "expert_router."];
            assert!(namespaces.iter().any(|namespace| attribute.key.starts_with(namespace)), "{}", attribute.key);
            assert!(!attribute.on.is_empty() && attribute.meaning.ends_with('.'), "{}", attribute.key);
        }
    }
}
