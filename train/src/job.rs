//! `job`: the steps as Jobs of the operator do them, on a work space that they share, told by the manifest the operator mounts.
//!
//! In: a manifest with one ExpertRouter (experts by URL) and one RouterModel, and a folder. Out: files in that folder, and a summary for
//! whoever started the Job, in its container's termination message. A Job that fails leaves no summary: the end of its log is taken
//! instead. Deliberately absent: anything that a step could not do by itself; each is the step of the same name with its options read off
//! the RouterModel.
//!
//! ```text
//! parts/part-0-of-2.jsonl.gz      outcomes of a part of the queries, and beside it the journal of its answers
//! outcomes.jsonl.gz               all parts
//! bundles/<digest>/bundle/        a bundle on trial, and beside it evaluation.json and report.html
//! ```

mod evaluate;
mod fit;
mod prepare;
mod spec;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use api::training::{Published, Summary};
use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use crate::{publish, store::Store};

pub use spec::Spec;
pub(crate) use spec::as_on_the_command_line;

/// Where Kubernetes reads a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// One step of a training.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Which.
    #[command(subcommand)]
    pub step: JobStep,
}

/// The steps.
#[derive(Debug, Subcommand)]
pub enum JobStep {
    /// Asks the experts a part of the queries and scores the answers.
    Prepare(PrepareJob),
    /// Trains a router on all parts.
    Fit(FitJob),
    /// Compares a bundle on trial with the experts, and with the bundle in force.
    Evaluate(EvaluateJob),
    /// Puts a bundle where the RouterModel's output says.
    Publish(PublishJob),
}

/// What every step is told.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// A YAML file with one ExpertRouter and one RouterModel
    #[arg(long)]
    pub manifest: PathBuf,
    /// The folder that the steps share
    #[arg(long, value_name = "FOLDER")]
    pub workspace: PathBuf,
    /// Where the summary goes, beside standard output. Default: the container's termination message, where there is one
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// A folder with the options of a store.
#[derive(Debug, Clone, Args)]
pub struct Credentials {
    /// A folder with the store's options as files, such as AWS_ACCESS_KEY_ID: a mounted Secret. They go before the environment's
    #[arg(long, value_name = "FOLDER")]
    pub credentials: Option<PathBuf>,
}

/// `job prepare`.
#[derive(Debug, Clone, Args)]
pub struct PrepareJob {
    #[command(flatten)]
    common: Common,
    /// The queries: a path, or a file, http, https, s3, gs or az URI
    #[arg(long)]
    queries: String,
    /// Which part
    #[arg(long, env = "JOB_COMPLETION_INDEX", default_value_t = 0)]
    index: u32,
    /// Of how many
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    parts: u32,
    /// A JSON file that says of each expert, by any text that changes, when another answers by its name: its answers are then asked anew
    #[arg(long, value_name = "FILE")]
    fingerprints: Option<PathBuf>,
    /// Where secrets are mounted: credentials.secretRef {name, key} is the file FOLDER/name/key
    #[arg(long, value_name = "FOLDER")]
    secrets: Option<PathBuf>,
    /// All parts together stop before more than this is spent; each has its share
    #[arg(long, value_name = "USD")]
    max_cost_usd: Option<f64>,
    /// Requests each expert is sent at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    #[command(flatten)]
    store: Credentials,
}

/// `job fit`.
#[derive(Debug, Clone, Args)]
pub struct FitJob {
    #[command(flatten)]
    common: Common,
    /// Parts the answers lie in
    #[arg(long, default_value_t = 1)]
    parts: u32,
}

/// `job evaluate`.
#[derive(Debug, Clone, Args)]
pub struct EvaluateJob {
    #[command(flatten)]
    common: Common,
    /// Parts the answers lie in
    #[arg(long, default_value_t = 1)]
    parts: u32,
    /// The bundle on trial
    #[arg(long)]
    digest: String,
    /// The digest of the bundle in force, to be compared with
    #[arg(long, requires = "output")]
    in_force: Option<String>,
    /// Where bundles in force are: a path, or an s3, gs or az URI
    #[arg(long)]
    output: Option<String>,
    #[command(flatten)]
    store: Credentials,
}

/// `job publish`.
#[derive(Debug, Clone, Args)]
pub struct PublishJob {
    #[command(flatten)]
    common: Common,
    /// The bundle
    #[arg(long)]
    digest: String,
    /// Where bundles in force are: a path, or an s3, gs or az URI
    #[arg(long)]
    output: String,
    #[command(flatten)]
    store: Credentials,
}

impl JobArgs {
    /// Does the step, and says what it found.
    ///
    /// # Errors
    /// What went wrong; there is then no summary.
    pub fn run(self) -> Result<()> {
        let (summary, common) = match self.step {
            JobStep::Prepare(job) => (Summary::Prepare(job.run()?), job.common),
            JobStep::Fit(job) => (Summary::Fit(job.run()?), job.common),
            JobStep::Evaluate(job) => (Summary::Evaluate(job.run()?), job.common),
            JobStep::Publish(job) => (Summary::Publish(job.run()?), job.common),
        };
        let line = summary.to_line();
        println!("{line}");
        let termination_log = Some(PathBuf::from(TERMINATION_LOG)).filter(|path| path.exists());
        match common.summary.or(termination_log) {
            Some(path) => std::fs::write(&path, line).with_context(|| format!("writing {}", path.display())),
            None => Ok(()),
        }
    }
}

impl PublishJob {
    fn run(&self) -> Result<Published> {
        let folder = bundle_folder(&self.common.workspace, &self.digest);
        let beside = ["evaluation.json", "report.html"].map(|name| folder.with_file_name(name));
        let with: Vec<PathBuf> = beside.into_iter().filter(|path| path.is_file()).collect();
        let store = Store::open(self.store.credentials.as_deref())?;
        let digest = block_on(publish::publish(&store, &folder, &with, &self.output))?;
        anyhow::ensure!(digest == self.digest, "{}: expected the bundle {}, found {digest}", folder.display(), self.digest);
        Ok(Published { digest })
    }
}

/// Runs what waits for others.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a thread")?;
    runtime.block_on(future)
}

/// Where a bundle on trial lies.
fn bundle_folder(workspace: &Path, digest: &str) -> PathBuf {
    workspace.join("bundles").join(digest).join("bundle")
}

/// A part's outcomes.
fn part_path(workspace: &Path, index: u32, parts: u32) -> PathBuf {
    workspace.join("parts").join(format!("part-{index}-of-{parts}.jsonl.gz"))
}

/// All parts in one file, in their order.
fn join_parts(workspace: &Path, parts: u32) -> Result<PathBuf> {
    let whole = workspace.join("outcomes.jsonl.gz");
    let failed = || format!("writing {}", whole.display());
    let mut file = tempfile::NamedTempFile::new_in(workspace).with_context(failed)?;
    for index in 0..parts {
        let path = part_path(workspace, index, parts);
        let mut part = std::fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        std::io::copy(&mut part, &mut file).with_context(failed)?;
    }
    file.as_file().sync_all().with_context(failed)?;
    crate::store::readable_by_all(file.path()).with_context(failed)?;
    file.persist(&whole).with_context(failed)?;
    Ok(whole)
}

/// In hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
