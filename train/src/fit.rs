//! `fit`: an outcomes file to a bundle.
//!
//! In: outcomes, and a manifest where prices are to be those of a router to come. Out: a bundle that has been run through ONNX Runtime
//! and compared with the trainer, or nothing. The same input gives the same bytes. Deliberately absent: asking experts (`prepare`), and
//! any other look at the validation rows than to say how good the router is.

mod bundle;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use model::{Bundle, TextRules};

use crate::{
    data::Data,
    decide::Market,
    encoder::{Encoder, EncoderOptions},
    fetch::refuse_to_clobber,
    learn::{LearnOptions, Objective, Sources, Teacher, learn},
    outcomes::{self, Row, Split},
    recipe::{LossChoice, RouterKind},
    score::ScoreField,
};

/// Examples:
///   expert-router-train fit --outcomes outcomes.jsonl.gz --out bundle/
///   expert-router-train fit --outcomes outcomes.jsonl.gz --router lexical --objective cost --manifest router.yaml --out bundle/
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct FitArgs {
    /// What experts made of queries, one query a line (also .gz, .zst); `prepare` writes it, or you do
    #[arg(long)]
    pub outcomes: PathBuf,
    /// The bundle to write: a folder, or a .tar, .tar.gz, .tgz. An older bundle there is replaced
    #[arg(long)]
    pub out: PathBuf,
    /// A manifest whose experts and prices the choice is to be good for. Without: prices are read off the outcomes
    #[arg(long)]
    pub manifest: Option<PathBuf>,
    /// How.
    #[command(flatten)]
    pub options: FitOptions,
}

/// How a router is trained.
#[derive(Debug, Clone, Args)]
pub struct FitOptions {
    /// Which router
    #[arg(long, value_enum, default_value = "auto")]
    pub router: RouterKind,
    /// What is learnt from the scores
    #[arg(long, value_enum, default_value = "auto")]
    pub loss: LossChoice,
    /// T of the soft labels softmax(T * score)
    #[arg(long, default_value_t = 10.0, value_parser = above_zero)]
    pub temperature: f32,
    /// The score: `score`, `bertsim`, or a weighted sum such as 0.7*bertsim+0.3*score. Without: `score` where the file has any, else `bertsim`
    #[arg(long)]
    pub score: Option<ScoreField>,
    /// Only these experts. Those left out still hint at what a query is like
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub experts: Vec<String>,
    /// What routers are compared by
    #[arg(long, value_enum, default_value = "quality")]
    pub objective: Objective,
    /// The same seed and input give the same bundle
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Tokens an encoder reads of a prompt; of a longer one head and tail
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(8..=512))]
    pub max_tokens: u16,
    /// How long `auto` may fine-tune the encoder, in minutes of two cores of a common server; 0: not at all. Counted by the work there is
    /// and not by the clock, so that the same input gives the same bundle
    #[arg(long, default_value_t = TUNE_MINUTES, value_parser = not_below_zero)]
    pub tune_minutes: f64,
    /// An encoder's folder (model.safetensors, config.json, tokenizer.json). Without: the one that `make fetch` brings
    #[arg(long)]
    pub encoder: Option<PathBuf>,
    /// Learn from another bundle too: what it predicts of each query counts beside the scores, and alone where no expert was asked
    #[arg(long, value_name = "BUNDLE")]
    pub distil: Option<PathBuf>,
    /// How much the other bundle counts against the scores, up to 1
    #[arg(long, default_value_t = 0.5, value_parser = share, requires = "distil")]
    pub distil_share: f32,
    /// Learn from the validation rows too, once all is chosen: better by a little, and nothing is left to tell how good it is
    #[arg(long)]
    pub with_validation: bool,
}

/// How long `auto` fine-tunes where nothing is said.
pub const TUNE_MINUTES: f64 = 12.0;

fn not_below_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("must be a number of 0 or more".into()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    above_zero(text).ok().filter(|share| *share <= 1.0).ok_or_else(|| "must be a number above 0, at most 1".into())
}

fn above_zero(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("must be a number above 0".into()),
    }
}

/// What `fit` made.
#[derive(Debug)]
pub struct Fitted {
    /// As it is written.
    pub bundle: model::Bundle,
    /// On the validation rows.
    pub evaluation: crate::evaluation::Evaluation,
    /// Of the comparison and the validation, in words.
    pub summary: String,
}

impl FitArgs {
    /// Trains, checks, writes.
    ///
    /// # Errors
    /// What is wrong with the input, by file and line; nothing is then written.
    pub fn run(self) -> Result<()> {
        let begun = Instant::now();
        let progress = |what: &str| eprintln!("[{:6.1} s] {what}", begun.elapsed().as_secs_f64());
        let fitted = fit(&self, &progress)?;
        println!("{}", fitted.summary);
        Ok(())
    }
}

