//! `prepare`: asks every expert every query over its real endpoint, scores the answers, writes an outcomes file.
//!
//! In: a file of queries (rows of the outcomes format, mostly without outcomes, plus `match` and `answer`), a manifest. Out: the same
//! rows with outcomes, and beside them a journal. The journal has every answer as it came in: so an interrupted run loses nothing, and
//! the next one asks only what is missing. Deliberately absent: training.

mod adopt;
mod asking;
mod journal;
mod money;
mod pace;
mod plan;
mod progress;
mod scoring;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use routing::snapshot::Expert;
use serde::Serialize;

pub use adopt::adopt;
pub use asking::{Asked, Ending};
pub use plan::Plan;
pub use scoring::score_rows;

use crate::{
    ask::{AskOptions, Asker, Backoff},
    bertscore::BertScore,
    outcomes::{Row, Writer},
};
use asking::Signals;
use journal::Journal;

/// Examples:
///   expert-router-train prepare --queries queries.jsonl --manifest router.yaml --out outcomes.jsonl.gz --dry-run
///   expert-router-train prepare --queries queries.jsonl --manifest router.yaml --out outcomes.jsonl.gz --max-cost-usd 5
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct PrepareArgs {
    /// Queries, one JSON object a line (also .gz, .zst): id, prompt or messages, reference, and optionally dataset, split, group, match, answer
    #[arg(long)]
    pub queries: PathBuf,
    /// A YAML file with the ExpertRouter whose experts are asked
    #[arg(long)]
    pub manifest: PathBuf,
    /// The outcomes file to write; .gz and .zst are compressed. The journal lies beside it
    #[arg(long)]
    pub out: PathBuf,
    /// Also write the last line of standard output, how it ended in JSON, to this file (in a Pod: /dev/termination-log)
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// How experts are asked and answers scored.
    #[command(flatten)]
    pub options: PrepareOptions,
}

/// How the experts are asked and the answers scored.
#[derive(Debug, Clone, Args)]
pub struct PrepareOptions {
    /// Ask only these experts
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub experts: Vec<String>,
    /// Ask only the first so many queries
    #[arg(long)]
    pub limit: Option<usize>,
    /// Ask only every N-th query, beginning with the I-th from 0: one part of several that run elsewhere. Parts are joined with cat
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// Requests each expert is sent at once (its maxInFlight, where that is less)
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// Requests at once over all experts, for those that share a machine
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub at_once: Option<u16>,
    /// Requests per second each expert is sent at most
    #[arg(long, value_parser = above_zero)]
    pub rate: Option<f64>,
    /// Stop before more than this is spent, counting earlier runs and the worst case of what is under way
    #[arg(long, value_parser = above_zero, value_name = "USD")]
    pub max_cost_usd: Option<f64>,
    /// Say what it would cost, ask nobody
    #[arg(long)]
    pub dry_run: bool,
    /// Completion tokens asked for where an expert's bodyOverrides set no limit
    #[arg(long, default_value_t = 1024)]
    pub max_tokens: u64,
    /// Attempts for each query and expert
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts: u32,
    /// Queries an expert may leave unanswered before all stops
    #[arg(long, default_value_t = 20)]
    pub max_failures: usize,
    /// Ask for no log-probabilities
    #[arg(long)]
    pub no_logprobs: bool,
    /// Also ask how likely each expert finds the reference. Only llama.cpp's server can tell
    #[arg(long)]
    pub reference_nll: bool,
    /// The encoder BERTSim is computed with: a folder with model.safetensors and tokenizer.json. Default: the one that was fetched
    #[arg(long, env = "EXPERT_ROUTER_ENCODER")]
    pub encoder: Option<PathBuf>,
    /// Compute no BERTSim
    #[arg(long)]
    pub no_bertsim: bool,
    /// Where a query has no reference, as in a log of requests, this expert's answer is it: the others are scored by how like it they are
    #[arg(long, value_name = "NAME")]
    pub reference_expert: Option<String>,
    /// Where experts are, in place of what the manifest says: NAME=URL, or just URL for all of them
    #[arg(long, value_name = "[NAME=]URL")]
    pub expert_url: Vec<String>,
    /// Where secrets are mounted: credentials.secretRef {name, key} is the file FOLDER/name/key
    #[arg(long, env = "EXPERT_ROUTER_SECRETS", value_name = "FOLDER")]
    pub secrets: Option<PathBuf>,
    /// Forget the journal and ask everything again
    #[arg(long)]
    pub fresh: bool,
    /// Text for an expert by name: with another, its answers are others, though it is asked the same.
    #[arg(skip)]
    pub fingerprints: std::collections::BTreeMap<String, String>,
}

