//! `bench-quality`: every kind of router on every pool of a folder of outcomes, trained on train, chosen by cross-validation on train,
//! scored once on the validation rows.
//!
//! In: a folder with `pools.json` (pool -> experts, or null for all) and `routing/<source>.jsonl.gz`, where a pool's name is
//! `<source>/<anything>`. Out: a table, and the same as JSON. Deliberately absent: any choice made by looking at validation rows.

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
    evaluation::{Baselines, Evaluation, Gain, Measures, NamedPoints, RouterResults},
    fit::TUNE_MINUTES,
    learn::{Candidate, LearnOptions, Objective, learn},
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
    /// Which routers
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["knn", "mlp", "lexical", "auto"])]
    routers: Vec<RouterKind>,
    /// Compare the fine-tuned encoder alone too: minutes for each pool
    #[arg(long)]
    with_bert: bool,
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
    /// Where the figures go
    #[arg(long, default_value = "target/bench/quality.json")]
    out: PathBuf,
}

/// One pool's figures.
#[derive(Debug, Serialize)]
struct Pool {
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
        if self.with_bert && !self.routers.contains(&RouterKind::Bert) {
            self.routers.push(RouterKind::Bert);
        }
        let path = folder.join("pools.json");
        let json = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pools: BTreeMap<String, Option<Vec<String>>> = serde_json::from_slice(&json).with_context(|| path.display().to_string())?;
        let options = EncoderOptions { max_tokens: self.max_tokens, ..EncoderOptions::default() };
        let encoder = if self.routers.iter().any(|kind| *kind != RouterKind::Lexical) {
            Some(Encoder::open(&parts::encoder()?, options)?)
        } else {
            None
        };
        let mut all = BTreeMap::new();
        for (name, experts) in pools {
            if self.pool.as_ref().is_some_and(|part| !name.contains(part.as_str())) {
                continue;
            }
            let pool = self.pool(&folder, &name, experts.as_deref(), encoder.as_ref()).with_context(|| name.clone())?;
            all.insert(name, pool);
        }
        if all.is_empty() {
            bail!("{}: no such pool", path.display());
        }
        if let Some(folder) = self.out.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        write_whole(&self.out, &serde_json::to_vec_pretty(&all)?)?;
        println!("\nfigures: {}", self.out.display());
        Ok(())
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
                head(name, &train, &evaluation);
            }
            line(kind.as_str(), &trained);
            routers.insert(kind.as_str(), trained);
            seen = Some(evaluation);
        }
        let Some(seen) = seen else { bail!("no routers") };
        foot(&seen);
        Ok(Pool {
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
        let learned = learn(train, chooser, encoder, &options, &|what| eprintln!("  {what}"))?;
        let fit_seconds = begun.elapsed().as_secs_f64();
        let fit_cpu_seconds = usage::cpu_seconds().zip(cpu).map(|(after, before)| after - before);
        let peak_rss_mib = usage::peak_mib();
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
        let evaluation = compare(&subject)?;
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

fn cell(measures: &Measures) -> String {
    match (measures.score, measures.cost_per_1k_usd) {
        (Some(score), Some(cost)) => format!("{score:.4} @ {cost:.4}"),
        (Some(score), None) => format!("{score:.4}"),
        _ => "-".into(),
    }
}

fn head(name: &str, train: &Data, evaluation: &Evaluation) {
    let baselines = &evaluation.overall.baselines;
    println!("\n{name}: {} training rows, {} validation rows, {} experts", train.rows(), evaluation.rows, evaluation.experts.len());
    println!("  score @ USD per 1,000 queries, on validation rows");
    println!("  {:<14} {}", "random", cell(&baselines.random));
    println!("  {:<14} {}  ({})", "best single", cell(&baselines.best_single), evaluation.best_single);
    println!("  {:<14} {}", "label given", cell(&baselines.label_given));
}

fn line(kind: &str, trained: &Trained) {
    let point = |point: &Option<crate::evaluation::CurvePoint>| {
        point.as_ref().map_or("none".to_owned(), |point| format!("{:.4} @ {:.4}", point.score, point.cost_per_1k_usd.unwrap_or(f64::NAN)))
    };
    let out_of_fold = trained.candidates.iter().find(|candidate| candidate.name == trained.chosen);
    println!(
        "  {kind:<14} {}  cost: {}  balanced: {}  within cost: {}  at score: {}",
        cell(&trained.results.quality),
        cell(&trained.results.cost),
        cell(&trained.results.balanced),
        point(&trained.named_points.best_score_within_cost),
        point(&trained.named_points.least_cost_at_score),
    );
    println!(
        "  {:<14} {} {:.4} out of fold; {:.1} s, {} s of CPU, {} MiB",
        "",
        trained.chosen,
        out_of_fold.map_or(f64::NAN, |candidate| candidate.outcome.score),
        trained.fit_seconds,
        trained.fit_cpu_seconds.map_or("?".into(), |seconds| format!("{seconds:.1}")),
        trained.peak_rss_mib.map_or("?".into(), |mib| format!("{mib:.0}")),
    );
}

fn foot(evaluation: &Evaluation) {
    println!("  {:<14} {}", "oracle", cell(&evaluation.overall.baselines.oracle));
}
