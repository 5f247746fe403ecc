//! `xtask demo`: the whole loop on real answers, told as it goes. Comes in: the query set, the experts and the recording in `demo/`, and
//! the fetched parts. Goes out: tables on the screen, a bundle, a report and evaluations in `target/demo`.
//!
//! One llama.cpp server stands behind eight experts. A sample of the queries is asked anew and compared with the recording, which then
//! stands for the rest; routers are fitted, compared and served, and real requests go through the router to the server.

mod comparison;
mod http;
mod process;
mod recording;
mod screen;
mod traffic;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use comparison::Fitted;
use process::{Interrupt, Server, tied};
use recording::{Agreement, Rows};
use screen::{Screen, seconds, table};
use traffic::Router;

/// The whole loop on real answers: ask experts, score, train, evaluate, serve, show what it saves
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Ask every N-th query anew; 1 asks all of them (some eight minutes on one core)
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..), env = "DEMO_SAMPLE")]
    sample: u16,
    /// Kinds of router to fit and compare; the last one is served
    #[arg(long, value_delimiter = ',', default_values = ROUTERS, value_name = "KINDS", env = "DEMO_ROUTERS")]
    routers: Vec<String>,
    /// Leave the router serving at the end, until Ctrl-C
    #[arg(long, env = "DEMO_KEEP", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    keep: bool,
}

/// In the order of the table.
const ROUTERS: [&str; 5] = ["knn", "mlp", "bert", "lexical", "auto"];

/// Below this, the recording does not stand for this machine's answers, and that is said.
const LEAST_AGREEMENT: f64 = 0.85;

/// Slots of the server: one for each expert, so that each finds its instructions in the cache.
const SLOTS: usize = 8;

/// Tokens of all slots together.
const CONTEXT: usize = 8192;

/// Where things are.
struct Site {
    root: PathBuf,
    /// `target/demo`.
    folder: PathBuf,
    trainer: PathBuf,
    router: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let screen = Screen::new();
    let site = Site::new()?;
    println!("Expert Router: from queries and experts to a router that has earned its place.");
    println!("Eight experts on one small model (SmolLM2-135M), which differ by instructions and price.");

    screen.step("Building the release binaries");
    site.build(&interrupt)?;

    screen.step("Starting llama.cpp's server with the model");
    let (_llama, url) = site.start_llama(&interrupt)?;
    screen.say(&format!("it serves at {url}, on one thread, {SLOTS} slots"));

    screen.step("Asking the experts");
    let (queries, outcomes) = site.prepare(&screen, &interrupt, &url, usize::from(arguments.sample))?;

    screen.step("Fitting and evaluating routers");
    let fitted = site.fit_all(&screen, &interrupt, &arguments.routers, &outcomes)?;

    screen.step("What they reach on queries nobody has learnt from");
    print!("{}", table(&comparison::rows(&fitted)));
    if let Some(last) = fitted.last() {
        screen.say(&comparison::verdict(last));
    }

    screen.step("Serving the router, and sending it real requests");
    let (_router, (listen, admin)) = site.start_router(&interrupt, &url, arguments.keep)?;
    screen.say(&format!("expert-router serves at http://{listen}/v1, metrics at http://{admin}/metrics"));
    let router = Router { address: &listen, admin: &admin, screen: &screen, interrupt: &interrupt };
    println!("\n      Questions of the test split; what each cost in USD, and would have cost from the baseline expert (broad):");
    router.questions(&queries)?;
    println!("\n      A conversation, which stays with its expert:");
    router.conversation(&["Tell me the capital of Norway, please", "And the capital of Poland?", "Which city is the capital of Chile?"])?;
    println!("\n      A stream:");
    router.stream("How would I have said 'I swim' a week ago?")?;

    screen.step("What it saved, by the router's own count");
    router.savings()?;
    site.tell_paths(&screen);
    println!("\nDone in {}.", screen.elapsed());
    if arguments.keep {
        keep_serving(&interrupt, &listen, &admin);
    }
    Ok(())
}

