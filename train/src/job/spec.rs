//! The manifest of a Job: what the RouterModel asks for, as options of the steps.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use api::{
    ExpertRouter, RouterModel,
    model::{Loss, Metric, RouterKind as Kind},
};
use routing::snapshot::Objective;

use crate::{
    fit::FitOptions,
    learn,
    recipe::{LossChoice, RouterKind},
    score::ScoreField,
};

/// Where the RouterModel does not say.
const MAX_TOKENS: u16 = 64;

/// A manifest that was read.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The experts.
    pub router: ExpertRouter,
    /// What is trained.
    pub model: RouterModel,
}

impl Spec {
    /// Reads a manifest.
    ///
    /// # Errors
    /// It is wrong, by file and field, or has not one of each.
    pub fn read(path: &Path) -> Result<Self> {
        let yaml = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let objects = api::read_objects(&yaml).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let counts = (objects.routers.len(), objects.models.len());
        match (objects.routers.into_iter().next(), objects.models.into_iter().next()) {
            (Some(router), Some(model)) if counts == (1, 1) => Ok(Self { router, model }),
            _ => bail!("{}: expected one ExpertRouter and one RouterModel, found {} and {}", path.display(), counts.0, counts.1),
        }
    }

    /// Names of the experts, in the manifest's order.
    #[must_use]
    pub fn experts(&self) -> Vec<String> {
        self.router.spec.experts.iter().map(|expert| expert.name.clone()).collect()
    }

    /// The objective, as serving knows it.
    #[must_use]
    pub fn objective(&self) -> Objective {
        self.model.spec.router.objective.unwrap_or_default()
    }

    /// Which field of an outcome is the score.
    ///
    /// # Errors
    /// A weight that is none.
    pub fn score(&self) -> Result<ScoreField> {
        let scoring = &self.model.spec.scoring;
        let text = match scoring.metric.unwrap_or(Metric::BERTSim) {
            Metric::BERTSim => "bertsim".to_owned(),
            Metric::Match => "score".to_owned(),
            Metric::Mixed => {
                let weight = scoring.bert_sim_weight.as_ref().map_or(0.5, api::Decimal::value);
                anyhow::ensure!(weight <= 1.0, "scoring.bertSimWeight: expected 0 to 1, got {weight}");
                if weight <= 0.0 {
                    "score".to_owned()
                } else if weight < 1.0 {
                    format!("{weight}*bertsim+{}*score", 1.0 - weight)
                } else {
                    "bertsim".to_owned()
                }
            }
        };
        text.parse().map_err(anyhow::Error::msg)
    }

    /// How a router is trained.
    ///
    /// # Errors
    /// A weight or a temperature that is none.
    pub fn fit_options(&self) -> Result<FitOptions> {
        let router = &self.model.spec.router;
        let temperature = router.temperature.as_ref().map_or(10.0, api::Decimal::value) as f32;
        anyhow::ensure!(temperature > 0.0, "router.temperature: expected a number above 0");
        let kind = match router.kind.unwrap_or(Kind::Auto) {
            Kind::KNN => RouterKind::Knn,
            Kind::MLP => RouterKind::Mlp,
            Kind::BERT => RouterKind::Bert,
            Kind::Lexical => RouterKind::Lexical,
            Kind::Auto => RouterKind::Auto,
        };
        let loss = match router.loss.unwrap_or(Loss::Auto) {
            Loss::SoftLabel => LossChoice::SoftLabel,
            Loss::Score => LossChoice::Score,
            Loss::Auto => LossChoice::Auto,
        };
        let objective = match self.objective() {
            Objective::Quality => learn::Objective::Quality,
            Objective::Cost => learn::Objective::Cost,
            Objective::Balanced => learn::Objective::Balanced,
        };
        Ok(FitOptions {
            router: kind,
            loss,
            temperature,
            score: Some(self.score()?),
            experts: self.experts(),
            objective,
            seed: router.seed.unwrap_or(0).into(),
            max_tokens: router.max_tokens.unwrap_or(MAX_TOKENS),
            ..as_on_the_command_line(&[])?
        })
    }

    /// The router's manifest for steps that call nobody: prices, limits and places, but no secrets.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_market(&self, folder: &Path) -> Result<std::path::PathBuf> {
        let mut router = self.router.clone();
        for expert in &mut router.spec.experts {
            expert.credentials = None;
            expert.tls = None;
        }
        let path = folder.join("market.yaml");
        // JSON is YAML.
        let json = serde_json::to_vec(&router).context("writing JSON")?;
        std::fs::write(&path, json).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// Options of a step as they are where a person gives none but these.
///
/// # Errors
/// An option is none.
pub(crate) fn as_on_the_command_line<Options: clap::Args>(arguments: &[&str]) -> Result<Options> {
    let command = Options::augment_args(clap::Command::new("job").no_binary_name(true));
    let matches = command.try_get_matches_from(arguments)?;
    Ok(Options::from_arg_matches(&matches)?)
}

/// Reads `--fingerprints`.
///
/// # Errors
/// The file is no JSON object of texts.
pub(super) fn fingerprints(path: Option<&Path>) -> Result<BTreeMap<String, String>> {
    let Some(path) = path else { return Ok(BTreeMap::new()) };
    let json = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&json).with_context(|| path.display().to_string())
}
