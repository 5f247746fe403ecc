//! Changes that come while nobody looks, that are broken, or that come twice.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::crash::priced;
use crate::{
    load::probe::Wanted,
    objects::{name_of, selector_of},
    stage::{APPLES, NAMESPACE, PATIENCE, ROUTER, Stage},
    trained,
};

/// Time for a change to be in force that is not to be.
const SOON: Duration = Duration::from_secs(4);

/// The old price stays in force while the operator is away; the new one is, once it is back.
pub(super) async fn operator_away(stage: &Stage<'_>) -> Result<String> {
    let replicas = stage.scale_operator(0).await?;
    let changed = async {
        stage.price(0, "0.0013").await?;
        if stage.outside.until_seen(&priced("0.0013"), SOON).await.is_ok() {
            bail!("a price was in force though no operator was there");
        }
        Ok(())
    };
    let changed = changed.await;
    stage.scale_operator(replicas).await?;
    let began = Instant::now();
    for client in stage.clients() {
        client.until_seen(&priced("0.0013"), PATIENCE).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    stage.until_priced("0.001").await?;
    changed?;
    Ok(format!("in force {seconds:.0} s after the operator's Pods were there again"))
}

/// Somebody breaks the snapshot while the operator is away: what was in force stays, and the proxies say so; the operator mends it.
pub(super) async fn bad_snapshot(stage: &Stage<'_>) -> Result<String> {
    let replicas = stage.scale_operator(0).await?;
    let broken = async {
        let name = format!("{ROUTER}-snapshot");
        stage.objects.merge("configmaps", &name, &json!({"data": {"snapshot.json": "{\"formatVersion\": 1, \"experts\": ["}})).await?;
        stage.refresh(ROUTER, "broken").await?;
        let stale = stage.until_stale(ROUTER, true).await?;
        tokio::time::sleep(SOON).await;
        Ok::<_, anyhow::Error>(stale)
    };
    let broken = broken.await;
    stage.scale_operator(replicas).await?;
    // What it has seen last it takes for what is there: only its own look at all objects tells it otherwise.
    stage.until_stale(ROUTER, false).await.context("the operator did not mend it")?;
    Ok(format!("{} proxies said so, and the operator mended it", broken?))
}

/// A bundle whose graph is cut off: the one in force stays in force.
pub(super) async fn bad_bundle(stage: &Stage<'_>) -> Result<String> {
    let model = stage.objects.get("expertrouters", ROUTER).await?["spec"]["model"].clone();
    if model.is_null() {
        bail!("there is no model that could stay in force");
    }
    let good = trained::bundle_of(stage, trained::RED_FIRST).await?;
    let folder = trained::volume_folder(stage);
    break_copy(&folder.join(good.path.trim_matches('/')), &folder.join("broken/bundle"))?;
    let claim = json!({"name": trained::CLAIM, "path": "broken/bundle"});
    stage.edit(ROUTER, |spec| spec["model"] = json!({"bundle": {"persistentVolumeClaim": claim}, "routerModelRef": null})).await?;
    let stale = stage.until_stale(ROUTER, true).await;
    let still = Wanted {
        expert: "alpha".into(),
        reason: "quality".into(),
        model: "auto".into(),
        prompt: APPLES.into(),
        every_ms: 50,
        ..Wanted::default()
    };
    let mut decided = Ok(0);
    for client in stage.clients() {
        decided = decided.and(client.until_seen(&still, SOON).await);
    }
    stage.edit(ROUTER, |spec| spec["model"] = json!({"bundle": null, "routerModelRef": model["routerModelRef"]})).await?;
    stage.until_stale(ROUTER, false).await?;
    decided.context("the model in force was lost")?;
    Ok(format!("{} proxies said so, and went on with the one before", stale?))
}

fn break_copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let mut bytes = fs::read(entry.path())?;
        if entry.file_name() == "router.onnx" {
            bytes.truncate(bytes.len() / 2);
        }
        fs::write(to.join(entry.file_name()), bytes)?;
    }
    Ok(())
}

