//! `evaluate`: a bundle against its experts, on outcomes it has not learnt from.
//!
//! In: a bundle, outcomes, and a manifest where prices, limits and placements are to be its. Out: an [`Evaluation`], as a table, as JSON,
//! as a report. Scores come from the bundle's own graph, choices from the very rule that serving uses. Deliberately absent: any choice
//! made by looking at the rows that are reported on, but for the curves and their two named points, which say so.

mod compare;
mod curve;
mod table;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use model::{Bundle, Manifest, bundle::ExpertEntry};
use ndarray::Array2;
use routing::{Prices, snapshot::Placement};

pub use compare::{Subject, compare};
pub use table::table;

use crate::{
    data::{Data, DataError},
    decide::{Chooser, Market, Predictions},
    evaluation::Evaluation,
    outcomes::{self, Split},
    prices, report, router,
    score::ScoreField,
    settings::Settings,
    store::is_special,
};

/// Examples:
///   expert-router-train evaluate --bundle bundle/ --outcomes outcomes.jsonl.gz --split test
///   expert-router-train evaluate --bundle bundle/ --outcomes outcomes.jsonl.gz --split test --manifest router.yaml --report report/ --json evaluation.json
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct EvaluateArgs {
    /// The bundle: a folder or a tar
    #[arg(long)]
    pub bundle: PathBuf,
    /// What experts made of queries (also .gz, .zst). Its training rows say which expert is the best single one
    #[arg(long)]
    pub outcomes: PathBuf,
    /// Which rows are reported on: train, val or test
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// Choose between these experts only
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub experts: Vec<String>,
    /// A manifest with the prices, limits and placements to choose by. Without: prices are read off the outcomes
    #[arg(long)]
    pub manifest: Option<PathBuf>,
    /// The score, where it is not to be what the bundle was trained on
    #[arg(long)]
    pub score: Option<ScoreField>,
    /// Score given up for a US cent under `Balanced`, where it is not to be what the bundle recommends
    #[arg(long, value_parser = at_least_zero)]
    pub cost_weight: Option<f64>,
    /// Score given up under `Cost`, where it is not to be what the bundle recommends
    #[arg(long, value_parser = at_least_zero)]
    pub tolerance: Option<f64>,
    /// Write one HTML file with plots into this folder
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Write the evaluation as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
}

fn at_least_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("must be a number of at least 0".into()),
    }
}

impl EvaluateArgs {
    /// Evaluates, prints the table, writes what was asked for.
    ///
    /// # Errors
    /// What is wrong with the input, by file and line.
    pub fn run(self) -> Result<()> {
        let evaluation = evaluate(&self)?;
        print!("{}", table(&evaluation));
        if let Some(path) = &self.json {
            write_json(&evaluation, path)?;
            println!("JSON: {}", path.display());
        }
        if let Some(folder) = &self.report {
            println!("report: {}", report::write(&evaluation, folder)?.display());
        }
        Ok(())
    }
}

/// Writes an evaluation, whole or not at all.
///
/// # Errors
/// The disk's.
pub fn write_json(evaluation: &Evaluation, path: &std::path::Path) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(evaluation)?;
    json.push(b'\n');
    write_whole(path, &json)
}

