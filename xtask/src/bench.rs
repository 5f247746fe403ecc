//! `xtask bench`: what a proxy adds to calling an expert directly. Comes in: nothing but the sources and the fetched parts. Goes out: a
//! table, and `target/bench/latency.json`.
//!
//! One upstream (`expert-router-replay`, answering at once), one client, and between them nothing, Envoy, or the router: pinned to an
//! expert, with a lexical model, with an encoder; and pinned while it is scraped or traced. All run from the start to the end of the run; the cases take turns in short windows,
//! so that whatever else the machine does meets them all.

mod bundles;
mod client;
mod load;
mod process;
mod prompt;
mod report;
mod servers;
mod watched;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use load::Target;
use prompt::Prompts;
use report::Figures;
use servers::{EXPERTS, Running, Site};

/// Measure added latency, throughput, memory and start-up: direct, Envoy, and each kind of router
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Requests a second of the cases without an encoder
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Seconds of each window of load
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// How often the cases take turns
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Only these cases, besides the direct call
    #[arg(long, value_delimiter = ',', value_name = "CASE", value_parser = CASES.map(|case| case.name))]
    only: Vec<String>,
    /// Threads of each proxy and of the upstream
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Take the release binaries as they are
    #[arg(long)]
    no_build: bool,
}

/// Tokens of the prompts, where a case does not say otherwise.
const TOKENS: usize = 500;

/// The share of one thread's time that an encoder case may ask for: more, and it measures its own queue.
const ENCODER_LOAD: f64 = 0.25;

/// One line of the report.
struct Case {
    name: &'static str,
    model: &'static str,
    tokens: usize,
    server: Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Server {
    Upstream,
    Envoy,
    Plain,
    /// As plain, and scraped every second.
    Scraped,
    /// As plain, and traced by OTLP: so many of a hundred requests.
    Traced(u8),
    Lexical,
    Encoder,
}

const CASES: [Case; 11] = [
    Case { name: "direct", model: EXPERTS[0], tokens: TOKENS, server: Server::Upstream },
    Case { name: "envoy", model: EXPERTS[0], tokens: TOKENS, server: Server::Envoy },
    Case { name: "pinned", model: EXPERTS[0], tokens: TOKENS, server: Server::Plain },
    Case { name: "scraped", model: EXPERTS[0], tokens: TOKENS, server: Server::Scraped },
    Case { name: "traced-0", model: EXPERTS[0], tokens: TOKENS, server: Server::Traced(0) },
    Case { name: "traced-1", model: EXPERTS[0], tokens: TOKENS, server: Server::Traced(1) },
    Case { name: "traced-100", model: EXPERTS[0], tokens: TOKENS, server: Server::Traced(100) },
    Case { name: "lexical", model: "auto", tokens: TOKENS, server: Server::Lexical },
    Case { name: "encoder-20", model: "auto", tokens: 20, server: Server::Encoder },
    Case { name: "encoder-128", model: "auto", tokens: 128, server: Server::Encoder },
    Case { name: "encoder-500", model: "auto", tokens: 500, server: Server::Encoder },
];

/// The processes of a run.
struct Servers(BTreeMap<Server, Running>);

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let cases: Vec<_> = CASES.iter().filter(|case| case.is_wanted(&arguments.only)).collect();
    let root = crate::workspace();
    let folder = root.join("target").join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let trains = cases.iter().any(|case| matches!(case.server, Server::Lexical | Server::Encoder));
    if !arguments.no_build {
        servers::build(&root, if trains { &["replay", "sidecar", "train"] } else { &["replay", "sidecar"] })?;
    }
    let binaries = servers::binaries(&root);
    let prompts = Arc::new(Prompts::new()?);
    println!("training the routers and starting the servers");
    let site = Site { folder: &folder, binaries, threads: arguments.threads, prompts: &prompts };
    let servers = Servers::start(&site, &cases)?;
    let figures = measure(arguments, &cases, &servers, &prompts)?;
    println!("\n{}; {} thread(s) for each proxy\n", machine(), arguments.threads);
    println!("{}", report::to_table(&figures));
    write(&folder.join("latency.json"), &report::to_json(&figures))
}

