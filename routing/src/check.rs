//! What must hold of a snapshot before it may route. In: a parsed snapshot. Out: the first thing wrong, by field. Each rule that can be
//! stated on a manifest too has its one place here: the manifest's own checks are about what a snapshot no longer shows.

use crate::{
    Prices, TableError,
    snapshot::{Budget, Expert, FORMAT_VERSION, Health, Model, Policy, Session, Snapshot, Timeouts},
};

/// The model name that routes in every router.
pub const AUTO: &str = "auto";

/// Prices, weights and amounts above this are slips of the keyboard; it keeps every sum finite.
const LARGEST_NUMBER: f64 = 1e9;

/// The first thing wrong with a snapshot.
pub(crate) fn check(snapshot: &Snapshot) -> Result<(), TableError> {
    if snapshot.format_version != FORMAT_VERSION {
        return wrong("formatVersion", format!("expected {FORMAT_VERSION}, got {}", snapshot.format_version));
    }
    name("router", &snapshot.router)?;
    if snapshot.experts.is_empty() {
        return wrong("experts", "expected at least one expert");
    }
    for (index, expert) in snapshot.experts.iter().enumerate() {
        let path = format!("experts[{index}]");
        expert_name(snapshot, index, &format!("{path}.name"))?;
        check_expert(expert, &path)?;
    }
    if let Some(bundle) = &snapshot.model {
        model("model", bundle)?;
    }
    if let Some(shadow) = &snapshot.shadow {
        model("shadow.model", &shadow.model)?;
        percent("shadow.percent", shadow.percent)?;
    }
    if let Some(log) = &snapshot.request_log {
        percent("requestLog.percent", log.percent)?;
    }
    policy(snapshot, &snapshot.policy)?;
    snapshot.session.as_ref().map_or(Ok(()), session)?;
    snapshot.budgets.iter().enumerate().try_for_each(|(index, _)| budget(&snapshot.budgets, index))
}

fn model(field: &str, model: &Model) -> Result<(), TableError> {
    if model.uri.is_empty() {
        return wrong(format!("{field}.uri"), "expected the path of a bundle");
    }
    match &model.sha256 {
        Some(digest) => sha256(&format!("{field}.sha256"), digest),
        None => Ok(()),
    }
}

fn percent(field: &str, percent: u8) -> Result<(), TableError> {
    if !(1..=100).contains(&percent) {
        return wrong(field, format!("expected a share from 1 to 100, got {percent}"));
    }
    Ok(())
}

fn wrong<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, TableError> {
    Err(TableError { field: field.into(), problem: problem.into() })
}

/// Names become metric labels, header values and Kubernetes object names.
fn name(field: &str, value: &str) -> Result<(), TableError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if value.is_empty() || value.len() > 253 || !value.chars().all(sound) {
        return wrong(field, format!("expected a name of letters, digits, '-', '_' and '.', got {value:?}"));
    }
    Ok(())
}

fn expert_name(snapshot: &Snapshot, index: usize, field: &str) -> Result<(), TableError> {
    let expert = &snapshot.experts[index].name;
    name(field, expert)?;
    if expert.eq_ignore_ascii_case(AUTO) {
        return wrong(field, "expected another name: \"auto\" is the model that routes");
    }
    if *expert == snapshot.router {
        return wrong(field, format!("expected another name: {expert:?} is the router's, which as a model routes"));
    }
    if let Some(earlier) = snapshot.experts[..index].iter().position(|other| other.name == *expert) {
        return wrong(field, format!("expected a unique name, {expert:?} is that of experts[{earlier}]"));
    }
    Ok(())
}

fn check_expert(expert: &Expert, path: &str) -> Result<(), TableError> {
    base_url(&format!("{path}.baseUrl"), &expert.base_url)?;
    if expert.model_name.trim().is_empty() {
        return wrong(format!("{path}.modelName"), "expected what the expert's server calls the model");
    }
    if let Some(prices) = &expert.prices {
        check_prices(prices, &format!("{path}.prices"))?;
    }
    if expert.context_tokens == Some(0) {
        return wrong(format!("{path}.contextTokens"), "expected at least 1");
    }
    if expert.max_in_flight == Some(0) {
        return wrong(format!("{path}.maxInFlight"), "expected at least 1");
    }
    for (index, message) in expert.prepend_messages.iter().enumerate() {
        if !message.get("role").is_some_and(serde_json::Value::is_string) {
            return wrong(format!("{path}.prependMessages[{index}].role"), "expected a message with a role");
        }
    }
    for field in ["model", "messages", "input", "prompt", "stream"] {
        if expert.body_overrides.contains_key(field) {
            return wrong(format!("{path}.bodyOverrides.{field}"), "expected another field: the router itself sets this one");
        }
    }
    health(&expert.health, &format!("{path}.health"))?;
    timeouts(&expert.timeouts, &format!("{path}.timeouts"))
}