/// Writes a file, whole or not at all. A pipe, or standard output by its name, is written into.
///
/// # Errors
/// The disk's.
pub fn write_whole(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let failed = || format!("cannot write {}", path.display());
    if is_special(path) {
        return std::fs::write(path, bytes).with_context(failed);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(failed)?;
    crate::store::readable_by_all(file.path()).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

/// Runs the bundle on the split's rows and compares.
///
/// # Errors
/// See [`EvaluateArgs::run`].
pub fn evaluate(arguments: &EvaluateArgs) -> Result<Evaluation> {
    let bundle = Bundle::read(&arguments.bundle).with_context(|| arguments.bundle.display().to_string())?;
    let manifest = bundle.manifest.clone();
    let told = |key: &str| manifest.training.get(key);
    let field = match (&arguments.score, told("score_field").and_then(serde_json::Value::as_str)) {
        (Some(field), _) => field.clone(),
        (None, Some(field)) => field.parse().map_err(anyhow::Error::msg).context("bundle.json: training.score_field")?,
        (None, None) => ScoreField::default(),
    };
    let names = chosen(&manifest.experts, &arguments.experts)?;
    let rows = outcomes::read(&arguments.outcomes)?;
    let market = Market::read(arguments.manifest.as_deref())?;
    let mut data = Data::of(&rows, &field, Some(&names), &manifest.text).with_context(|| arguments.outcomes.display().to_string())?;
    drop(rows);
    market.reprice(&mut data)?;
    let train = data.select(&data.of_split(Split::Train));
    let held_out = data.select(&data.of_split(arguments.split));
    if held_out.rows() == 0 {
        bail!(DataError::NoRows(arguments.split.as_str()));
    }
    let mut settings: Settings = told("recommended").and_then(|told| serde_json::from_value(told.clone()).ok()).unwrap_or_default();
    settings.balanced.setting = arguments.cost_weight.unwrap_or(settings.balanced.setting);
    settings.cost.setting = arguments.tolerance.unwrap_or(settings.cost.setting);
    let predictions = predict(bundle, &manifest.experts, &names, &held_out)?;
    let chooser = match (&arguments.manifest, train.rows()) {
        (None, 0) => Chooser::new(&names, &told_prices(told("prices"), &manifest.experts, &names), &BTreeMap::<String, Placement>::new()),
        _ => market.chooser(&train),
    };
    let subject = Subject {
        train: &train,
        held_out: &held_out,
        split: arguments.split.as_str(),
        predictions: &predictions,
        chooser: &chooser,
        settings,
        score_field: field.to_string(),
        router_kind: manifest.router.clone(),
        // Where the file has no training rows, the bundle still knows what its own had.
        best_single: if train.rows() == 0 { best_by_bundle(&manifest, &names) } else { None },
        placements: market.placements(),
    };
    let evaluation = compare(&subject)?;
    if evaluation.rows == 0 {
        bail!("{}: in no {} row has every expert a `{field}`", arguments.outcomes.display(), arguments.split.as_str());
    }
    Ok(evaluation)
}

/// The bundle's experts, or those of them that were asked for.
fn chosen(experts: &[ExpertEntry], asked: &[String]) -> Result<Vec<String>> {
    let known: Vec<String> = experts.iter().map(|expert| expert.name.clone()).collect();
    if asked.is_empty() {
        return Ok(known);
    }
    let unknown: Vec<String> = asked.iter().filter(|name| !known.contains(name)).cloned().collect();
    if !unknown.is_empty() {
        bail!("the bundle has no expert {}; it has {}", unknown.join(", "), known.join(", "));
    }
    Ok(known.into_iter().filter(|name| asked.contains(name)).collect())
}

/// What the bundle says of rows, for the experts chosen from.
fn predict(bundle: Bundle, experts: &[ExpertEntry], names: &[String], rows: &Data) -> Result<Predictions> {
    let columns: Vec<usize> = names.iter().filter_map(|name| experts.iter().position(|expert| expert.name == *name)).collect();
    let engine = router::load(bundle)?;
    let found = engine.score_all(&rows.texts)?;
    let quality = Array2::from_shape_fn((found.len(), columns.len()), |(row, column)| found[row].quality[columns[column]]);
    let tokens = |row: usize, column: usize| {
        let mean = experts[columns[column]].mean_output_tokens.map_or(f32::NAN, |mean| mean as f32);
        let trained = found[row].output_tokens.as_ref().map_or(f32::NAN, |tokens| tokens[columns[column]]);
        if trained.is_nan() { mean } else { trained }
    };
    let output_tokens = Array2::from_shape_fn(quality.dim(), |(row, column)| tokens(row, column));
    let seconds = columns.iter().map(|at| experts[*at].mean_seconds.map_or(f32::NAN, |seconds| seconds as f32)).collect();
    Ok(Predictions { quality, output_tokens, seconds, prompt_tokens: prices::shared_prompt_tokens(rows) })
}

/// Prices as training read them off its rows.
fn told_prices(told: Option<&serde_json::Value>, experts: &[ExpertEntry], names: &[String]) -> Vec<Option<Prices>> {
    let all: Vec<Option<Prices>> = told.and_then(|told| serde_json::from_value(told.clone()).ok()).unwrap_or_default();
    let of = |name: &String| experts.iter().position(|expert| expert.name == *name).and_then(|at| *all.get(at)?);
    names.iter().map(of).collect()
}

/// The expert that training called the best, where it is among those chosen from; else by mean score.
fn best_by_bundle(manifest: &Manifest, names: &[String]) -> Option<usize> {
    let told = manifest.training.get("best_single").and_then(serde_json::Value::as_str);
    let mean = |name: &String| manifest.experts.iter().find(|expert| expert.name == *name).and_then(|expert| expert.mean_score);
    let means: Vec<f64> = names.iter().map(|name| mean(name).unwrap_or(f64::NEG_INFINITY)).collect();
    let best = || (0..means.len()).reduce(|best, at| if means[at] > means[best] { at } else { best });
    told.and_then(|told| names.iter().position(|name| name == told)).or_else(best)
}

#[cfg(test)]
mod tests;
