//! What is watched is true: a real Prometheus scrapes two real routers and the operator's metrics under mixed traffic. Every panel and
//! rule has data, and money, tokens and counts equal what the client adds up by itself.

mod books;
mod controller;
mod hostile;
mod traffic;

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use tests::{
    Router, client, eventually, lexical_bundle, picture,
    prometheus::{Prometheus, RULES, Target, dashboards, promtool, substituted},
};

use books::{Books, same};
use traffic::{Experts, alpha, beta, question, vary};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");

/// Much more than anything here takes; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn rules_are_sound_and_each_alert_fires_when_it_should_and_not_otherwise() -> Result<()> {
    promtool(&["check", "rules", RULES], "")?;
    promtool(&["test", "rules", "tests/prometheus/alerts.test.yaml"], "")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_rule_has_data_and_money_adds_up() -> Result<()> {
    let experts = Experts::start().await?;
    let bundle = tempfile::tempdir()?;
    lexical_bundle(bundle.path())?;
    // The same bundle is on trial: it agrees with itself.
    let (path, log) = (bundle.path().join("bundle"), bundle.path().join("log"));
    let aside = [
        ("EXPERT_ROUTER_SHADOW_BUNDLE", path.to_str().context("a path of UTF-8")?),
        ("EXPERT_ROUTER_SHADOW_PERCENT", "100"),
        ("EXPERT_ROUTER_REQUEST_LOG_DIR", log.to_str().context("a path of UTF-8")?),
    ];
    let alpha = Router::start_in(EXPERT_ROUTER, &alpha(&experts, &path), &aside)?;
    let beta = Router::start(EXPERT_ROUTER, &beta(&experts))?;
    let operator = controller::serve().await?;
    let target = |job, address: &str, namespace| Target { job, address: address.to_owned(), namespace };
    let prometheus = Prometheus::start(&[
        target("alpha", alpha.admin(), "shop"),
        target("beta", beta.admin(), "lab"),
        target("operator", &operator, "system"),
    ])?;
    eventually("all are scraped", PATIENCE, async || Ok(prometheus.number("sum(up)").await? == 3.0)).await?;

    let began = seconds();
    let books = in_rounds(&alpha, &beta, &prometheus).await?;
    money_adds_up(&prometheus, &books).await?;
    what_is_done_aside_is_counted(&prometheus).await?;
    every_expression_has_data(&prometheus).await?;
    every_rule_holds(&prometheus).await?;
    draw(&prometheus, began).await?;
    for address in [alpha.admin(), beta.admin(), &operator] {
        let page = client()?.get(format!("http://{address}/metrics")).send().await?.text().await?;
        promtool(&["check", "metrics"], &page)?;
    }
    Ok(())
}

/// Rates need counts that rise between scrapes: so the traffic comes in rounds, each seen before the next.
async fn in_rounds(alpha: &Router, beta: &Router, prometheus: &Prometheus) -> Result<Books> {
    let mut books = Books::default();
    for round in 0..3 {
        for number in 0..12 {
            books.ask(alpha, "alpha", &question(round * 12 + number)).await?;
        }
        for number in 0..6 {
            vary(beta, round * 6 + number).await?;
        }
        let sent = f64::from(18 * (round + 1));
        let seen = async || Ok(prometheus.number("sum(expert_router_requests_total)").await? == sent);
        eventually("the round is scraped", PATIENCE, seen).await?;
    }
    ensure!(books.by_expert.len() == 2, "both experts answered: {books:?}");
    ensure!(books.fell_back > 0, "a fault made a request fall back");
    Ok(books)
}

