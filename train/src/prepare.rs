//! `prepare`: asks every expert every query over its real endpoint, scores the answers, writes an outcomes file.
//!
//! In: a file of queries (rows of the outcomes format, mostly without outcomes, plus `match` and `answer`), a manifest. Out: the same
//! rows with outcomes, and beside them a journal. The journal has every answer as it came in: so an interrupted run loses nothing, and
//! the next one asks only what is missing. Deliberately absent: training.

mod adopt;
mod asking;
mod experts;
mod journal;
mod money;
mod options;
mod pace;
mod plan;
mod progress;
mod scoring;
mod signals;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use routing::snapshot::Expert;
use serde::Serialize;

pub use adopt::{Adopted, adopt};
pub use asking::{Asked, Ending};
pub use experts::{experts_of, read_experts};
pub use options::PrepareOptions;
pub(crate) use options::above_zero;
pub use plan::Plan;
pub use scoring::score_rows;

use crate::{
    bertscore::BertScore,
    outcomes::{Row, Writer},
    store::is_special,
};
use journal::{Answers, Journal};
use signals::Signals;

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
                let written = std::fs::write(path, summary + "\n").with_context(|| format!("writing {}", path.display()));
                // How it ended is told before this.
                return prepared.and_then(|prepared| prepared.ending.into_result()).and(written);
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

/// Asks, scores and writes.
///
/// # Errors
/// What went wrong; an earlier outcomes file is untouched then.
pub fn prepare(queries: &Path, experts: &[Expert], out: &Path, options: &PrepareOptions) -> Result<Prepared> {
    check_place(queries, out, options)?;
    let plan = Plan::read(queries, &experts::select(experts, &options.experts)?, options)?;
    if let Some(name) = options.reference_expert.as_ref().filter(|name| experts.iter().all(|expert| expert.name != **name)) {
        anyhow::bail!("--reference-expert {name}: there is no expert of that name");
    }
    let has_references = plan.has_references() || options.reference_expert.is_some();
    let bertscore = if has_references && !options.no_bertsim && !options.dry_run { Some(bertscore(options)?) } else { None };
    let journal_path = journal_path(out);
    if options.dry_run {
        let answers = if options.fresh { Answers::default() } else { journal::read(&journal_path)? };
        println!("{}", plan.estimate(&answers));
        let (wanted, queries) = (plan.wanted(), plan.rows.len());
        return Ok(Prepared { ending: Ending::Complete, queries, outcomes: 0, wanted, failures: 0, spent_usd: answers.spent_usd });
    }
    if options.max_cost_usd.is_some() {
        for name in plan.unpriced() {
            eprintln!("warning: expert {name} has no price: --max-cost-usd does not count what it costs");
        }
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

/// Where the outcomes are to go; told before anything is paid for.
fn check_place(queries: &Path, out: &Path, options: &PrepareOptions) -> Result<()> {
    ensure!(!out.is_dir(), "--out {}: a folder is there", out.display());
    ensure!(!is_special(out), "--out {}: this is no file that could be replaced", out.display());
    let is_part = options.limit.is_some() || options.shard.is_some();
    let same = || matches!((queries.canonicalize(), out.canonicalize()), (Ok(queries), Ok(out)) if queries == out);
    ensure!(!is_part || !same(), "--out {}: this is the file of queries; with --limit or --shard it would lose the others", out.display());
    Ok(())
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
    let Asked { ending, failures } = asking::ask_all(&plan, journal, options, &mut signals).await?;
    for failure in failures.iter().take(10) {
        eprintln!("no answer: {failure}");
    }
    let wanted = plan.wanted();
    let answers = journal::read(journal.path())?;
    let mut rows = plan.rows(&answers);
    if let Some(name) = &options.reference_expert {
        rows.iter_mut().for_each(|row| scoring::refer_to(row, name));
    }
    let outcomes = rows.iter().map(|row| row.outcomes.len()).sum();
    // Sums of decimal prices, told without the dust of binary sums.
    let spent_usd = (answers.spent_usd * 1e12).round() / 1e12;
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

/// Where the journal of an outcomes file lies.
#[must_use]
pub fn journal_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".journal");
    name.into()
}
