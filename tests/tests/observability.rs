//! What is watched is true: a real Prometheus scrapes two real routers and the operator's metrics under mixed traffic. Every panel and
//! rule has data, and money, tokens and counts equal what the client adds up by itself.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use replay::{Answer, Options, Replay, Script};
use serde_json::{Value, json};
use tests::{
    Router, client, eventually, law, lexical_bundle, picture,
    prometheus::{Prometheus, RULES, Target, dashboards, promtool, substituted},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");

/// Much more than anything here takes; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(120);

/// USD for a million tokens: input, cached input, output. Dear, so that cents show.
const SMALL: [f64; 3] = [300.0, 300.0, 900.0];
const LARGE: [f64; 3] = [2500.0, 1250.0, 10_000.0];

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
    let operator = serve_operator().await?;
    let target = |job, address: &str, namespace| Target { job, address: address.to_owned(), namespace };
    let prometheus = Prometheus::start(&[
        target("alpha", alpha.admin(), "shop"),
        target("beta", beta.admin(), "lab"),
        target("operator", &operator, "system"),
    ])?;
    eventually("all are scraped", PATIENCE, async || Ok(prometheus.number("sum(up)").await? == 3.0)).await?;

    let began = seconds();
    // Rates need counts that rise between scrapes: so the traffic comes in rounds, each seen before the next.
    let mut books = Books::default();
    for round in 0..3 {
        for number in 0..12 {
            books.ask(&alpha, "alpha", &question(round * 12 + number)).await?;
        }
        for number in 0..6 {
            vary(&beta, round * 6 + number).await?;
        }
        let sent = f64::from(18 * (round + 1));
        let seen = async || Ok(prometheus.number("sum(expert_router_requests_total)").await? == sent);
        eventually("the round is scraped", PATIENCE, seen).await?;
    }
    ensure!(books.by_expert.len() == 2, "both experts answered: {books:?}");
    ensure!(books.fell_back > 0, "a fault made a request fall back");

    // To the cent, and beyond.
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
    // 36 questions, a sixth of them pinned. Both are done after the answer, some time.
    let aside = [
        ("expert_router_shadow_decisions_total{agreed=\"true\"}", 30.0),
        ("expert_router_shadow_decisions_total{agreed=\"false\"}", 0.0),
        ("expert_router_request_log_rows_total", 36.0),
    ];
    for (series, value) in aside {
        let seen = async || Ok(prometheus.number(&format!("sum({series})")).await? == value);
        eventually(&format!("{series} is {value}"), PATIENCE, seen).await?;
    }
    same("fallbacks", prometheus.number("sum(expert_router_fallbacks_total{router=\"alpha\"})").await?, f64::from(books.fell_back))?;

    every_expression_has_data(&prometheus).await?;
    draw(&prometheus, began).await?;
    for address in [alpha.admin(), beta.admin(), &operator] {
        let page = client()?.get(format!("http://{address}/metrics")).send().await?.text().await?;
        promtool(&["check", "metrics"], &page)?;
    }
    Ok(())
}

/// A minute of dashboards, as Grafana would ask, with "all" for every variable; the choices of the variables; and the rules.
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

