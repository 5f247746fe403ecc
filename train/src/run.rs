//! `run`: from queries and experts to a bundle and its report in one go, told by the `RouterModel` of a manifest.
//!
//! In: a manifest with a RouterModel and the ExpertRouter it names (unless it lists endpoints of its own). Out: one folder with all that
//! the steps make. Started again after whatever ended it, it asks nothing twice and does not train again on what it has trained on.
//! Deliberately absent: any choice that the manifest does not state, and publishing (`publish`).
//!
//! ```text
//! outcomes.jsonl.gz   and beside it the journal of all answers
//! bundle/             what serves; run.json says what it was made of
//! evaluation.json, report/report.html
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use api::{ExpertRouter, RouterModel};
use clap::Args;
use model::Bundle;
use serde::{Deserialize, Serialize};

use crate::{
    evaluate::EvaluateArgs,
    fit::{FitArgs, check_runtime, fit},
    job::{Spec, as_on_the_command_line},
    outcomes::{self, Split},
    prepare::{self, Ending, PrepareOptions},
    store::Store,
};

/// No file of queries is longer.
const MOST_QUERIES_BYTES: u64 = 4 << 30;

/// Examples:
///   expert-router-train run --manifest router.yaml
///   expert-router-train run --manifest router.yaml --expert-url http://127.0.0.1:18080/v1 --out trained/ --max-cost-usd 5
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct RunArgs {
    /// A YAML file with a RouterModel, and the ExpertRouter it names
    #[arg(long)]
    pub manifest: PathBuf,
    /// The RouterModel, where the file has several
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The folder for all results. Default: the RouterModel's output.directory
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// The queries, in place of the RouterModel's: a path, or a file, http, https, s3, gs or az URI
    #[arg(long)]
    pub queries: Option<String>,
    /// Where experts are, in place of what the manifest says: NAME=URL, or just URL for all of them
    #[arg(long, value_name = "[NAME=]URL")]
    pub expert_url: Vec<String>,
    /// Where secrets are mounted: credentials.secretRef {name, key} is the file DIR/name/key
    #[arg(long = "secrets-dir", alias = "secrets", env = "EXPERT_ROUTER_SECRETS_DIR", value_name = "DIR")]
    pub secrets: Option<PathBuf>,
    /// Requests at once over all experts, for those that share a machine
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub at_once: Option<u16>,
    /// Ask no more once the next request might pass this, in place of the RouterModel's job.maxCostUsd. Training takes what there is
    #[arg(long, value_parser = prepare::above_zero, value_name = "USD")]
    pub max_cost_usd: Option<f64>,
    /// The encoder BERTSim is computed with: a folder. Default: the RouterModel's scoring.encoder, else the one that was fetched
    #[arg(long, env = "EXPERT_ROUTER_ENCODER")]
    pub encoder: Option<PathBuf>,
}

/// What the bundle in the folder was made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Made {
    version: String,
    outcomes_sha256: String,
    market: String,
    options: String,
    digest: String,
}

impl RunArgs {
    /// Does all steps that are not done.
    ///
    /// # Errors
    /// The step that went wrong; what was done before it is kept.
    pub fn run(self) -> Result<()> {
        let begun = Instant::now();
        let spec = self.spec()?;
        let folder = self.folder(&spec)?;
        check_runtime()?;
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let say = |what: &str| eprintln!("[{:6.1} s] {what}", begun.elapsed().as_secs_f64());
        say(&format!("asking {} experts", spec.experts().len()));
        let outcomes = self.prepare(&spec, &folder)?;
        say("training");
        fit_unless_done(&spec, &folder, &outcomes, &say)?;
        say("evaluating");
        evaluate(&spec, &folder, &outcomes)?;
        println!("bundle: {}", folder.join("bundle").display());
        Ok(())
    }

    fn spec(&self) -> Result<Spec> {
        let yaml = fs::read_to_string(&self.manifest).with_context(|| format!("reading {}", self.manifest.display()))?;
        spec(&yaml, self.model.as_deref()).with_context(|| self.manifest.display().to_string())
    }

    fn base(&self) -> &Path {
        self.manifest.parent().unwrap_or(Path::new(""))
    }