/// The Secret is gone: a certificate is made anew, and all the while Pods are injected.
pub(super) async fn certificate_rotated(stage: &Stage<'_>) -> Result<String> {
    let name = format!("{}-webhook", stage.installed.release);
    let before = stage.system.get("secrets", &name).await?["data"]["tls.crt"].clone();
    stage.system.delete("secrets", &name, None).await?;
    let began = Instant::now();
    let (mut asked, mut seconds) = (0, None);
    // For some time after it is there, too: replicas read it one after the other.
    while seconds.is_none_or(|seconds| began.elapsed().as_secs() < seconds + 65) {
        asked += 1;
        if !is_injected(stage, asked).await? {
            bail!("Pod {asked} was not injected, {:.0} s after the certificate went", began.elapsed().as_secs_f64());
        }
        let now = stage.system.find("secrets", &name).await?;
        if seconds.is_none() && now.is_some_and(|secret| secret["data"]["tls.crt"] != before) {
            seconds = Some(began.elapsed().as_secs());
        }
        if began.elapsed() > PATIENCE {
            bail!("no new certificate in {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(format!("a new one after {} s; {asked} Pods injected meanwhile and after", seconds.unwrap_or_default()))
}

/// A Pod as it would be made, without making it.
async fn is_injected(stage: &Stage<'_>, number: u32) -> Result<bool> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("tried-{number}"), "labels": {"expertrouter.dev/inject": ROUTER}},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "app", "image": stage.installed.images.e2e,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        },
    });
    let path = format!("{}?dryRun=All", stage.objects.path("pods", ""));
    let made = stage.objects.call(Method::POST, &path, Some(("application/json", &pod))).await?;
    Ok(made["spec"]["initContainers"][0]["name"] == "expert-router")
}

/// The second comes while the first is still being rolled out.
pub(super) async fn chart_upgraded(stage: &Stage<'_>) -> Result<String> {
    for round in ["one", "two"] {
        let annotation = format!("operator.podAnnotations.upgraded={round}");
        let arguments = [
            "upgrade",
            stage.installed.release,
            "charts/expert-router",
            "--namespace",
            stage.installed.system,
            "--reuse-values",
            "--set-string",
            &annotation,
        ];
        stage.cluster.helm(&arguments)?;
    }
    stage.system.until_rolled_out(stage.installed.release, PATIENCE).await?;
    let operator = stage.system.get("apps/v1/deployments", stage.installed.release).await?;
    if operator["spec"]["template"]["metadata"]["annotations"]["upgraded"] != "two" {
        bail!("the second upgrade is not what runs");
    }
    stage.until_priced("0.0012").await?;
    stage.until_priced("0.001").await?;
    Ok("a price changed after that was in force".into())
}

impl Stage<'_> {
    /// So many replicas of the operator; how many there were. Waits until it is so.
    pub(super) async fn scale_operator(&self, replicas: u64) -> Result<u64> {
        let name = self.installed.release;
        let operator = self.system.get("apps/v1/deployments", name).await?;
        let before = operator["spec"]["replicas"].as_u64().unwrap_or(1);
        self.system.merge("apps/v1/deployments", name, &json!({"spec": {"replicas": replicas}})).await?;
        self.system.until_rolled_out(name, PATIENCE).await?;
        self.system.until_none_ends(&selector_of(&operator), PATIENCE).await?;
        Ok(before)
    }

    /// Pods that carry a router's data plane.
    pub(crate) async fn data_plane(&self, router: &str) -> Result<Vec<Value>> {
        let pods =
            self.objects.list("pods", &format!("expertrouter.dev/router={router},expertrouter.dev/role%20in%20(gateway,sidecar)")).await?;
        Ok(pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect())
    }

    /// Makes kubelets look at what Pods mount, as the operator does.
    async fn refresh(&self, router: &str, mark: &str) -> Result<()> {
        for pod in self.data_plane(router).await? {
            self.objects.merge("pods", &name_of(&pod), &json!({"metadata": {"annotations": {"e2e/refresh": mark}}})).await?;
        }
        Ok(())
    }

    /// Waits until every proxy says that it has, or has not, a newer configuration that cannot be used; how many there are.
    async fn until_stale(&self, router: &str, stale: bool) -> Result<usize> {
        let began = Instant::now();
        loop {
            let pods = self.data_plane(router).await?;
            let mut as_wanted = 0;
            for pod in &pods {
                let page = self.admin(pod, "metrics").await.unwrap_or_default();
                as_wanted += usize::from(sample(&page, "expert_router_config_stale").is_some_and(|value| (value > 0.0) == stale));
            }
            if as_wanted == pods.len() {
                return Ok(as_wanted);
            }
            if began.elapsed() > PATIENCE {
                bail!("{as_wanted} of {} proxies said that their configuration is {}stale", pods.len(), if stale { "" } else { "not " });
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// The sum of a metric over the proxies of a router.
    pub(super) async fn metric(&self, router: &str, name: &str) -> Result<f64> {
        let mut sum = 0.0;
        for pod in self.data_plane(router).await? {
            sum += sample(&self.admin(&pod, "metrics").await?, name).unwrap_or_default();
        }
        Ok(sum)
    }

    /// A page of a proxy's admin port.
    pub(crate) async fn admin(&self, pod: &Value, page: &str) -> Result<String> {
        let port = if pod["metadata"]["labels"]["expertrouter.dev/role"] == "sidecar" { 15_090 } else { 9_090 };
        self.cluster.pod_proxy_get(NAMESPACE, &name_of(pod), port, page).await
    }
}

/// The sum of the samples of that name on a page of Prometheus' text; `None` where there is none.
pub(crate) fn sample(page: &str, name: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    page.lines().filter_map(value).reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_by_its_whole_name() {
        let page = "# HELP a x\na{router=\"r\"} 2\na{router=\"s\"} 3\nab 7\nb 1\n";
        assert_eq!((sample(page, "a"), sample(page, "b"), sample(page, "c")), (Some(5.0), Some(1.0), None));
    }
}
