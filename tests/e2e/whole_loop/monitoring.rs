//! A Prometheus in the cluster that scrapes what the PodMonitors select. There is no Prometheus operator: what it would make of a
//! PodMonitor is made here, from the object's own selectors.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{MONITORING, NAMESPACE, SYSTEM, accounts::Account};
use crate::{cluster::Cluster, images::Images, objects::Objects};

const PORT: u16 = 9090;
const MONITORS: &str = "monitoring.coreos.com/v1/podmonitors";
/// A scrape, and what is on its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Prometheus.
pub(super) struct Prometheus<'a> {
    cluster: &'a Cluster,
    pod: String,
}

impl<'a> Prometheus<'a> {
    /// Starts it, and waits until it scrapes the gateway.
    pub(super) async fn start(cluster: &'a Cluster, objects: &Objects, images: &Images) -> Result<Self> {
        let own = objects.of(MONITORING);
        own.restricted().await?;
        let mut configs = Vec::new();
        for namespace in [NAMESPACE, SYSTEM] {
            let monitors = objects.of(namespace).list(MONITORS, "").await?;
            let [monitor] = monitors.as_slice() else { bail!("{namespace} has {} PodMonitors, not one", monitors.len()) };
            configs.extend(scrape_configs(monitor)?);
            cluster.apply(namespace, &rights().to_string())?;
        }
        let config = json!({"global": {"scrape_interval": "2s"}, "scrape_configs": configs});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"}, "data": {"prometheus.yaml": config.to_string()}});
        cluster.apply(MONITORING, &map.to_string())?;
        cluster.apply(MONITORING, &include_str!("../manifests/prometheus.yaml").replace("PROMETHEUS", &images.prometheus))?;
        own.until_rolled_out("prometheus", 3 * PATIENCE).await?;
        let pods = own.list("pods", "app=prometheus").await?;
        let pod = pods.first().map(crate::objects::name_of).context("Prometheus has a Pod")?;
        let prometheus = Self { cluster, pod };
        prometheus.until("up{expertrouter_dev_role=\"gateway\"}", |up| up >= 2.0).await?;
        prometheus.until("up{job=\"expert-router-system/expert-router\"}", |up| up >= 1.0).await.context("the operator is scraped")?;
        Ok(prometheus)
    }

    /// Waits until it has seen so many answers, and tells what they cost and saved.
    pub(super) async fn until_it_saw(&self, answers: u64) -> Result<Account> {
        let requests = "sum(expert_router_requests_total{outcome=\"ok\"})";
        self.until("expert_router_requests_total", |_| true).await?;
        let seen = self.until(requests, |seen| seen >= answers as f64).await?;
        Ok(Account {
            requests: seen as u64,
            cost_usd: self.ask("sum(expert_router_cost_usd_total)").await?.context("costs were scraped")?,
            savings_usd: self.ask("sum(expert_router_savings_usd)").await?.context("savings were scraped")?,
        })
    }

    async fn until(&self, query: &str, holds: impl Fn(f64) -> bool) -> Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(query).await?;
            match answer {
                Some(value) if holds(value) => return Ok(value),
                _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(500)).await,
                _ => bail!("not in {PATIENCE:?}: {query} is {answer:?}"),
            }
        }
    }

    /// The sum of what it says now; `None` where it knows nothing of it.
    async fn ask(&self, query: &str) -> Result<Option<f64>> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let text = self.cluster.pod_proxy_get(MONITORING, &self.pod, PORT, &format!("api/v1/query?query={query}")).await?;
        let answer: Value = serde_json::from_str(&text).context("Prometheus answers with JSON")?;
        let samples = answer["data"]["result"].as_array().context("Prometheus answers with samples")?;
        let values = samples.iter().filter_map(|sample| sample["value"][1].as_str()?.parse::<f64>().ok());
        Ok((!samples.is_empty()).then(|| values.sum()))
    }
}