    fn folder(&self, spec: &Spec) -> Result<PathBuf> {
        match (&self.out, &spec.model.spec.output.directory) {
            (Some(folder), _) => Ok(folder.clone()),
            (None, Some(directory)) => Ok(self.base().join(directory)),
            (None, None) => bail!("{}: output has no directory: say by --out where results go", self.manifest.display()),
        }
    }

    fn prepare(&self, spec: &Spec, folder: &Path) -> Result<PathBuf> {
        let job = &spec.model.spec.job;
        let mut options = PrepareOptions {
            at_once: self.at_once,
            max_cost_usd: self.max_cost_usd.or(job.max_cost_usd.as_ref().map(api::Decimal::value)),
            encoder: self.encoder.clone().or_else(|| spec.model.spec.scoring.encoder.as_ref().map(|folder| self.base().join(folder))),
            expert_url: self.expert_url.clone(),
            secrets: self.secrets.clone(),
            ..as_on_the_command_line::<PrepareOptions>(&[])?
        };
        options.concurrency = job.concurrency.unwrap_or(options.concurrency);
        // JSON is YAML.
        let router = serde_json::to_string(&spec.router).context("writing JSON")?;
        let experts = prepare::experts_of(&router, self.base(), &options).with_context(|| self.manifest.display().to_string())?;
        let out = folder.join("outcomes.jsonl.gz");
        match prepare::prepare(&self.queries(spec, folder)?, &experts, &out, &options)?.ending {
            Ending::OutOfMoney { next_usd } => {
                eprintln!("the money is spent: the next request may cost USD {next_usd:.6}; going on with what was answered");
            }
            ending => ending.into_result()?,
        }
        Ok(out)
    }