/// To the cent, and beyond.
async fn money_adds_up(prometheus: &Prometheus, books: &Books) -> Result<()> {
    for (expert, book) in &books.by_expert {
        let labels = format!("router=\"alpha\", expert=\"{expert}\"");
        let of = async |metric: &str| prometheus.number(&format!("sum({metric})")).await;
        same("cost", of(&format!("expert_router_cost_usd_total{{{labels}}}")).await?, book.cost)?;
        same("baseline", of(&format!("expert_router_baseline_cost_usd_total{{{labels}}}")).await?, book.baseline)?;
        for (kind, tokens) in [("input", book.input), ("cached_input", book.cached), ("output", book.output)] {
            same(kind, of(&format!("expert_router_tokens_total{{{labels}, type=\"{kind}\"}}")).await?, tokens)?;
        }
        let answered = format!(
            "gen_ai_client_operation_duration_seconds_count{{router=\"alpha\", gen_ai_provider_name=\"{expert}\", error_type=\"\"}}"
        );
        same("answers", of(&answered).await?, book.answers)?;
    }
    let (cost, baseline) = books.by_expert.values().fold((0.0, 0.0), |sum, book| (sum.0 + book.cost, sum.1 + book.baseline));
    same("savings", prometheus.number("sum(expert_router_savings_usd{router=\"alpha\"})").await?, baseline - cost)?;
    same("spent of the budget", prometheus.number("max(expert_router_budget_spent_usd{router=\"alpha\"})").await?, cost)?;
    same("fallbacks", prometheus.number("sum(expert_router_fallbacks_total{router=\"alpha\"})").await?, f64::from(books.fell_back))
}

/// 36 questions, a sixth of them pinned. Both are done after the answer, some time.
async fn what_is_done_aside_is_counted(prometheus: &Prometheus) -> Result<()> {
    let aside = [
        ("expert_router_shadow_decisions_total{agreed=\"true\"}", 30.0),
        ("expert_router_shadow_decisions_total{agreed=\"false\"}", 0.0),
        ("expert_router_request_log_rows_total", 36.0),
    ];
    for (series, value) in aside {
        let seen = async || Ok(prometheus.number(&format!("sum({series})")).await? == value);
        eventually(&format!("{series} is {value}"), PATIENCE, seen).await?;
    }
    Ok(())
}

/// A minute of dashboards, as Grafana would ask, with "all" for every variable; and the choices of the variables.
async fn every_expression_has_data(prometheus: &Prometheus) -> Result<()> {
    let mut asked = 0;
    for (title, dashboard) in dashboards()? {
        for variable in dashboard["templating"]["list"].as_array().context("variables")? {
            let Some(query) = variable["definition"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).context("label_values")?;
            let (series, label) = inner.rsplit_once(", ").context("a metric and a label")?;
            let found = prometheus.get(&format!("label/{label}/values"), &[("match[]", &substituted(series))]).await?;
            ensure!(found.as_array().is_some_and(|values| !values.is_empty()), "{title}: {query} has no choices");
        }
        for panel in dashboard["panels"].as_array().context("panels")? {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = substituted(target["expr"].as_str().context("an expression")?);
                let has_data = async || Ok(!prometheus.query(&expression).await?.is_empty());
                eventually(&format!("{title} / {}: {expression}", panel["title"]), PATIENCE, has_data).await?;
                asked += 1;
            }
        }
    }
    ensure!(asked > 60, "only {asked} expressions were asked");
    Ok(())
}

/// Every rule is evaluated without an error: records have data, and no alert fires.
async fn every_rule_holds(prometheus: &Prometheus) -> Result<()> {
    let rules = prometheus.get("rules", &[]).await?;
    let mut alerts = 0;
    for rule in rules["groups"].as_array().context("groups")?.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()) {
        ensure!(rule["health"] == "ok", "{rule}");
        let name = rule["name"].as_str().context("a name")?;
        if rule["type"] == "recording" {
            let has_data = async || Ok(!prometheus.query(name).await?.is_empty());
            eventually(name, PATIENCE, has_data).await?;
        } else {
            // Each has a `for` longer than this test; whether it fires when it should is promtool's part.
            ensure!(rule["state"] != "firing", "{rule}");
            alerts += 1;
        }
    }
    ensure!(alerts > 10, "only {alerts} alerts");
    Ok(())
}

/// The pictures of docs/dashboards come from here: `target/dashboards`.
async fn draw(prometheus: &Prometheus, began: f64) -> Result<()> {
    let folder = tests::workspace().join("target/dashboards");
    fs::create_dir_all(&folder)?;
    for (title, dashboard) in dashboards()? {
        let svg = picture::draw(&dashboard, prometheus, began, seconds()).await.with_context(|| format!("drawing {title}"))?;
        let name = dashboard["uid"].as_str().unwrap_or_default().trim_start_matches("expert-router-");
        fs::write(folder.join(format!("{name}.svg")), svg)?;
    }
    Ok(())
}

fn seconds() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