/// Trains, checks, writes. `progress` is told what is being done.
///
/// # Errors
/// See [`FitArgs::run`].
pub fn fit(arguments: &FitArgs, progress: &(dyn Fn(&str) + Sync)) -> Result<Fitted> {
    let FitArgs { outcomes: path, out, manifest, options } = arguments;
    let rows = outcomes::read(path)?;
    let data_sha256 = outcomes::file_sha256(path)?;
    let field = options.score.clone().unwrap_or_else(|| default_field(&rows));
    let rules = TextRules::default();
    let market = Market::read(manifest.as_deref())?;
    let experts = (!options.experts.is_empty()).then_some(options.experts.as_slice());
    let mut data = Data::of(&rows, &field, experts, &rules).with_context(|| path.display().to_string())?;
    drop(rows);
    data.check_for_training(&field).with_context(|| path.display().to_string())?;
    check_place(out)?;
    check_runtime()?;
    market.reprice(&mut data)?;
    let (train, val) = (data.select(&data.of_split(Split::Train)), data.select(&data.of_split(Split::Val)));
    progress(&format!("{} training and {} validation rows, {} experts, by {field}", train.rows(), val.rows(), data.experts.len()));
    let learnt_from = if options.with_validation { joined(&data) } else { train };
    let encoder = open_encoder(options)?;
    let chooser = market.chooser(&learnt_from);
    let teacher = options.distil.as_deref().map(|path| ask(path, options, &learnt_from, progress)).transpose()?;
    let asked = teacher.as_ref().map(|(teacher, _)| teacher);
    let from = Sources { data: &learnt_from, chooser: &chooser, encoder: encoder.as_ref(), teacher: asked };
    let learned = learn(from, &options.learn_options(), progress)?;
    let job = bundle::Job {
        options,
        field: &field,
        rules: &rules,
        data_sha256,
        teacher: teacher.map(|(_, name)| name),
        learnt_from: &learnt_from,
        val: &val,
        chooser: &chooser,
        placements: market.placements(),
    };
    let made = job.make(&learned, encoder.as_ref(), progress)?;
    write(&made.bundle, out)?;
    progress(&format!("wrote {}", out.display()));
    Ok(made)
}

/// What the bundle to learn from says of the rows, and its digest.
fn ask(path: &Path, options: &FitOptions, rows: &Data, progress: &(dyn Fn(&str) + Sync)) -> Result<(Teacher, String)> {
    let named = || path.display().to_string();
    let bundle = Bundle::read(path).with_context(named)?;
    progress(&format!("asking the {} router of {} about {} rows", bundle.manifest.router, path.display(), rows.rows()));
    let digest = bundle.digest.clone();
    let teacher = Teacher::ask(bundle, &rows.experts, &rows.texts, options.distil_share).with_context(named)?;
    Ok((teacher, digest))
}

/// Rows that may be learnt from when nothing is left to be chosen.
fn joined(data: &Data) -> Data {
    let mut rows = data.of_split(Split::Train);
    rows.extend(data.of_split(Split::Val));
    rows.sort_unstable();
    data.select(&rows)
}

fn default_field(rows: &[Row]) -> ScoreField {
    let mut outcomes = rows.iter().flat_map(|row| &row.outcomes);
    if outcomes.any(|outcome| outcome.score.is_some()) { ScoreField::default() } else { ScoreField::bertsim() }
}

/// Where the encoder is in images.
const ENCODER_VARIABLE: &str = "EXPERT_ROUTER_ENCODER";

impl FitOptions {
    pub(crate) fn learn_options(&self) -> LearnOptions {
        let Self { router: kind, loss, temperature, objective, seed, tune_minutes, .. } = *self;
        LearnOptions { kind, loss, temperature, objective, seed, tune_minutes }
    }
}

/// The encoder, where the router may need one. `auto` goes without where there is none.
fn open_encoder(options: &FitOptions) -> Result<Option<Encoder>> {
    if options.router == RouterKind::Lexical {
        return Ok(None);
    }
    let encoder_options = EncoderOptions { max_tokens: usize::from(options.max_tokens), ..EncoderOptions::default() };
    // As in the image, whose Jobs have no flag for it.
    let of_image = std::env::var_os(ENCODER_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = match encoder_folder(options.encoder.clone(), of_image, parts::encoder()) {
        Ok(folder) => folder,
        Err(missing) if options.router.needs_encoder() => return Err(missing.into()),
        Err(missing) => {
            tracing::warn!(%missing, "routers that read embeddings are not tried");
            eprintln!("warning: {missing}; routers that read embeddings are not tried");
            return Ok(None);
        }
    };
    Ok(Some(Encoder::open(&folder, encoder_options)?))
}

/// What was asked for comes first, then what the environment says, then what was fetched.
fn encoder_folder(
    asked: Option<PathBuf>,
    of_image: Option<PathBuf>,
    fetched: Result<PathBuf, parts::Missing>,
) -> Result<PathBuf, parts::Missing> {
    asked.or(of_image).map_or(fetched, Ok)
}

fn is_tar(out: &Path) -> bool {
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    [".tar", ".tar.gz", ".tgz"].iter().any(|ending| name.ends_with(ending))
}

/// Whether a bundle can be asked, as it is before it is written: without that all would be learnt for nothing.
pub(crate) fn check_runtime() -> Result<()> {
    model::session::load_runtime(None).map(drop).map_err(|problem| anyhow!(problem))
}

/// Whether a bundle can be written there: what is not to be kept need not be learnt for minutes.
fn check_place(out: &Path) -> Result<()> {
    match is_tar(out) {
        true => ensure!(!out.is_dir(), "{}: a folder is there", out.display()),
        false => refuse_to_clobber(out)?,
    }
    let failed = || format!("writing {}", out.display());
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(failed)?;
    tempfile::tempfile_in(folder).with_context(failed)?;
    Ok(())
}

fn write(bundle: &model::Bundle, out: &Path) -> Result<()> {
    if is_tar(out) {
        bundle.write_tar(out)?
    } else {
        bundle.write(out)?
    }
    Ok(())
}

#[cfg(test)]
mod tests;
