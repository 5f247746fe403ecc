//! Upstream, Envoy and the routers: their programs, their configuration, their processes.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::{Process, Recipe, free_address};
use super::prompt::Prompts;
use super::watched;

/// Start-up is the median of so many.
const STARTS: usize = 5;

/// Answered by the upstream to everything, at once.
const ANSWER: &str = "The expert answers with a sentence or two, as experts do, and comes to an end before it has said too much.";

/// Experts of the routers' manifests; all are the one upstream.
pub(super) const EXPERTS: [&str; 4] = ["first", "second", "third", "fourth"];

/// What is common to all servers of a run.
pub(super) struct Site<'a> {
    /// Where configuration and logs go.
    pub(super) folder: &'a Path,
    /// Where the release binaries are.
    pub(super) binaries: PathBuf,
    /// Threads of each proxy, and of the upstream.
    pub(super) threads: usize,
    pub(super) prompts: &'a Prompts,
}

/// A process, and where it tells its metrics if it is one of our routers.
pub(super) struct Running {
    pub(super) process: Process,
    admin: Option<SocketAddr>,
}

/// Builds the binaries under measurement.
pub(super) fn build(root: &Path, packages: &[&str]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let wanted = packages.iter().flat_map(|package| ["--package", package]);
    let status = Command::new(cargo).args(["build", "--release"]).args(wanted).current_dir(root).status().context("starting cargo")?;
    if !status.success() {
        bail!("the release binaries do not build");
    }
    Ok(())
}

/// Where they are.
pub(super) fn binaries(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("release")
}

impl Site<'_> {
    pub(super) fn upstream(&self) -> Result<Running> {
        let address = free_address()?;
        let (listen, threads) = (address.to_string(), self.threads.to_string());
        let arguments = ["--speed", "0", "--answer", ANSWER, "--listen", &listen, "--threads", &threads].map(str::to_owned).to_vec();
        let program = self.binaries.join("expert-router-replay");
        self.start(&Recipe { name: "upstream", address, program, arguments, environment: &[], model: "any" }, None)
    }

    /// Envoy as a plain HTTP proxy with an access log, one worker a thread.
    pub(super) fn envoy(&self, upstream: SocketAddr) -> Result<Running> {
        let address = free_address()?;
        let configuration = self.folder.join("envoy.yaml");
        fs::write(&configuration, envoy_configuration(address, upstream)).context("writing Envoy's configuration")?;
        let arguments = [
            "--config-path",
            &configuration.display().to_string(),
            "--concurrency",
            &self.threads.to_string(),
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ];
        let arguments = arguments.map(str::to_owned).to_vec();
        self.start(&Recipe { name: "envoy", address, program: parts::envoy()?, arguments, environment: &[], model: "any" }, None)
    }

    /// Our router, with a bundle or without, in that environment.
    pub(super) fn router(&self, name: &str, upstream: SocketAddr, bundle: Option<&Path>, environment: &[Variable]) -> Result<Running> {
        let (address, admin) = (free_address()?, free_address()?);
        let manifest = self.folder.join(format!("{name}.yaml"));
        fs::write(&manifest, manifest_text(upstream, bundle)).context("writing a manifest")?;
        let mut arguments = vec!["--manifest".to_owned(), manifest.display().to_string()];
        arguments.extend(["--listen".to_owned(), address.to_string(), "--admin".to_owned(), admin.to_string()]);
        arguments.extend(["--threads".to_owned(), self.threads.to_string(), "--score-threads".to_owned(), self.threads.to_string()]);
        let program = self.binaries.join("expert-router");
        let model = if bundle.is_some() { "auto" } else { EXPERTS[0] };
        self.start(&Recipe { name, address, program, arguments, environment, model }, Some(admin))
    }

    fn start(&self, recipe: &Recipe<'_>, admin: Option<SocketAddr>) -> Result<Running> {
        Ok(Running { process: Process::start(recipe, self.prompts, self.folder, STARTS)?, admin })
    }
}

/// A name and a value of a process's environment.
pub(super) type Variable = (&'static str, String);

impl Running {
    /// What Prometheus does, and more often than it does as a rule; to the end of the run.
    pub(super) fn scrape_every_second(&self) {
        if let Some(admin) = self.admin {
            watched::scrape_every_second(admin);
        }
    }

    /// The sum (seconds) and count of each phase of its decisions so far.
    pub(super) fn phases(&self) -> Result<BTreeMap<String, (f64, f64)>> {
        let Some(admin) = self.admin else { return Ok(BTreeMap::new()) };
        let mut connection = super::client::Connection::open(admin)?;
        let (status, body) = connection.exchange(format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\n\r\n").as_bytes())?;
        if status != 200 {
            bail!("/metrics answers {status}");
        }
        Ok(read_phases(&String::from_utf8_lossy(body)))
    }
}

fn read_phases(text: &str) -> BTreeMap<String, (f64, f64)> {
    let mut phases: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("expert_router_decision_duration_seconds_") else { continue };
        let Some((kind, rest)) = rest.split_once("{phase=\"") else { continue };
        let Some((phase, rest)) = rest.split_once('"') else { continue };
        let Some((_, value)) = rest.rsplit_once(' ') else { continue };
        let Ok(value) = value.trim().parse::<f64>() else { continue };
        let entry = phases.entry(phase.to_owned()).or_default();
        match kind {
            "sum" => entry.0 = value,
            "count" => entry.1 = value,
            _ => {}
        }
    }
    phases
}

fn manifest_text(upstream: SocketAddr, bundle: Option<&Path>) -> String {
    let mut text = String::from("apiVersion: expertrouter.dev/v1alpha1\nkind: ExpertRouter\nmetadata: {name: bench}\nspec:\n  experts:\n");
    for (index, name) in EXPERTS.iter().enumerate() {
        let pricing = format!("{{inputPerMillion: \"0.{}\", outputPerMillion: \"0.{}\"}}", index + 1, index + 2);
        text += &format!("    - {{name: {name}, url: \"http://{upstream}/v1\", modelName: {name}, pricing: {pricing}}}\n");
    }
    if let Some(bundle) = bundle {
        text += &format!("  model: {{bundle: {{uri: \"file://{}\"}}}}\n", bundle.display());
    }
    // Every request shall be decided by the model, however long it takes.
    text += "  policy: {objective: Cost, qualityTolerance: \"0.02\", fallbackExpert: first, scoreDeadlineMilliseconds: 10000}\n";
    text
}

fn envoy_configuration(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        r#"static_resources:
  listeners:
  - name: front
    address: {{socket_address: {{address: {}, port_value: {}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: upstream, timeout: 60s}}
  clusters:
  - name: upstream
    type: STATIC
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
"#,
        listen.ip(),
        listen.port(),
        upstream.ip(),
        upstream.port()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_from_metrics() {
        let text = "# TYPE expert_router_decision_duration_seconds histogram\n\
            expert_router_decision_duration_seconds_bucket{phase=\"encode\",le=\"1\"} 4\n\
            expert_router_decision_duration_seconds_sum{phase=\"encode\"} 0.5\n\
            expert_router_decision_duration_seconds_count{phase=\"encode\"} 4\nother 3\n";
        assert_eq!(read_phases(text), [("encode".to_owned(), (0.5, 4.0))].into());
    }
}