fn base_url(field: &str, url: &str) -> Result<(), TableError> {
    let expected = "expected http://host[:port][/path] or https://..., without user, query and fragment";
    let Some((scheme, rest)) = url.split_once("://") else { return wrong(field, format!("{expected}, got {url:?}")) };
    let authority = rest.split('/').next().unwrap_or_default();
    // The value is not shown where it may carry a password.
    if authority.contains('@') {
        return wrong(field, format!("{expected}; credentials belong into credentials"));
    }
    let odd =
        |c: char| c.is_ascii_control() || c.is_whitespace() || !c.is_ascii() || matches!(c, '?' | '#' | '\\' | '"' | '<' | '>' | '{' | '}');
    if !matches!(scheme, "http" | "https") || url.chars().any(odd) || !host_and_port(authority) {
        return wrong(field, format!("{expected}, got {url:?}"));
    }
    Ok(())
}

fn host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host.parse::<std::net::Ipv6Addr>().is_ok(), port.strip_prefix(':').or(port.is_empty().then_some("80"))),
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
            (!host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')), Some(port))
        }
    };
    host && port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn number(field: String, value: f64) -> Result<(), TableError> {
    if value.is_finite() && (0.0..=LARGEST_NUMBER).contains(&value) {
        return Ok(());
    }
    wrong(field, format!("expected a number from 0 to {LARGEST_NUMBER:.0}, got {value}"))
}

fn check_prices(prices: &Prices, path: &str) -> Result<(), TableError> {
    let Prices { input_per_million, output_per_million, cached_input_per_million, per_request, per_hour } = *prices;
    number(format!("{path}.inputPerMillion"), input_per_million)?;
    number(format!("{path}.outputPerMillion"), output_per_million)?;
    number(format!("{path}.cachedInputPerMillion"), cached_input_per_million.unwrap_or(0.0))?;
    number(format!("{path}.perRequest"), per_request)?;
    number(format!("{path}.perHour"), per_hour)
}

fn health(health: &Health, path: &str) -> Result<(), TableError> {
    if health.consecutive_failures > 0 && health.base_ejection_seconds == 0 {
        return wrong(format!("{path}.baseEjectionSeconds"), "expected at least 1 (or consecutiveFailures 0, which never ejects)");
    }
    if health.max_ejection_seconds < health.base_ejection_seconds {
        return wrong(
            format!("{path}.maxEjectionSeconds"),
            format!("expected at least baseEjectionSeconds, {}", health.base_ejection_seconds),
        );
    }
    Ok(())
}

fn timeouts(timeouts: &Timeouts, path: &str) -> Result<(), TableError> {
    let Timeouts { connect_milliseconds, first_byte_milliseconds, idle_milliseconds, total_milliseconds } = *timeouts;
    let fields = [
        ("connectMilliseconds", connect_milliseconds),
        ("firstByteMilliseconds", first_byte_milliseconds),
        ("idleMilliseconds", idle_milliseconds),
        ("totalMilliseconds", total_milliseconds),
    ];
    match fields.iter().find(|(_, value)| !(1..=86_400_000).contains(value)) {
        Some((field, value)) => wrong(format!("{path}.{field}"), format!("expected 1 to 86400000 (a day), got {value}")),
        None => Ok(()),
    }
}

fn policy(snapshot: &Snapshot, policy: &Policy) -> Result<(), TableError> {
    number("policy.qualityTolerance".into(), policy.quality_tolerance.unwrap_or_default())?;
    number("policy.weights.quality".into(), policy.weights.quality)?;
    number("policy.weights.cost".into(), policy.weights.cost.unwrap_or_default())?;
    number("policy.weights.latency".into(), policy.weights.latency)?;
    for (field, name) in [("fallbackExpert", &policy.fallback_expert), ("baselineExpert", &policy.baseline_expert)] {
        let Some(name) = name else { continue };
        if !snapshot.experts.iter().any(|expert| expert.name == *name) {
            let names: Vec<&str> = snapshot.experts.iter().map(|expert| expert.name.as_str()).collect();
            return wrong(format!("policy.{field}"), format!("expected one of the experts ({}), got {name:?}", names.join(", ")));
        }
    }
    if policy.score_deadline_milliseconds == 0 {
        return wrong("policy.scoreDeadlineMilliseconds", "expected at least 1");
    }
    if policy.retry_budget_percent > 1000 {
        return wrong("policy.retryBudgetPercent", format!("expected 0 to 1000, got {}", policy.retry_budget_percent));
    }
    Ok(())
}

fn session(session: &Session) -> Result<(), TableError> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if session.header.is_empty() || !session.header.chars().all(token) {
        return wrong("session.header", format!("expected the name of an HTTP header, got {:?}", session.header));
    }
    if session.ttl_seconds == 0 {
        return wrong("session.ttlSeconds", "expected at least 1");
    }
    if session.max_sessions == 0 {
        return wrong("session.maxSessions", "expected at least 1");
    }
    number("session.switchGain".into(), session.switch_gain)
}

fn budget(budgets: &[Budget], index: usize) -> Result<(), TableError> {
    let (budget, path) = (&budgets[index], format!("budgets[{index}]"));
    name(&format!("{path}.name"), &budget.name)?;
    if let Some(earlier) = budgets[..index].iter().position(|other| other.name == budget.name) {
        return wrong(format!("{path}.name"), format!("expected a unique name, {:?} is that of budgets[{earlier}]", budget.name));
    }
    number(format!("{path}.amountUsd"), budget.amount_usd)?;
    number(format!("{path}.spentUsd"), budget.spent_usd)
}

fn sha256(field: &str, digest: &str) -> Result<(), TableError> {
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    wrong(field, format!("expected 64 hexadecimal digits, got {digest:?}"))
}