impl Site {
    fn new() -> Result<Self> {
        let root = crate::workspace();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder));
        let (folder, release) = (target.join("demo"), target.join("release"));
        fs::create_dir_all(folder.join("logs")).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { trainer: release.join("expert-router-train"), router: release.join("expert-router"), root, folder })
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    fn manifest(&self) -> PathBuf {
        self.root.join("demo/router.yaml")
    }

    fn build(&self, interrupt: &Interrupt) -> Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(["build", "--release", "--quiet", "--package", "sidecar", "--package", "train"]);
        interrupt.run(&mut command, None)
    }

    fn start_llama(&self, interrupt: &Interrupt) -> Result<(Server, String)> {
        let mut command = Command::new(parts::python()?);
        command.arg(self.root.join("python/llama_server.py")).arg(parts::chat_model()?).args(["--name", "smollm2"]);
        command.args(["--slots", &SLOTS.to_string(), "--context", &CONTEXT.to_string()]);
        let ready = |line: &str| line.strip_prefix("READY ").map(str::to_owned);
        Server::start(&mut command, &self.log("llama"), interrupt, ready)
    }

    /// Asks a sample, compares it with the recording, and completes it. The queries and the outcomes file come out.
    fn prepare(&self, screen: &Screen, interrupt: &Interrupt, url: &str, every: usize) -> Result<(Rows, PathBuf)> {
        let queries = recording::read(&self.root.join("demo/queries.jsonl"))?;
        let recorded = recording::read(&self.root.join("demo/outcomes.jsonl.gz"))?;
        let sample = self.folder.join("queries.jsonl");
        let asked = recording::write_sample(&queries, &recorded, every, &sample)?;
        screen.say(&format!("{asked} of {} queries are asked anew of every expert, the rest is a recording of the same:", queries.len()));
        let outcomes = self.folder.join("outcomes.jsonl.gz");
        let mut command = Command::new(&self.trainer);
        command.arg("prepare").arg("--queries").arg(&sample).arg("--manifest").arg(self.manifest()).arg("--out").arg(&outcomes);
        // One at a time: so that the seconds are an answer's own, and its text does not depend on its neighbours.
        command.args(["--fresh", "--at-once", "1", "--expert-url", &format!("{url}/v1")]);
        command.stdout(fs::File::create(self.log("prepare"))?);
        interrupt.run(&mut command, None)?;
        self.tell_agreement(screen, &recorded, &outcomes, every)?;
        Ok((queries, outcomes))
    }

    fn tell_agreement(&self, screen: &Screen, recorded: &Rows, outcomes: &Path, every: usize) -> Result<()> {
        let all = recording::compare(&recording::read(outcomes)?, recorded, every);
        let sum = Agreement::sum(&all);
        let mut rows = vec![Agreement::head()];
        rows.extend(all.iter().map(|(expert, agreement)| agreement.cells(expert)));
        rows.push(sum.cells("all"));
        print!("{}", table(&rows));
        if sum.score_share() < LEAST_AGREEMENT {
            screen.say("the recording does not stand for this machine's answers: `DEMO_SAMPLE=1 make demo` asks everything anew");
        }
        Ok(())
    }

    fn fit_all(&self, screen: &Screen, interrupt: &Interrupt, kinds: &[String], outcomes: &Path) -> Result<Vec<Fitted>> {
        let mut fitted = Vec::new();
        for (at, kind) in kinds.iter().enumerate() {
            let begun = Instant::now();
            let folder = self.folder_of(kind, at + 1 == kinds.len());
            let bundle = folder.join("bundle");
            let mut command = Command::new(&self.trainer);
            command.arg("fit").arg("--outcomes").arg(outcomes).args(["--router", kind.as_str(), "--score", "score", "--seed", "1"]);
            command.arg("--manifest").arg(self.manifest()).arg("--out").arg(&bundle);
            interrupt.run(&mut command, Some(&self.log(&format!("fit-{kind}"))))?;
            let took = seconds(begun);
            let json = folder.join("evaluation.json");
            let mut command = Command::new(&self.trainer);
            command.arg("evaluate").arg("--bundle").arg(&bundle).arg("--outcomes").arg(outcomes).args(["--split", "test"]);
            command.arg("--manifest").arg(self.manifest()).arg("--json").arg(&json);
            command.arg("--report").arg(folder.join("report"));
            interrupt.run(&mut command, Some(&self.log(&format!("evaluate-{kind}"))))?;
            let evaluation = comparison::read_json(&json)?;
            screen.say(&format!("{kind:<8} fitted in {took:>7}, evaluated on {} held-out queries", evaluation["rows"]));
            fitted.push(Fitted { kind: kind.clone(), took, evaluation });
        }
        Ok(fitted)
    }

    /// Where a router's bundle, evaluation and report go. The manifest's RouterModel says where the served one's bundle lies.
    fn folder_of(&self, kind: &str, served: bool) -> PathBuf {
        if served { self.folder.clone() } else { self.folder.join("others").join(kind) }
    }

    fn start_router(&self, interrupt: &Interrupt, url: &str, keep: bool) -> Result<(Server, (String, String))> {
        let manifest = fs::read_to_string(self.manifest()).context("reading the manifest")?;
        // Those who call it later like ports they can guess.
        let (listen, admin) = if keep { (free_or_any(8080), free_or_any(9090)) } else { (any(), any()) };
        let mut command = tied(&self.router);
        command.arg("--manifest").arg(self.served_manifest(&manifest, url)?);
        command.args(["--listen", &listen.to_string(), "--admin", &admin.to_string(), "--drain-seconds", "2"]);
        command.args(["--log", "info", "--log-format", "json"]);
        Server::start(&mut command, &self.log("router"), interrupt, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let address = |name: &str| line[name].as_str().map(str::to_owned);
            Some((address("listen")?, address("admin")?))
        })
    }

    /// The demo's manifest with the server's address, and paths that hold from where it lies.
    fn served_manifest(&self, manifest: &str, url: &str) -> Result<PathBuf> {
        let path = self.folder.join("router.yaml");
        let served = manifest.replace("http://127.0.0.1:18080", url).replace("directory: ../target/demo", "directory: .");
        fs::write(&path, served).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    fn tell_paths(&self, screen: &Screen) {
        for (what, path) in [
            ("report", self.folder.join("report").join("report.html")),
            ("bundle", self.folder.join("bundle")),
            ("outcomes", self.folder.join("outcomes.jsonl.gz")),
            ("manifest", self.folder.join("router.yaml")),
            ("logs", self.folder.join("logs")),
        ] {
            screen.say(&format!("{what:<9} {}", path.display()));
        }
    }
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn free_or_any(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from(([127, 0, 0, 1], port));
    if TcpListener::bind(wanted).is_ok() { wanted } else { any() }
}

fn keep_serving(interrupt: &Interrupt, listen: &str, admin: &str) {
    println!(
        r#"
The router serves until Ctrl-C.

  curl -i http://{listen}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is the capital of Portugal?"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="http://{listen}/v1", api_key="none")
  answer = client.chat.completions.create(model="auto", messages=[{{"role": "user", "content": "What is 7 + 5?"}}])
  print(answer.choices[0].message.content)

  metrics:      http://{admin}/metrics
  the decision: curl http://{listen}/v1/route -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Count the lakes"}}]}}'"#
    );
    while !interrupt.is_raised() {
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("stopping");
}
