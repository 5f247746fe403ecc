//! Experts that end, do badly, or want another key; and a conversation that is forgotten.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{
    load::probe::Wanted,
    objects::name_of,
    stage::{APPLES, FRAIL, PATIENCE, ROUTER, SKY, Stage},
};

const EXPERTS: [&str; 2] = ["alpha", "beta"];
/// A whole round of the script takes fourteen requests.
const SCRIPT: Duration = Duration::from_secs(20);
/// A conversation is forgotten after so long in the test.
const TTL_SECONDS: u64 = 4;

fn deployment(expert: usize) -> String {
    format!("{ROUTER}-expert-{}", EXPERTS[expert % EXPERTS.len()])
}

pub(super) async fn restarted(stage: &Stage<'_>, expert: usize) -> Result<String> {
    stage.objects.restart(&deployment(expert), PATIENCE).await?;
    Ok(String::new())
}

/// Without a word of warning: no time to end, no leave from any budget.
pub(super) async fn killed(stage: &Stage<'_>) -> Result<String> {
    let mut killed = 0;
    for (number, expert) in EXPERTS.into_iter().enumerate() {
        let labels = format!("expertrouter.dev/router={ROUTER},expertrouter.dev/expert={expert}");
        let pods = stage.objects.list("pods", &labels).await?;
        let pod = pods.first().with_context(|| format!("{expert} has no Pod"))?;
        stage.objects.delete("pods", &name_of(pod), Some(0)).await?;
        killed += 1;
        // The Deployment hears of it a moment later: until another Pod is there, it is not whole again.
        let began = std::time::Instant::now();
        let is_new = |other: &serde_json::Value| pods.iter().all(|pod| name_of(pod) != name_of(other));
        while !stage.objects.list("pods", &labels).await?.iter().any(is_new) {
            if began.elapsed() > PATIENCE {
                bail!("no Pod came in the place of the one that was killed");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        stage.objects.until_rolled_out(&deployment(number), PATIENCE).await?;
    }
    Ok(format!("{killed} killed"))
}

/// Nothing to do but to let the script go round: both clients call its gateway.
pub(super) async fn upstream_faults(_stage: &Stage<'_>) -> Result<String> {
    tokio::time::sleep(SCRIPT).await;
    Ok(String::new())
}

/// Who is asked first by the router whose experts do badly. In force a moment later.
pub(super) async fn ask_first(stage: &Stage<'_>, expert: &str) -> Result<()> {
    stage.edit(FRAIL, |spec| spec["policy"]["fallbackExpert"] = json!(expert)).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

/// The provider takes the new key beside the old, the router is given the new one, the provider drops the old.
pub(super) async fn secret_rotated(stage: &Stage<'_>) -> Result<String> {
    let (old, new) = ("first-key", "second-key");
    provider_takes(stage, &format!("{old}\n{new}\n")).await?;
    let reloads = stage.metric(FRAIL, "expert_router_config_reloads_total").await?;
    let began = std::time::Instant::now();
    stage.objects.merge("secrets", "keyed-token", &json!({"stringData": {"token": new}})).await?;
    while stage.metric(FRAIL, "expert_router_config_reloads_total").await? <= reloads {
        if began.elapsed() > PATIENCE {
            bail!("the proxy did not read the new key in {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    provider_takes(stage, &format!("{new}\n")).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Back to where it was, for another round.
    provider_takes(stage, &format!("{old}\n{new}\n")).await?;
    Ok(format!("the new key was in use {seconds:.0} s after the Secret changed"))
}

async fn provider_takes(stage: &Stage<'_>, keys: &str) -> Result<()> {
    stage.objects.merge("secrets", "provider-keys", &json!({"stringData": {"keys": keys}})).await?;
    stage.objects.restart("provider", PATIENCE).await
}

/// While it lasts it keeps its expert, also for what another one answers better; then it is decided anew.
pub(super) async fn session_forgotten(stage: &Stage<'_>) -> Result<String> {
    // No gain is worth a change: what is left is the conversation's end.
    stage.edit(ROUTER, |spec| spec["session"] = json!({"ttlSeconds": TTL_SECONDS, "switchGain": "5"})).await?;
    let kept = kept_and_forgotten(stage).await;
    stage.edit(ROUTER, |spec| spec["session"] = json!(null)).await?;
    kept
}

async fn kept_and_forgotten(stage: &Stage<'_>) -> Result<String> {
    let client = &stage.inside;
    let ask = |session: &str, prompt: &str, expert: &str, reason: &str| Wanted {
        expert: expert.into(),
        reason: reason.into(),
        model: "auto".into(),
        prompt: prompt.into(),
        headers: vec![("x-expert-router-session".into(), session.into())],
        every_ms: 200,
        ..Wanted::default()
    };
    let short = Duration::from_secs(3);
    // The setting is in force once a conversation is kept. Asking does not let it be forgotten.
    client.until_seen(&ask("setting", SKY, "", "session"), PATIENCE).await.context("no conversation is kept")?;
    client.until_seen(&ask("talk", APPLES, "alpha", "quality"), short).await.context("the first question")?;
    client.until_seen(&ask("talk", SKY, "alpha", "session"), short).await.context("the second question, at once")?;
    tokio::time::sleep(Duration::from_secs(TTL_SECONDS + 1)).await;
    client.until_seen(&ask("talk", SKY, "beta", "quality"), short).await.context("the third question, later")?;
    if client.progress().await?.asked != 1 {
        bail!("the conversation was forgotten only after some questions");
    }
    Ok(format!("kept for {TTL_SECONDS} s, then decided anew"))
}
