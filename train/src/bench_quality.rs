//! `bench-quality`: every kind of router on every pool of a folder of outcomes, trained on train, chosen by cross-validation on train,
//! scored once on the validation rows.
//!
//! In: a folder with `pools.json` (pool -> experts, or null for all) and `routing/<source>.jsonl.gz`, where a pool's name is
//! `<source>/<anything>`. Out: a table, and the same as JSON. Deliberately absent: any choice made by looking at validation rows.

mod table;
mod usage;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::{
    data::Data,
    decide::{Chooser, Market},
    encoder::{Encoder, EncoderOptions},
    evaluate::{Subject, compare, write_whole},
    evaluation::{Baselines, Evaluation, Gain, NamedPoints, RouterResults},
    fit::TUNE_MINUTES,
    learn::{Candidate, LearnOptions, Learned, Objective, Sources, learn},
    outcomes::{self, Split},
    recipe::{LossChoice, RouterKind},
    score::ScoreField,
};

/// Trains every kind of router on every pool and compares them.
#[derive(Debug, Args)]
pub struct BenchQualityArgs {
    /// A folder with pools.json and routing/
    #[arg(long)]
    data: Option<PathBuf>,
    /// Only pools whose name contains this
    #[arg(long)]
    pool: Option<String>,
    /// Which routers; bert, and auto with its --tune-minutes, take minutes for each pool
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["knn", "mlp", "lexical", "bert", "auto"])]
    routers: Vec<RouterKind>,
    /// How long Auto may fine-tune the encoder on each pool, in minutes; see `fit`
    #[arg(long, default_value_t = TUNE_MINUTES)]
    tune_minutes: f64,
    /// What Auto chooses by
    #[arg(long, value_enum, default_value = "quality")]
    objective: Objective,
    /// Repeats the run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tokens an encoder reads of a prompt
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// Where the figures go, after each pool
    #[arg(long, default_value = "target/bench/quality.json")]
    out: PathBuf,
    /// Keep the pools that are there already, from the same options; only for a run that was interrupted
    #[arg(long)]
    resume: bool,
}

/// Every pool's, by its name.
type Figures = BTreeMap<String, serde_json::Value>;

/// What figures depend on beside the data.
#[derive(Debug, Serialize)]
struct Options {
    version: &'static str,
    routers: Vec<RouterKind>,
    tune_minutes: f64,
    objective: Objective,
    seed: u64,
    max_tokens: usize,
}

/// One pool's figures.
#[derive(Debug, Serialize)]
struct Pool {
    options: Options,
    experts: Vec<String>,
    best_single: String,
    train_rows: usize,
    val_rows: usize,
    baselines: Baselines,
    routers: BTreeMap<&'static str, Trained>,
}

/// One router's figures.
#[derive(Debug, Serialize)]
struct Trained {
    chosen: String,
    candidates: Vec<Candidate>,
    results: RouterResults,
    named_points: NamedPoints,
    gain_over_best_single: Gain,
    fit_seconds: f64,
    fit_cpu_seconds: Option<f64>,
    peak_rss_mib: Option<f64>,
}

impl BenchQualityArgs {
    /// Runs the bench.
    ///
    /// # Errors
    /// What is wrong with the folder, or with training.
    pub fn run(mut self) -> Result<()> {
        let Some(folder) = self.data.take() else {
            println!("bench-quality compares routers on recorded outcomes of real experts, which are not part of this repository.");
            println!("Give a folder with pools.json and routing/<source>.jsonl.gz: make bench-quality DATA=path");
            println!("(docs/evaluation.md says what is in them; any outcomes file can be compared with `fit` and `evaluate`)");
            return Ok(());
        };
        let path = folder.join("pools.json");
        let json = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pools: BTreeMap<String, Option<Vec<String>>> = serde_json::from_slice(&json).with_context(|| path.display().to_string())?;
        let options = EncoderOptions { max_tokens: self.max_tokens, ..EncoderOptions::default() };
        let encoder = if self.routers.iter().any(|kind| *kind != RouterKind::Lexical) {
            Some(Encoder::open(&parts::encoder()?, options)?)
        } else {
            None
        };
        let wanted = |name: &str| self.pool.as_ref().is_none_or(|part| name.contains(part.as_str()));
        let mut all = self.kept()?;
        for (name, experts) in pools.iter().filter(|(name, _)| wanted(name)) {
            if all.contains_key(name) {
                println!("\n{name}: kept from {}", self.out.display());
                continue;
            }
            let pool = self.pool(&folder, name, experts.as_deref(), encoder.as_ref()).with_context(|| name.clone())?;
            all.insert(name.clone(), serde_json::to_value(pool)?);
            self.keep(&all)?;
        }
        if all.is_empty() {
            bail!("{}: no such pool", path.display());
        }
        println!("\nfigures: {}", self.out.display());
        Ok(())
    }

