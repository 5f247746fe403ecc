//! What the loop left standing is tried: who may do what, how soon a change decides requests, what is lost when things break, and what a
//! long load does.

use anyhow::{Context, Result, bail};

use crate::{
    cluster::Cluster,
    faults,
    images::Images,
    install::{self, RELEASE, SYSTEM},
    live,
    options::{Options, Part},
    privilege,
    report::Report,
    soak,
    stage::{NAMESPACE, Stage},
    trained,
    whole_loop::Installed,
};

/// What there is where the loop was left out: an operator, and nothing to route.
pub(crate) async fn without_loop(cluster: &Cluster, options: &Options) -> Result<Installed> {
    install::install(cluster, options).await?;
    Ok(Installed { namespace: None, system: SYSTEM, release: RELEASE, images: Images::of(options) })
}

/// Tries whatever is asked for, one after the other, and goes on where something is not as expected.
///
/// # Errors
/// Something was not; the report says what.
pub(crate) async fn run(cluster: &Cluster, installed: &Installed, options: &Options, report: &mut Report) -> Result<()> {
    if [Part::Privilege, Part::Live, Part::Faults, Part::Soak].into_iter().any(|part| options.asks_for(part)) {
        let mut stage = Stage::set(cluster, installed, options).await.context("setting up routers and clients")?;
        if let Err(error) = all(&mut stage, report).await {
            report.fail(format!("{error:#}"));
        }
    }
    match report.failures().len() {
        0 => Ok(()),
        count => bail!("{count} things were not as expected: see the report"),
    }
}

async fn all(stage: &mut Stage<'_>, report: &mut Report) -> Result<()> {
    let options = stage.options;
    if options.asks_for(Part::Live) {
        live::without_model(stage, report).await;
    }
    trained::train(stage).await.context("training two models")?;
    if options.asks_for(Part::Live) {
        live::with_model(stage, report).await;
    }
    if options.asks_for(Part::Privilege) {
        let mut namespaces = vec![NAMESPACE];
        namespaces.extend(stage.installed.namespace);
        privilege::run(stage.cluster, stage.installed, &namespaces, report).await.context("least privilege")?;
    }
    if options.asks_for(Part::Faults) {
        faults::run(stage, report).await;
    }
    if options.asks_for(Part::Soak) {
        soak::run(stage, report).await;
    }
    for trouble in never(stage.troubles().into_keys().chain(stage.operator_logs.troubles().into_keys())) {
        report.fail(format!("a log says: {trouble}"));
    }
    stage.rest().await
}

/// What no log may ever say, whatever is broken.
fn never(troubles: impl Iterator<Item = String>) -> Vec<String> {
    troubles.filter(|trouble| trouble.contains("panicked") || trouble.to_ascii_lowercase().contains("telemetry")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_telemetry_are_never_fine() {
        let said = ["WARN the grace ended first", "thread 'serve' panicked at x.rs:1", "WARN No CA bundle; Telemetry uploads"];
        assert_eq!(never(said.map(str::to_owned).into_iter()), said[1..]);
    }
}