fn same(what: &str, counted: f64, added: f64) -> Result<()> {
    ensure!((counted - added).abs() < 1e-6, "{what}: Prometheus has {counted}, the client added up {added}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_make_no_series() -> Result<()> {
    let experts = Experts::start().await?;
    let router = Router::start(EXPERT_ROUTER, &beta(&experts))?;
    let client = client()?;
    let series = async || -> Result<usize> {
        let page = client.get(format!("http://{}/metrics", router.admin())).send().await?.text().await?;
        Ok(page.lines().filter(|line| !line.starts_with('#')).count())
    };
    let mut seen = Vec::new();
    for half in 0..2 {
        let mut requests = tokio::task::JoinSet::new();
        for worker in 0..8 {
            let (client, base) = (client.clone(), router.base_url());
            requests.spawn(async move {
                for number in 0..625 {
                    hostile(&client, &base, half * 5000 + worker * 625 + number).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = requests.join_next().await {
            done??;
        }
        seen.push(series().await?);
    }
    let total = router.metrics().await?.sum("expert_router_requests_total", &[]);
    ensure!(total == 10_000.0, "{total} requests were counted");
    ensure!(seen[0] == seen[1], "series went from {} to {} with nothing new but what clients made up", seen[0], seen[1]);
    ensure!(seen[1] < 1500, "{} series of four experts", seen[1]);
    Ok(())
}

/// Nothing of it may become a label.
async fn hostile(client: &reqwest::Client, base: &str, number: u64) -> Result<()> {
    let text = format!("x{number}\\\"}} 1\n# {}", "\u{1F600}".repeat((number % 7) as usize));
    let path = match number % 5 {
        0 => format!("{base}/chat/completions"),
        1 => format!("{base}/completions"),
        2 => format!("{base}/responses"),
        3 => format!("{base}/{number}/chat/completions"),
        _ => format!("{base}/models/m{number}"),
    };
    let body = json!({"model": text, "messages": [{"role": text, "content": text}], "prompt": text, "input": text, "user": text});
    let request = if number % 5 == 4 { client.get(path) } else { client.post(path).body(body.to_string()) };
    let value = format!("{number}={{}}\"");
    let request = request
        .header("x-expert-router-session", &value)
        .header("x-expert-router-objective", &value)
        .header("x-request-id", &value)
        .header("x-expert-router-key", &value)
        .header("traceparent", &value)
        .header("user-agent", &value);
    request.send().await?.bytes().await?;
    Ok(())
}

/// Experts that answer at once, from what they are told.
struct Experts {
    small: Replay,
    large: Replay,
    silent: Replay,
    breaking: Replay,
}

impl Experts {
    async fn start() -> Result<Self> {
        let start = async |answer: Answer, script: &str| -> Result<Replay> {
            let script = Script::parse(script)?.repeating();
            Ok(Replay::start(Options { fallback: answer, script, keep_requests: 0, ..Options::default() }).await?)
        };
        let words = "one two three four five six seven eight nine ten";
        Ok(Self {
            // Every fifth request to it meets a fault, and falls back.
            small: start(Answer::text(words).tokens(37, 0, 11), "ok x2; status=500; ok x2").await?,
            large: start(Answer::text(words).tokens(1013, 601, 53).lasting(Duration::from_millis(5)), "ok").await?,
            // Answers without usage.
            silent: start(Answer::text(words), "no-usage").await?,
            // A stream of it breaks off in its middle.
            breaking: start(Answer::text(words).tokens(20, 0, 10), "ok; cut-after=3").await?,
        })
    }
}

/// Two priced experts behind a trained router, with a budget.
fn alpha(experts: &Experts, bundle: &Path) -> String {
    let [small, large] = [SMALL, LARGE].map(|[input, cached, output]| {
        format!("{{inputPerMillion: \"{input}\", cachedInputPerMillion: \"{cached}\", outputPerMillion: \"{output}\"}}")
    });
    format!(
        "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: alpha}}
spec:
  experts:
    - {{name: small, url: \"{}/v1\", modelName: s, pricing: {small}}}
    - {{name: large, url: \"{}/v1\", modelName: l, pricing: {large}}}
  model: {{bundle: {{uri: \"{}\"}}}}
  policy: {{objective: Quality, baselineExpert: large, fallbackExpert: large}}
  budgets: [{{name: month, amountUsd: \"10000\", period: Month, onExceeded: PreferCheaper}}]
  observability: {{requestLog: {{percent: 100, includeResponses: true}}}}
",
        experts.small.url(),
        experts.large.url(),
        bundle.display()
    )
}

/// Experts that do not add up: without prices, without usage, paid by the hour, with streams that break.
fn beta(experts: &Experts) -> String {
    format!(
        "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: beta}}
spec:
  experts:
    - {{name: unpriced, url: \"{}/v1\", modelName: u, capabilities: [Embeddings]}}
    - {{name: own, url: \"{}/v1\", modelName: o, pricing: {{perHour: \"3600\"}}}}
    - {{name: breaking, url: \"{}/v1\", modelName: b, pricing: {{}}}}
    - {{name: nowhere, url: \"http://127.0.0.1:1/v1\", modelName: nowhere, pricing: {{}}}}
  policy: {{fallbackExpert: own}}
",
        experts.silent.url(),
        experts.large.url(),
        experts.breaking.url()
    )
}

/// Every kind of question there is for alpha: for the one expert and the other, streamed and whole, with the usage shown and not.
fn question(number: u32) -> Value {
    let text = if number.is_multiple_of(2) { format!("What is {number} plus 3?") } else { law(number as usize) };
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
    if number.is_multiple_of(3) {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    if number % 6 == 5 {
        body["model"] = json!("large");
    }
    body
}

/// What the client adds up by itself, from nothing but answers.
#[derive(Debug, Default)]
struct Books {
    by_expert: BTreeMap<String, Book>,
    fell_back: u32,
}

#[derive(Debug, Default)]
struct Book {
    answers: f64,
    input: f64,
    cached: f64,
    output: f64,
    cost: f64,
    baseline: f64,
}

impl Books {
    async fn ask(&mut self, router: &Router, name: &str, body: &Value) -> Result<()> {
        let response = client()?.post(format!("{}/chat/completions", router.base_url())).json(body).send().await?;
        ensure!(response.status() == 200, "{name}: {}", response.status());
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (expert, reason) = (header("x-expert-router-expert"), header("x-expert-router-reason"));
        let shown_cost = header("x-expert-router-cost-usd");
        let text = response.text().await?;
        let usage = match text.lines().filter_map(|line| line.strip_prefix("data: ")).rfind(|data| *data != "[DONE]") {
            Some(last) => serde_json::from_str::<Value>(last)?,
            None => serde_json::from_str::<Value>(&text)?,
        }["usage"]
            .clone();
        let tokens = |field: &Value| field.as_f64().unwrap_or(0.0);
        let (input, output) = (tokens(&usage["prompt_tokens"]), tokens(&usage["completion_tokens"]));
        let cached = tokens(&usage["prompt_tokens_details"]["cached_tokens"]);
        ensure!(input > 0.0 && output > 0.0, "no usage in {text}");
        let cost = |prices: [f64; 3]| ((input - cached) * prices[0] + cached * prices[1] + output * prices[2]) / 1e6;
        let own = cost(if expert == "small" { SMALL } else { LARGE });
        if !shown_cost.is_empty() {
            same("the cost in the header", shown_cost.parse()?, own)?;
        }
        // A question for the small expert that the large one answered had met a fault.
        let for_small = body["messages"][0]["content"].as_str().is_some_and(|text| text.starts_with("What is"));
        self.fell_back += u32::from(for_small && expert == "large" && reason == "quality");
        let book = self.by_expert.entry(expert).or_default();
        book.answers += 1.0;
        book.input += input;
        book.cached += cached;
        book.output += output;
        book.cost += own;
        book.baseline += cost(LARGE);
        Ok(())
    }
}

/// What goes wrong at beta, each round alike.
async fn vary(router: &Router, number: u32) -> Result<()> {
    let (model, stream) = [("unpriced", false), ("own", false), ("breaking", true), ("breaking", true), ("auto", true), ("nowhere", false)]
        [number as usize % 6];
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]});
    let response = client()?.post(format!("{}/chat/completions", router.base_url())).json(&body).send().await?;
    // One of them breaks off; that is its purpose.
    let _ = response.bytes().await;
    Ok(())
}

/// The operator's own metrics, as it counts them, without a cluster.
async fn serve_operator() -> Result<String> {
    let metrics = operator::metrics::Metrics::default();
    for kind in ["ExpertRouter", "RouterModel"] {
        metrics.reconciled(kind, true, 0.002);
        metrics.reconciled(kind, false, 0.002);
        metrics.applied(kind, "apply");
        metrics.watch_failed(kind);
        for ready in ["True", "False", "Unknown"] {
            metrics.count(kind, ready, 1);
        }
    }
    let status: api::status::RouterModelStatus = serde_json::from_value(json!({
        "conditions": [{"type": "Ready", "status": "True", "reason": "Published", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "progress": {"done": 30, "total": 120},
        "costUsd": "1.25",
        "evaluation": [{"name": "oracle", "score": "0.9", "costPerThousandUsd": "0.3"}],
        "candidate": {"digest": "0a", "gain": "0.03"},
        "steps": [{"name": "Fit", "state": "Succeeded", "inputs": "", "template": "", "startedAt": "2026-01-01T00:00:00Z", "failures": 0}],
    }))?;
    metrics.trainings([("shop", "chat", &status)].into_iter());
    metrics.injected("injected");
    metrics.leading.set(1);
    metrics.certificate_end.set(4_102_444_800);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let page = metrics.render();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";
            let mut request = [0; 4096];
            // Prometheus asks for one page only, in one piece.
            if stream.read(&mut request).await.is_ok() {
                let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{page}", page.len()).as_bytes()).await;
            }
        }
    });
    Ok(address)
}
