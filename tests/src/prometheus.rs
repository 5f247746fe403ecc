//! A real Prometheus that scrapes what a test names, with the rules that are shipped; and promtool.

use std::{fs, io::Write as _, net::TcpListener, path::Path, process::Command, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::{client, process::Process, workspace};

/// Starting takes a second; a machine busy with other tests takes longer.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The shipped rules.
pub const RULES: &str = "charts/expert-router/files/rules/expert-router.yaml";

/// What is scraped every second.
#[derive(Debug, Clone)]
pub struct Target {
    /// The job's name.
    pub job: &'static str,
    /// Host and port; the path is `/metrics`.
    pub address: String,
    /// The label a cluster's discovery would add.
    pub namespace: &'static str,
}

/// A running server.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    url: String,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// It is not here, or does not start.
    pub fn start(targets: &[Target]) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a folder")?;
        let jobs: Vec<String> = targets.iter().map(job).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\nscrape_configs:\n{}",
            workspace().join(RULES),
            jobs.concat()
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).context("writing Prometheus' configuration")?;
        // It can be told no port but a known one.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("finding a free port")?;
        let mut command = Command::new(parts::prometheus("prometheus")?);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start("prometheus", &mut command)?;
        let ready = |line: &str| line.contains("Server is ready to receive web requests").then_some(());
        process.line_where("ready", START_PATIENCE, ready)?;
        Ok(Self { _process: process, url: format!("http://{address}"), _folder: folder })
    }

    /// Any of its API's answers: the `data` of it.
    ///
    /// # Errors
    /// It refuses, with what it says.
    pub async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/{path}", self.url))?;
        url.query_pairs_mut().extend_pairs(parameters);
        let answer: Value = client()?.get(url).send().await?.json().await?;
        if answer["status"] != "success" {
            bail!("{}: {parameters:?}", answer["error"]);
        }
        Ok(answer["data"].clone())
    }

    /// The values of an expression now, with their labels.
    ///
    /// # Errors
    /// It is no expression.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let data = self.get("query", &[("query", expression)]).await?;
        let value = |sample: &Value| {
            let text = sample["value"][1].as_str().context("a sample has a value")?;
            Ok((sample["metric"].clone(), text.parse().with_context(|| format!("reading {text}"))?))
        };
        data["result"].as_array().context("a vector")?.iter().map(value).collect()
    }

    /// The one value of an expression; 0 where it has none.
    ///
    /// # Errors
    /// It is no expression, or has several values.
    pub async fn number(&self, expression: &str) -> Result<f64> {
        match self.query(expression).await?.as_slice() {
            [] => Ok(0.0),
            [(_, value)] => Ok(*value),
            several => bail!("{expression} has {} values", several.len()),
        }
    }
}

fn job(target: &Target) -> String {
    let Target { job, address, namespace } = target;
    format!("  - job_name: {job}\n    static_configs: [{{targets: [\"{address}\"], labels: {{namespace: {namespace}}}}}]\n")
}

/// Runs promtool with these arguments and that standard input; what it printed.
///
/// # Errors
/// It is not here, or it found fault.
pub fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(parts::prometheus("promtool")?);
    command.args(arguments).current_dir(workspace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting promtool")?;
    child.stdin.take().context("promtool has a standard input")?.write_all(input.as_bytes()).context("writing to promtool")?;
    let output = child.wait_with_output().context("waiting for promtool")?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Its findings about metrics are not always an error to it.
    if !output.status.success() || (arguments.contains(&"metrics") && !said.trim().is_empty()) {
        bail!("promtool {}: {said}", arguments.join(" "));
    }
    Ok(said)
}

/// An expression of a dashboard as Grafana would send it, with "all" for every variable and a minute or five for its ranges.
#[must_use]
pub fn substituted(expression: &str) -> String {
    let mut text = expression.replace("$__rate_interval", "1m").replace("$__range", "5m");
    for variable in ["namespace", "router", "expert", "model"] {
        text = text.replace(&format!("\"${variable}\""), "\".*\"");
    }
    text
}

/// The shipped dashboards, by their titles.
///
/// # Errors
/// They are not there, or no JSON.
pub fn dashboards() -> Result<Vec<(String, Value)>> {
    let folder = workspace().join("charts/expert-router/files/dashboards");
    let read = |path: &Path| -> Result<_> {
        let json: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        Ok((json["title"].as_str().unwrap_or_default().to_owned(), json))
    };
    let mut dashboards = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        dashboards.push(read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    Ok(dashboards)
}