    /// The queries as a file of this machine.
    fn queries(&self, spec: &Spec, folder: &Path) -> Result<PathBuf> {
        let address = match (&self.queries, &spec.model.spec.queries.uri) {
            (Some(address), _) => address.clone(),
            (None, Some(uri)) if uri.contains("://") => uri.clone(),
            (None, Some(path)) => return Ok(self.base().join(path)),
            (None, None) => bail!("queries: a ConfigMap or a volume is there in a cluster only; say by --queries where they are"),
        };
        if !address.contains("://") {
            return Ok(address.into());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a thread")?;
        let bytes = runtime.block_on(Store::open(None)?.read(&address, MOST_QUERIES_BYTES))?;
        let path = folder.join("queries.jsonl");
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// The RouterModel, and the ExpertRouter whose experts it asks.
fn spec(yaml: &str, name: Option<&str>) -> Result<Spec> {
    let objects = api::read_objects(yaml).map_err(|error| anyhow!("{error}"))?;
    let named = |model: &&RouterModel| name.is_none_or(|name| model.metadata.name.as_deref() == Some(name));
    let models: Vec<&RouterModel> = objects.models.iter().filter(named).collect();
    let [model] = models[..] else {
        let all: Vec<&str> = objects.models.iter().filter_map(|model| model.metadata.name.as_deref()).collect();
        bail!("expected one RouterModel{}, found {}", name.map(|name| format!(" {name}")).unwrap_or_default(), list(&all));
    };
    let mut router = match &model.spec.experts.expert_router_ref {
        None => of_endpoints(model)?,
        Some(reference) => {
            let found = objects.routers.iter().find(|router| router.metadata.name.as_deref() == Some(reference.name.as_str()));
            found.with_context(|| format!("experts.expertRouterRef: there is no ExpertRouter {} in the file", reference.name))?.clone()
        }
    };
    // What it is served with is no part of how it is asked; mostly it is the very bundle that is still to be made.
    router.spec.model = None;
    Ok(Spec { router, model: model.clone() })
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A router of the experts that the RouterModel lists itself.
fn of_endpoints(model: &RouterModel) -> Result<ExpertRouter> {
    let name = model.metadata.name.clone().unwrap_or_default();
    let router = serde_json::json!({
        "apiVersion": "expertrouter.dev/v1alpha1", "kind": "ExpertRouter", "metadata": {"name": name},
        "spec": {"experts": model.spec.experts.endpoints},
    });
    serde_json::from_value(router).context("experts.endpoints")
}

fn fit_unless_done(spec: &Spec, folder: &Path, outcomes: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let market = spec.write_market(folder)?;
    let options = spec.fit_options()?;
    let mut making = Made {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        outcomes_sha256: outcomes::file_sha256(outcomes)?,
        market: fs::read_to_string(&market).with_context(|| format!("reading {}", market.display()))?,
        options: format!("{options:?}"),
        digest: String::new(),
    };
    let (bundle, record) = (folder.join("bundle"), folder.join("run.json"));
    let made: Option<Made> = fs::read(&record).ok().and_then(|json| serde_json::from_slice(&json).ok());
    if let (Some(made), Ok(there)) = (made, Bundle::read(&bundle)) {
        making.digest = there.digest;
        if making == made {
            say("the bundle is made of the very same already");
            return Ok(());
        }
    }
    let fitted = fit(&FitArgs { outcomes: outcomes.to_owned(), out: bundle, manifest: Some(market), options }, say)?;
    println!("{}", fitted.summary);
    making.digest = fitted.bundle.digest;
    let json = serde_json::to_vec_pretty(&making).context("writing JSON")?;
    fs::write(&record, json).with_context(|| format!("writing {}", record.display()))
}

fn evaluate(spec: &Spec, folder: &Path, outcomes: &Path) -> Result<()> {
    let rows = outcomes::read(outcomes)?;
    let split = if rows.iter().any(|row| row.split() == Split::Test) { Split::Test } else { Split::Val };
    let arguments = EvaluateArgs {
        bundle: folder.join("bundle"),
        outcomes: outcomes.to_owned(),
        split,
        experts: Vec::new(),
        manifest: Some(spec.write_market(folder)?),
        score: Some(spec.score()?),
        cost_weight: None,
        tolerance: None,
        report: Some(folder.join("report")),
        json: Some(folder.join("evaluation.json")),
    };
    arguments.run()
}

#[cfg(test)]
mod tests {
    use super::spec;

    const ROUTER: &str = "apiVersion: expertrouter.dev/v1alpha1\nkind: ExpertRouter\nmetadata: {name: chat}\nspec:\n  experts:\n\
        \x20   - {name: atlas, url: \"http://127.0.0.1:1/v1\", modelName: atlas-7b}\n  model: {routerModelRef: {name: m}}\n";
    const MODEL: &str = "---\napiVersion: expertrouter.dev/v1alpha1\nkind: RouterModel\nmetadata: {name: NAME}\nspec:\n\
        \x20 queries: {uri: queries.jsonl}\n  experts: EXPERTS\n  output: {directory: trained}\n";

    fn model(name: &str, experts: &str) -> String {
        MODEL.replace("NAME", name).replace("EXPERTS", experts)
    }

    #[test]
    fn experts_are_those_of_the_router_or_the_models_own() {
        let named = spec(&format!("{ROUTER}{}", model("m", "{expertRouterRef: {name: chat}}")), None).unwrap();
        assert_eq!((named.experts(), named.router.spec.model), (vec!["atlas".to_owned()], None));
        let own = model("m", "{endpoints: [{name: birch, url: \"http://127.0.0.1:2/v1\", modelName: birch-1b}]}");
        assert_eq!(spec(&own, None).unwrap().experts(), ["birch"]);
        let both = format!("{ROUTER}{own}{}", model("second", "{expertRouterRef: {name: chat}}"));
        assert_eq!(spec(&both, Some("second")).unwrap().experts(), ["atlas"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let lost = model("m", "{expertRouterRef: {name: elsewhere}}");
        let two = format!("{lost}{}", model("second", "{expertRouterRef: {name: chat}}"));
        for (yaml, name, problem) in [
            (ROUTER.to_owned(), None, "expected one RouterModel, found none"),
            (two.clone(), None, "expected one RouterModel, found m, second"),
            (two, Some("o"), "expected one RouterModel o, found m, second"),
            (lost, None, "there is no ExpertRouter elsewhere"),
        ] {
            let error = format!("{:#}", spec(&yaml, name).unwrap_err());
            assert!(error.contains(problem), "{error}");
        }
    }
}
