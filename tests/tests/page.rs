//! The page of the admin port, seen by a real browser: Chromium without a head, where there is one (Debian's package `chromium`).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use replay::{Answer, Options, Replay};
use serde_json::{Value, json};
use tests::{Router, client, eventually};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    named.into_iter().chain(usual).find(|path| path.is_file())
}

/// What the browser made of the page: its elements after six seconds of the page's own time, what it complained of, what it fetched.
struct Looked {
    elements: String,
    console: Vec<String>,
    fetched: BTreeSet<String>,
}

fn look(browser: &Path, url: &str, folder: &Path, name: &str, dark: bool) -> Result<Looked> {
    let (log, picture) = (folder.join(format!("{name}.json")), pictures()?.join(format!("dashboard-{name}.png")));
    let run = |what: &[String]| -> Result<(String, String)> {
        // A browser that hangs ends all the same.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120"]).arg(browser);
        command.args(["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]);
        command.args([
            "--disable-sync",
            "--disable-extensions",
            "--hide-scrollbars",
            "--window-size=1240,1260",
            "--virtual-time-budget=6000",
        ]);
        // Debian's sandbox needs a user that is not root.
        command.args(["--no-sandbox", "--enable-logging=stderr", "--disable-dev-shm-usage"]);
        command.arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }));
        command.arg(format!("--user-data-dir={}", folder.join("profile").display())).args(what).arg(url);
        let output = command.output().context("running the browser")?;
        ensure!(output.status.success(), "the browser failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok((String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (elements, said) = run(&["--dump-dom".to_owned(), format!("--log-net-log={}", log.display())])?;
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    run(&[format!("--screenshot={}", picture.display())])?;
    Ok(Looked { elements, console, fetched: fetched(&fs::read_to_string(log)?, url) })
}

/// Whatever the page asked for, by the browser's own log of its network.
fn fetched(log: &str, url: &str) -> BTreeSet<String> {
    let origin = url.trim_end_matches("/dashboard");
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim().trim_end_matches(',')).ok());
    let asked = events.filter_map(|event| {
        let about = &event["params"];
        let of_the_page = about["url"].as_str()? == url || about["initiator"].as_str()?.starts_with(origin);
        of_the_page.then(|| about["url"].as_str().unwrap_or_default().to_owned())
    });
    asked.collect()
}

/// For those who want to see for themselves.
fn pictures() -> Result<PathBuf> {
    let folder = tests::workspace().join("target/dashboards");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The cells of a table's rows, its heading aside.
fn rows(elements: &str, table: &str) -> Vec<Vec<String>> {
    let inner =
        elements.split(&format!("<table id=\"{table}\">")).nth(1).and_then(|rest| rest.split("</table>").next()).unwrap_or_default();
    let text = |cell: &str| cell.split('<').map(|part| part.rsplit('>').next().unwrap_or_default()).collect::<String>();
    let cells = |row: &str| row.split("<td").skip(1).map(|cell| text(cell.split_once('>').map_or("", |(_, rest)| rest))).collect();
    inner.split("<tr>").skip(2).map(cells).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_experts_money_and_decisions_in_a_real_browser() -> Result<()> {
    let Some(browser) = chromium() else {
        eprintln!("SKIPPED: no Chromium on this machine (Debian: apt-get install chromium), so nobody has looked at /dashboard");
        return Ok(());
    };
    let expert = async |tokens: (u64, u64, u64)| {
        let answer = Answer::text("one two three four").tokens(tokens.0, tokens.1, tokens.2);
        Replay::start(Options { fallback: answer, keep_requests: 0, ..Options::default() }).await
    };
    let (small, large) = (expert((37, 0, 11)).await?, expert((1013, 601, 53)).await?);
    let router = Router::start(EXPERT_ROUTER, &manifest(&small.url(), &large.url()))?;
    let mut cost = 0.0;
    for (number, model) in ["auto", "large", "auto", "auto", "large", "auto"].into_iter().enumerate() {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "a secret question"}]});
        let request = client()?.post(format!("{}/chat/completions", router.base_url())).header("x-request-id", format!("request-{number}"));
        let response = request.json(&body).send().await?;
        let header = response.headers().get("x-expert-router-cost-usd").and_then(|value| value.to_str().ok()).context("a cost")?;
        cost += header.parse::<f64>()?;
    }
    let counted = async || Ok(router.metrics().await?.sum("expert_router_requests_total", &[]) == 6.0);
    eventually("all are counted", PATIENCE, counted).await?;

    let url = format!("http://{}/dashboard", router.admin());
    let folder = tempfile::tempdir()?;
    for (name, dark) in [("light", false), ("dark", true)] {
        let (browser, url, at) = (browser.clone(), url.clone(), folder.path().to_owned());
        let Looked { elements, console, fetched } = tokio::task::spawn_blocking(move || look(&browser, &url, &at, name, dark)).await??;
        ensure!(console.is_empty(), "the browser complains: {console:#?}");
        let origin = format!("http://{}/", router.admin());
        let expected: BTreeSet<String> = ["dashboard", "metrics", "snapshot", "decisions"].map(|path| format!("{origin}{path}")).into();
        // Browsers ask every host for its icon.
        let others: Vec<_> = fetched.difference(&expected).filter(|url| **url != format!("{origin}favicon.ico")).collect();
        ensure!(others.is_empty() && expected.is_subset(&fetched), "fetched {fetched:#?}");

        let experts = rows(&elements, "experts");
        let names: Vec<_> = experts.iter().map(|row| (row[0].as_str(), row[1].as_str(), row[2].as_str(), row[9].as_str())).collect();
        ensure!(names == [("small", "66.7 %", "4", "in rotation"), ("large", "33.3 %", "2", "in rotation")], "{experts:?}");
        ensure!(elements.contains(&format!("<b>${cost:.2}</b>")), "no {cost:.2} spent: {elements}");
        ensure!(experts[0][6].ends_with("ms") || experts[0][6].ends_with('s'), "how long answers take: {experts:?}");
        let reasons = rows(&elements, "reasons");
        ensure!(reasons.iter().map(|row| row[2].as_str()).collect::<Vec<_>>() == ["4", "2"], "{reasons:?}");
        ensure!(rows(&elements, "budgets")[0][0] == "month", "the budget");
        let decisions = rows(&elements, "decisions");
        ensure!(decisions.len() == 6, "{decisions:?}");
        let last = &decisions[0];
        ensure!((last[1].as_str(), last[3].as_str(), last[4].as_str(), last[5].as_str()) == ("small", "ok", "37", "11"), "{last:?}");
        ensure!(last[11] == "request-5", "{last:?}");
        ensure!(!elements.contains("secret"), "no word of a question is on the page");
    }
    Ok(())
}

fn manifest(small: &str, large: &str) -> String {
    format!(
        "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: chat}}
spec:
  experts:
    - {{name: small, url: \"{small}/v1\", modelName: s, pricing: {{inputPerMillion: \"300\", outputPerMillion: \"900\"}}}}
    - {{name: large, url: \"{large}/v1\", modelName: l, pricing: {{inputPerMillion: \"2500\", outputPerMillion: \"10000\"}}}}
  policy: {{baselineExpert: large, fallbackExpert: small}}
  budgets: [{{name: month, amountUsd: \"100\", period: Month, onExceeded: PreferCheaper}}]
"
    )
}