    /// Pools of an earlier run with the same options, where they are to be kept.
    fn kept(&self) -> Result<Figures> {
        if !self.resume || !self.out.exists() {
            return Ok(Figures::new());
        }
        let name = || self.out.display().to_string();
        let mut pools: Figures = serde_json::from_slice(&std::fs::read(&self.out).with_context(name)?).with_context(name)?;
        let options = serde_json::to_value(self.options())?;
        pools.retain(|_, pool| pool.get("options") == Some(&options));
        Ok(pools)
    }

    fn keep(&self, all: &Figures) -> Result<()> {
        if let Some(folder) = self.out.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        write_whole(&self.out, &serde_json::to_vec_pretty(all)?)
    }

    fn options(&self) -> Options {
        let Self { routers, tune_minutes, objective, seed, max_tokens, .. } = self;
        Options {
            version: env!("CARGO_PKG_VERSION"),
            routers: routers.clone(),
            tune_minutes: *tune_minutes,
            objective: *objective,
            seed: *seed,
            max_tokens: *max_tokens,
        }
    }

    fn pool(&self, folder: &Path, name: &str, experts: Option<&[String]>, encoder: Option<&Encoder>) -> Result<Pool> {
        let source = name.split('/').next().unwrap_or_default();
        let rows = outcomes::read(&folder.join("routing").join(format!("{source}.jsonl.gz")))?;
        let field = ScoreField::default();
        let data = Data::of(&rows, &field, experts, &model::TextRules::default())?;
        drop(rows);
        // As whoever compares on this pool does: rows that lack one of its experts are left out.
        let data = data.select(&data.complete());
        data.check_for_training(&field)?;
        let (train, val) = (data.select(&data.of_split(Split::Train)), data.select(&data.of_split(Split::Val)));
        let chooser = Market::read(None)?.chooser(&train);
        if let Some(encoder) = encoder {
            // Not counted: embeddings are kept, and every router but the lexical one would need them.
            let quiet = |_: usize, _: usize| {};
            encoder.embed(&train.texts, &quiet)?;
            encoder.embed(&val.texts, &quiet)?;
        }
        let mut routers = BTreeMap::new();
        let mut seen: Option<Evaluation> = None;
        for kind in &self.routers {
            let (trained, evaluation) = self.train(*kind, &train, &val, &chooser, encoder)?;
            if seen.is_none() {
                table::head(name, &train, &evaluation);
            }
            table::line(kind.as_str(), &trained);
            routers.insert(kind.as_str(), trained);
            seen = Some(evaluation);
        }
        let Some(seen) = seen else { bail!("no routers") };
        table::foot(&seen);
        Ok(Pool {
            options: self.options(),
            experts: data.experts.clone(),
            best_single: seen.best_single.clone(),
            train_rows: train.rows(),
            val_rows: val.rows(),
            baselines: seen.overall.baselines,
            routers,
        })
    }

    fn train(
        &self,
        kind: RouterKind,
        train: &Data,
        val: &Data,
        chooser: &Chooser,
        encoder: Option<&Encoder>,
    ) -> Result<(Trained, Evaluation)> {
        let (begun, cpu) = (Instant::now(), usage::cpu_seconds());
        usage::reset_peak();
        let options = LearnOptions {
            kind,
            loss: LossChoice::Auto,
            temperature: 10.0,
            objective: self.objective,
            seed: self.seed,
            tune_minutes: self.tune_minutes,
        };
        let learned = learn(Sources { data: train, chooser, encoder, teacher: None }, &options, &|what| eprintln!("  {what}"))?;
        let fit_seconds = begun.elapsed().as_secs_f64();
        let fit_cpu_seconds = usage::cpu_seconds().zip(cpu).map(|(after, before)| after - before);
        let peak_rss_mib = usage::peak_mib();
        let evaluation = judge(&learned, train, val, chooser, encoder)?;
        let trained = Trained {
            chosen: learned.candidates[learned.chosen].name.clone(),
            candidates: learned.candidates,
            results: evaluation.overall.router.clone(),
            named_points: evaluation.named_points.clone(),
            gain_over_best_single: evaluation.gain_over_best_single.clone(),
            fit_seconds,
            fit_cpu_seconds,
            peak_rss_mib,
        };
        Ok((trained, evaluation))
    }
}

/// On the validation rows, once.
fn judge(learned: &Learned, train: &Data, val: &Data, chooser: &Chooser, encoder: Option<&Encoder>) -> Result<Evaluation> {
    let predictions = learned.predict(train, val, encoder, &|_| {})?;
    let subject = Subject {
        train,
        held_out: val,
        split: "val",
        predictions: &predictions,
        chooser,
        settings: learned.settings,
        score_field: "score".into(),
        router_kind: learned.router.kind.clone(),
        best_single: Some(learned.best_single),
        placements: BTreeMap::new(),
    };
    Ok(compare(&subject)?)
}
