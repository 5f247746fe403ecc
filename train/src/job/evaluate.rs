//! A bundle on trial against the experts, and the bundle in force on the very same rows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use api::training::{Evaluated, Point};
use model::Bundle;
use routing::snapshot::Objective;

use super::{EvaluateJob, Spec, bundle_folder, join_parts};
use crate::{
    evaluate::{EvaluateArgs, evaluate, table, write_json},
    evaluation::{Evaluation, Measures},
    fetch::fetch,
    outcomes::{self, Row, Split, Writer},
    report,
    store::{Store, join},
};

impl EvaluateJob {
    pub(super) fn run(&self) -> Result<Evaluated> {
        let spec = Spec::read(&self.common.manifest)?;
        let workspace = &self.common.workspace;
        let temporary = tempfile::Builder::new().prefix(".evaluate-").tempdir_in(workspace);
        let temporary = temporary.with_context(|| format!("writing {}", workspace.display()))?;
        let trial = Trial::new(&spec, &join_parts(workspace, self.parts)?, temporary.path())?;
        let folder = bundle_folder(workspace, &self.digest);
        let evaluation = trial.evaluate(&folder)?;
        eprint!("{}", table(&evaluation));
        self.keep(&evaluation, &folder, temporary.path())?;
        let in_service = match &self.in_force {
            Some(digest) => self.in_service(digest, &trial, temporary.path())?,
            None => None,
        };
        Ok(Evaluated {
            digest: self.digest.clone(),
            split: evaluation.split.clone(),
            rows: evaluation.rows as u64,
            router: at_objective(&self.digest, spec.objective(), &evaluation),
            best_single: point(&evaluation.best_single, &evaluation.overall.baselines.best_single),
            in_service,
            table: rows_of(&evaluation),
            left_out: 0,
        })
    }

    /// Evaluation and report beside the bundle, to be published with it.
    fn keep(&self, evaluation: &Evaluation, folder: &Path, temporary: &Path) -> Result<()> {
        write_json(evaluation, &folder.with_file_name("evaluation.json"))?;
        let written = report::write(evaluation, &temporary.join("report"))?;
        fs::copy(&written, folder.with_file_name("report.html")).with_context(|| format!("copying {}", written.display()))?;
        Ok(())
    }

    /// The bundle in force; none where it chooses among experts that are not asked any more.
    fn in_service(&self, digest: &str, trial: &Trial<'_>, temporary: &Path) -> Result<Option<Point>> {
        let kept = bundle_folder(&self.common.workspace, digest);
        let folder = match (Bundle::read(&kept), &self.output) {
            (Ok(bundle), _) if bundle.digest == *digest => kept,
            (_, Some(output)) => {
                let folder = temporary.join("in-force");
                let store = Store::open(self.store.credentials.as_deref())?;
                let uri = join(output, &format!("{digest}/bundle"));
                super::block_on(fetch(&store, &uri, Some(digest), &folder)).context("the bundle in force")?;
                folder
            }
            (_, None) => return Ok(None),
        };
        let bundle = Bundle::read(&folder)?;
        let asked = trial.spec.experts();
        if bundle.manifest.experts.iter().any(|expert| !asked.contains(&expert.name)) {
            return Ok(None);
        }
        let evaluation = trial.evaluate(&folder).context("the bundle in force")?;
        Ok(Some(at_objective(digest, trial.spec.objective(), &evaluation)))
    }
}

/// Rows on which bundles are compared: of the test split, or of the validation split where there is none, those in which every expert has
/// a score; and all training rows, which say who is the best single expert.
struct Trial<'a> {
    spec: &'a Spec,
    outcomes: PathBuf,
    split: Split,
    market: PathBuf,
}

impl<'a> Trial<'a> {
    fn new(spec: &'a Spec, all: &Path, temporary: &Path) -> Result<Self> {
        let rows = outcomes::read(all)?;
        let split = if rows.iter().any(|row| row.split() == Split::Test) { Split::Test } else { Split::Val };
        let (experts, score) = (spec.experts(), spec.score()?);
        let has_score = |row: &Row, name: &String| row.outcomes.iter().any(|it| it.expert == *name && score.of(it).is_some());
        let is_complete = |row: &Row| experts.iter().all(|name| has_score(row, name));
        let outcomes = temporary.join("outcomes.jsonl");
        let mut writer = Writer::create(&outcomes)?;
        for row in rows.iter().filter(|row| row.split() == Split::Train || row.split() == split && is_complete(row)) {
            writer.write(row)?;
        }
        writer.finish()?;
        Ok(Self { spec, outcomes, split, market: spec.write_market(temporary)? })
    }

    fn evaluate(&self, bundle: &Path) -> Result<Evaluation> {
        evaluate(&EvaluateArgs {
            bundle: bundle.to_owned(),
            outcomes: self.outcomes.clone(),
            split: self.split,
            experts: Vec::new(),
            manifest: Some(self.market.clone()),
            score: Some(self.spec.score()?),
            cost_weight: None,
            tolerance: None,
            report: None,
            json: None,
        })
    }
}

fn point(name: &str, measures: &Measures) -> Point {
    Point { name: name.to_owned(), score: measures.score.unwrap_or(0.0), cost: measures.cost_per_1k_usd }
}

fn at_objective(digest: &str, objective: Objective, evaluation: &Evaluation) -> Point {
    let router = &evaluation.overall.router;
    point(
        digest,
        match objective {
            Objective::Quality => &router.quality,
            Objective::Balanced => &router.balanced,
            Objective::Cost => &router.cost,
        },
    )
}

/// The table in the order in which it may be cut: the router, what it is measured by, then experts from the best on.
fn rows_of(evaluation: &Evaluation) -> Vec<(String, f64, Option<f64>)> {
    let (router, baselines) = (&evaluation.overall.router, &evaluation.overall.baselines);
    let named = [
        ("router at Quality", &router.quality),
        ("router at Balanced", &router.balanced),
        ("router at Cost", &router.cost),
        ("best single", &baselines.best_single),
        ("always cheapest", &baselines.cheapest),
        ("at random", &baselines.random),
        ("best by data set", &baselines.label_given),
        ("oracle of all", &baselines.oracle),
    ];
    let row = |name: &str, measures: &Measures| Some((name.to_owned(), round(measures.score?), measures.cost_per_1k_usd.map(round)));
    let mut experts: Vec<_> = baselines.experts.iter().filter_map(|(name, measures)| row(name, measures)).collect();
    experts.sort_by(|one, other| other.1.total_cmp(&one.1));
    named.into_iter().filter_map(|(name, measures)| row(name, measures)).chain(experts).collect()
}

/// Six decimals are more than anybody reads.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