/// Reads a number above 0.
///
/// # Errors
/// It is none.
pub(crate) fn above_zero(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0).ok_or_else(|| "a number above 0 is expected".to_owned())
}

/// What a preparation came to, for people and for whoever started it.
#[derive(Debug, Clone, Serialize)]
pub struct Prepared {
    /// How the asking ended.
    #[serde(flatten)]
    pub ending: Ending,
    /// Queries in the outcomes file.
    pub queries: usize,
    /// Outcomes there are now.
    pub outcomes: usize,
    /// Outcomes there should be.
    pub wanted: usize,
    /// Queries that some expert left without an answer in this run.
    pub failures: usize,
    /// By this run and earlier ones.
    pub spent_usd: f64,
}

/// Asking ended before all was asked. No failure, but not what was wanted either: [`Stopped::exit_code`] tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Stopped {
    /// By a signal.
    #[error("interrupted: what was answered is kept in the journal, and the same command goes on from there")]
    Interrupted,
    /// By `--max-cost-usd`.
    #[error(
        "stopped before --max-cost-usd would be passed: the next request may cost USD {next_usd:.6}. The outcomes file has what was answered"
    )]
    OutOfMoney {
        /// The worst case of the request that did not fit.
        next_usd: f64,
    },
}

impl Stopped {
    /// 130, as a shell says of Ctrl-C; 3 where the money was spent.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::OutOfMoney { .. } => 3,
        }
    }
}

impl PrepareArgs {
    /// Does the step.
    ///
    /// # Errors
    /// What went wrong; also [`Stopped`], after which the journal has all that was answered.
    pub fn run(self) -> Result<()> {
        let prepared =
            read_experts(&self.manifest, &self.options).and_then(|experts| prepare(&self.queries, &experts, &self.out, &self.options));
        if !self.options.dry_run {
            let summary = summary(&prepared);
            println!("{summary}");
            if let Some(path) = &self.summary {
                std::fs::write(path, summary + "\n").with_context(|| format!("writing {}", path.display()))?;
            }
        }
        prepared?.ending.into_result()
    }
}

/// One line of JSON: small enough for a container's termination message, which holds 4096 bytes.
fn summary(prepared: &Result<Prepared>) -> String {
    let summary = match prepared {
        Ok(prepared) => serde_json::to_value(prepared).unwrap_or_default(),
        Err(error) => {
            let error: String = format!("{error:#}").chars().take(1000).collect();
            serde_json::json!({"ending": "failed", "error": error})
        }
    };
    summary.to_string()
}

/// The experts of the manifest's one router.
///
/// # Errors
/// The manifest is wrong, by file and field.
pub fn read_experts(manifest: &Path, options: &PrepareOptions) -> Result<Vec<Expert>> {
    let yaml = std::fs::read_to_string(manifest).with_context(|| format!("reading {}", manifest.display()))?;
    experts_of(&yaml, manifest.parent().unwrap_or(Path::new("")), options).with_context(|| manifest.display().to_string())
}

/// The experts of a manifest's text; relative paths in it start at `base`.
///
/// # Errors
/// The manifest is wrong, by field.
pub fn experts_of(yaml: &str, base: &Path, options: &PrepareOptions) -> Result<Vec<Expert>> {
    let objects = api::read_objects(yaml)?;
    let names = objects.routers.iter().flat_map(|router| &router.spec.experts).map(|expert| expert.name.clone()).collect::<Vec<_>>();
    let mut expert_urls = std::collections::BTreeMap::new();
    for given in &options.expert_url {
        match given.split_once('=').filter(|(name, _)| !name.contains("://")) {
            Some((name, url)) => drop(expert_urls.insert(name.to_owned(), url.to_owned())),
            None => names.iter().for_each(|name| drop(expert_urls.insert(name.clone(), given.clone()))),
        }
    }
    let standalone = api::Standalone { base_directory: base.into(), secrets_directory: options.secrets.clone(), expert_urls };
    Ok(api::read_manifest(yaml, &standalone)?.experts)
}