impl Servers {
    fn start(site: &Site<'_>, cases: &[&Case]) -> Result<Self> {
        let upstream = site.upstream()?;
        let address = upstream.process.address;
        let mut started = BTreeMap::from([(Server::Upstream, upstream)]);
        for server in cases.iter().map(|case| case.server) {
            if started.contains_key(&server) {
                continue;
            }
            let running = match server {
                Server::Envoy => site.envoy(address)?,
                Server::Lexical => site.router("lexical", address, Some(&bundles::train("lexical", site)?), &[])?,
                Server::Encoder => site.router("encoder", address, Some(&bundles::train("mlp", site)?), &[])?,
                Server::Plain | Server::Upstream => site.router("pinned", address, None, &[])?,
                Server::Scraped => {
                    let running = site.router("scraped", address, None, &[])?;
                    running.scrape_every_second();
                    running
                }
                Server::Traced(percent) => {
                    let environment = watched::traced(percent)?;
                    site.router(&format!("traced-{percent}"), address, None, &environment)?
                }
            };
            started.insert(server, running);
        }
        Ok(Servers(started))
    }

    fn get(&self, server: Server) -> &Running {
        self.0.get(&server).expect("a server is started for each case")
    }
}

fn measure(arguments: &Arguments, cases: &[&Case], servers: &Servers, prompts: &Arc<Prompts>) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    for case in cases {
        let target = case.target(servers.get(case.server).process.address);
        let alone = load::alone(&target, prompts, 20).with_context(|| format!("trying {}", case.name))?;
        let rate = if case.server == Server::Encoder { (ENCODER_LOAD * 1000.0 / alone).min(arguments.rate) } else { arguments.rate };
        all.push(Figures { case: case.name, rate, ..Figures::default() });
    }
    for round in 0..arguments.rounds {
        println!("round {} of {}", round + 1, arguments.rounds);
        for turn in 0..cases.len() {
            // Each round begins with another case, so that none always follows the same one.
            let index = (turn + usize::try_from(round).unwrap_or(0)) % cases.len();
            window(cases[index], &mut all[index], servers, prompts, arguments, round)?;
        }
    }
    for (case, figures) in cases.iter().zip(&mut all) {
        let process = &servers.get(case.server).process;
        let requests = figures.latencies.len().max(1) as f64;
        figures.cpu_ms /= requests;
        figures.peak_rps /= arguments.rounds as f64;
        (figures.rss_mib, figures.start_ms) = (process.rss_mib()?, process.start_ms);
    }
    Ok(all)
}

/// One turn of one case: open loop, then closed loop.
fn window(case: &Case, figures: &mut Figures, servers: &Servers, prompts: &Arc<Prompts>, arguments: &Arguments, round: u64) -> Result<()> {
    let running = servers.get(case.server);
    let process = &running.process;
    let target = case.target(process.address);
    let (before, cpu) = (running.phases()?, process.cpu_ms()?);
    let taken =
        load::open_loop(&target, prompts, figures.rate, arguments.seconds, round).with_context(|| format!("measuring {}", case.name))?;
    figures.latencies.extend(taken);
    figures.cpu_ms += process.cpu_ms()? - cpu;
    add_phases(&mut figures.phases, &before, &running.phases()?, round);
    figures.peak_rps += load::closed_loop(&target, prompts, arguments.seconds / 4.0)?;
    Ok(())
}

/// Keeps the running mean over the rounds of each phase's mean, in milliseconds.
fn add_phases(into: &mut BTreeMap<String, f64>, before: &BTreeMap<String, (f64, f64)>, after: &BTreeMap<String, (f64, f64)>, round: u64) {
    for (phase, (sum, count)) in after {
        let (sum_before, count_before) = before.get(phase).copied().unwrap_or_default();
        if *count > count_before {
            let mean = (sum - sum_before) / (count - count_before) * 1000.0;
            let entry = into.entry(phase.clone()).or_default();
            *entry += (mean - *entry) / (round + 1) as f64;
        }
    }
}

impl Case {
    /// All are, where none is named; the direct call always is, for the others are compared with it.
    fn is_wanted(&self, only: &[String]) -> bool {
        only.is_empty() || self.server == Server::Upstream || only.iter().any(|name| name == self.name)
    }

    fn target(&self, address: SocketAddr) -> Target {
        Target { address, model: self.model, tokens: self.tokens }
    }
}

fn write(path: &Path, document: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

/// What it ran on, in a line.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores of {}, {}", if model.is_empty() { "an unnamed CPU" } else { model }, std::env::consts::ARCH)
}
