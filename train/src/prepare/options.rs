//! How experts are asked, as it is given on the command line.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use routing::snapshot::Expert;

use crate::ask::{AskOptions, Asker, Backoff};

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
    /// Answers that may be missing, of all experts together, before all stops
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
    /// Where secrets are mounted: credentials.secretRef {name, key} is the file DIR/name/key
    #[arg(long = "secrets-dir", alias = "secrets", env = "EXPERT_ROUTER_SECRETS_DIR", value_name = "DIR")]
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

impl PrepareOptions {
    pub(super) fn askers(&self, experts: &[Expert]) -> Result<Vec<Asker>> {
        let backoff = Backoff { attempts: self.attempts, ..Backoff::default() };
        let options = AskOptions { max_tokens: self.max_tokens, logprobs: !self.no_logprobs, backoff };
        experts.iter().map(|expert| Asker::new(expert, &options)).collect()
    }

    /// The part of several that is to be done, and how many there are.
    pub(super) fn part(&self) -> Result<(usize, usize)> {
        let Some(text) = &self.shard else { return Ok((0, 1)) };
        let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse::<usize>().ok()?, of.parse::<usize>().ok()?)));
        numbers.filter(|(part, of)| part < of).with_context(|| format!("--shard: expected I/N with I from 0 to N - 1, got {text:?}"))
    }
}