/// Asks, scores and writes.
///
/// # Errors
/// What went wrong; an earlier outcomes file is untouched then.
pub fn prepare(queries: &Path, experts: &[Expert], out: &Path, options: &PrepareOptions) -> Result<Prepared> {
    let plan = Plan::read(queries, &select(experts, &options.experts)?, options)?;
    if let Some(name) = options.reference_expert.as_ref().filter(|name| experts.iter().all(|expert| expert.name != **name)) {
        anyhow::bail!("--reference-expert {name}: there is no expert of that name");
    }
    let has_references = plan.has_references() || options.reference_expert.is_some();
    let bertscore = if has_references && !options.no_bertsim && !options.dry_run { Some(bertscore(options)?) } else { None };
    let journal_path = journal_path(out);
    if options.dry_run {
        let answers = journal::read(&journal_path)?;
        println!("{}", plan.estimate(&answers));
        let (wanted, queries) = (plan.wanted(), plan.rows.len());
        return Ok(Prepared { ending: Ending::Complete, queries, outcomes: 0, wanted, failures: 0, spent_usd: answers.spent_usd });
    }
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let journal = Journal::open(&journal_path, options.fresh)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting threads")?;
    let asked = runtime.block_on(ask_and_score(plan, &journal, bertscore, out, options));
    runtime.shutdown_timeout(Duration::from_millis(100));
    let (prepared, rows) = asked?;
    if prepared.ending != Ending::Interrupted {
        let mut writer = Writer::create(out)?;
        rows.iter().try_for_each(|row| writer.write(row))?;
        writer.finish()?;
        let Prepared { queries, outcomes, wanted, spent_usd, .. } = prepared;
        eprintln!("{}: {queries} queries, {outcomes} of {wanted} outcomes, USD {spent_usd:.6} spent in all", out.display());
    }
    Ok(prepared)
}

/// A signal ends either; what is written is then what was there before.
async fn ask_and_score(
    plan: Plan,
    journal: &Journal,
    bertscore: Option<BertScore>,
    out: &Path,
    options: &PrepareOptions,
) -> Result<(Prepared, Vec<Row>)> {
    let mut signals = Signals::new()?;
    let Asked { ending, failures, spent_usd } = asking::ask_all(&plan, journal, options, &mut signals).await?;
    for failure in failures.iter().take(10) {
        eprintln!("no answer: {failure}");
    }
    let wanted = plan.wanted();
    let mut rows = plan.rows(&journal::read(journal.path())?);
    if let Some(name) = &options.reference_expert {
        rows.iter_mut().for_each(|row| scoring::refer_to(row, name));
    }
    let outcomes = rows.iter().map(|row| row.outcomes.len()).sum();
    // Sums of decimal prices, told without the dust of binary sums.
    let spent_usd = (spent_usd * 1e12).round() / 1e12;
    let mut prepared = Prepared { ending, queries: rows.len(), outcomes, wanted, failures: failures.len(), spent_usd };
    if ending == Ending::Interrupted {
        return Ok((prepared, Vec::new()));
    }
    let earlier = out.to_owned();
    let scoring = tokio::task::spawn_blocking(move || {
        let mut rows = rows;
        if let Some(bertscore) = &bertscore {
            scoring::take_over(&mut rows, &earlier, bertscore.name());
        }
        score_rows(rows, bertscore.as_ref())
    });
    tokio::select! {
        scored = scoring => Ok((prepared, scored.context("scoring")??)),
        () = signals.next() => {
            prepared.ending = Ending::Interrupted;
            Ok((prepared, Vec::new()))
        }
    }
}

fn bertscore(options: &PrepareOptions) -> Result<BertScore> {
    let folder = match &options.encoder {
        Some(folder) => folder.clone(),
        None => parts::encoder().context("BERTSim needs an encoder (--encoder FOLDER), or --no-bertsim")?,
    };
    BertScore::load(&folder)
}

fn select(experts: &[Expert], names: &[String]) -> Result<Vec<Expert>> {
    if let Some(name) = names.iter().find(|name| !experts.iter().any(|expert| expert.name == **name)) {
        let known: Vec<&str> = experts.iter().map(|expert| expert.name.as_str()).collect();
        bail!("--experts: there is no expert {name:?}; there are {}", known.join(", "));
    }
    Ok(experts.iter().filter(|expert| names.is_empty() || names.contains(&expert.name)).cloned().collect())
}

/// Where the journal of an outcomes file lies.
#[must_use]
pub fn journal_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".journal");
    name.into()
}

impl PrepareOptions {
    fn askers(&self, experts: &[Expert]) -> Result<Vec<Asker>> {
        let backoff = Backoff { attempts: self.attempts, ..Backoff::default() };
        let options = AskOptions { max_tokens: self.max_tokens, logprobs: !self.no_logprobs, backoff };
        experts.iter().map(|expert| Asker::new(expert, &options)).collect()
    }

    /// The part of several that is to be done, and how many there are.
    fn part(&self) -> Result<(usize, usize)> {
        let Some(text) = &self.shard else { return Ok((0, 1)) };
        let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse::<usize>().ok()?, of.parse::<usize>().ok()?)));
        numbers.filter(|(part, of)| part < of).with_context(|| format!("--shard: expected I/N with I from 0 to N - 1, got {text:?}"))
    }
}