/// What Prometheus' operator makes of a PodMonitor: Pods of its namespace that bear the labels, their port of that name.
fn scrape_configs(monitor: &Value) -> Result<Vec<Value>> {
    let (namespace, name) = (&monitor["metadata"]["namespace"], &monitor["metadata"]["name"]);
    let spec = &monitor["spec"];
    let plain = |name: &str| name.replace(['.', '/', '-'], "_");
    let label = |name: &str| format!("__meta_kubernetes_pod_label_{}", plain(name));
    let keep = |source: String, pattern: String| json!({"source_labels": [source], "regex": pattern, "action": "keep"});
    let mut relabel = Vec::new();
    for (key, value) in spec["selector"]["matchLabels"].as_object().into_iter().flatten() {
        relabel.push(keep(label(key), literal(value.as_str().context("a label's value")?)));
    }
    for expression in spec["selector"]["matchExpressions"].as_array().into_iter().flatten() {
        let (key, operator) = (expression["key"].as_str().context("a key")?, expression["operator"].as_str().context("an operator")?);
        if operator != "In" {
            bail!("operator {operator} of a PodMonitor is not known here");
        }
        let values = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).map(literal);
        relabel.push(keep(label(key), values.collect::<Vec<_>>().join("|")));
    }
    for carried in spec["podTargetLabels"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        relabel.push(json!({"source_labels": [label(carried)], "target_label": plain(carried)}));
    }
    relabel.push(json!({"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"}));
    relabel.push(json!({"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"}));
    let endpoints = spec["podMetricsEndpoints"].as_array().context("a PodMonitor has endpoints")?;
    let config = |endpoint: &Value| {
        let port = endpoint["port"].as_str().context("an endpoint names its port")?;
        let mut relabel = relabel.clone();
        relabel.push(keep("__meta_kubernetes_pod_container_port_name".into(), literal(port)));
        Ok(json!({
            "job_name": format!("{}/{}", namespace.as_str().unwrap_or_default(), name.as_str().unwrap_or_default()),
            "metrics_path": endpoint["path"].as_str().unwrap_or("/metrics"),
            "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}],
            "relabel_configs": relabel,
        }))
    };
    endpoints.iter().map(config).collect()
}

/// A pattern that only this text fits. Label values have no other letters that mean something.
fn literal(text: &str) -> String {
    text.replace('.', "\\.")
}

/// To see Pods, in one namespace.
fn rights() -> Value {
    let metadata = json!({"name": "expert-router-e2e-prometheus"});
    let group = "rbac.authorization.k8s.io";
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": metadata["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": MONITORING}],
        },
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_s_selectors_become_rules_of_relabelling() {
        let monitor = json!({
            "metadata": {"namespace": "n", "name": "m"},
            "spec": {
                "selector": {
                    "matchLabels": {"expertrouter.dev/router": "a.b"},
                    "matchExpressions": [{"key": "expertrouter.dev/role", "operator": "In", "values": ["gateway", "sidecar"]}],
                },
                "podTargetLabels": ["expertrouter.dev/role"],
                "podMetricsEndpoints": [{"port": "admin", "path": "/metrics"}],
            },
        });
        let configs = scrape_configs(&monitor).unwrap();
        let rules = configs[0]["relabel_configs"].as_array().unwrap();
        let has = |rule: Value| assert!(rules.contains(&rule), "{rule} is not among {rules:#?}");
        has(json!({"source_labels": ["__meta_kubernetes_pod_label_expertrouter_dev_router"], "regex": "a\\.b", "action": "keep"}));
        has(json!({"source_labels": ["__meta_kubernetes_pod_label_expertrouter_dev_role"], "regex": "gateway|sidecar", "action": "keep"}));
        has(json!({"source_labels": ["__meta_kubernetes_pod_label_expertrouter_dev_role"], "target_label": "expertrouter_dev_role"}));
        has(json!({"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "admin", "action": "keep"}));
        assert_eq!(configs[0]["kubernetes_sd_configs"][0]["namespaces"]["names"], json!(["n"]));
    }
}
