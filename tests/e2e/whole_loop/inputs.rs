//! What a person would apply: two manifests, the queries, the volume for bundles; and the expert that plays the one elsewhere.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{CLOUD, NAMESPACE};
use crate::{cluster::Cluster, images::Images, objects::Objects, options::Kind};

/// Kinds of queries asked: each is one local expert's strength, but the last, which is nobody's here.
const DATASETS: [&str; 4] = ["capitals", "continents", "tenses", "sums"];
/// Queries of each kind, by split: few, for each is asked of every expert on a busy machine.
const SPLITS: [(&str, usize); 3] = [("train", 10), ("val", 5), ("test", 6)];
/// The demo's expert whose recorded answers the one elsewhere gives, as manifests/cloud.yaml says.
const RECORDED: &str = "broad";
const CLAIM: &str = "router-models";
const VOLUME: &str = "expert-router-e2e-models";
/// What the expert elsewhere asks for. It opens nothing else.
const KEY: &str = "key-of-the-recorded-expert";

/// The queries of a run.
pub(super) struct Inputs {
    queries: Vec<Value>,
}

impl Inputs {
    /// A part of the demo's.
    pub(super) fn read() -> Result<Self> {
        let path = ::tests::workspace().join("demo/queries.jsonl");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let all: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("reading the demo's queries")?;
        Ok(Self { queries: few_of(&all) })
    }

    /// Applies everything; the ExpertRouter as the API server has it.
    pub(super) async fn apply(&self, cluster: &Cluster, objects: &Objects, images: &Images) -> Result<Value> {
        objects.restricted().await?;
        volume(cluster)?;
        let recording = ::tests::workspace().join("demo/outcomes.jsonl.gz");
        let file = format!("--from-file=outcomes.jsonl.gz={}", recording.display());
        cluster.kubectl(&["create", "configmap", "cloud-recording", "--namespace", NAMESPACE, &file])?;
        cluster.kubectl(&["create", "secret", "generic", CLOUD, "--namespace", NAMESPACE, &format!("--from-literal=apiKey={KEY}")])?;
        cluster.apply(NAMESPACE, &include_str!("../manifests/cloud.yaml").replace("REPLAY", &images.replay))?;
        let lines: String = self.queries.iter().map(|query| format!("{query}\n")).collect();
        let queries =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chat-queries"}, "data": {"queries.jsonl": lines}});
        cluster.apply(NAMESPACE, &queries.to_string())?;
        let manifests = include_str!("../manifests/chat.yaml").replace("LLM", &images.llm).replace("NAMESPACE", NAMESPACE);
        let manifests = manifests.replace("RECORDED_WITH", &recorded_with()?.to_string());
        cluster.apply(NAMESPACE, &manifests)?;
        objects.get("expertrouters", super::NAME).await
    }

    /// Those that nothing was trained or chosen by.
    pub(super) fn test_prompts(&self) -> Vec<String> {
        let of_test = self.queries.iter().filter(|query| query["split"] == "test");
        of_test.filter_map(|query| query["prompt"].as_str().map(str::to_owned)).collect()
    }
}

/// What stood before each question that the recorded expert answered.
fn recorded_with() -> Result<Value> {
    let path = ::tests::workspace().join("demo/router.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let objects = api::read_objects(&text).context("the demo's manifest")?;
    let mut experts = objects.routers.iter().flat_map(|router| &router.spec.experts);
    let recorded = experts.find(|expert| expert.name == RECORDED).with_context(|| format!("the demo has no expert {RECORDED}"))?;
    serde_json::to_value(&recorded.prepend_messages).context("messages as JSON")
}

fn few_of(all: &[Value]) -> Vec<Value> {
    let cells = DATASETS.iter().flat_map(|dataset| SPLITS.iter().map(move |(split, count)| (*dataset, *split, *count)));
    let few = cells.flat_map(|(dataset, split, count)| {
        all.iter().filter(move |query| query["dataset"] == dataset && query["split"] == split).take(count).cloned()
    });
    few.collect()
}

/// The claim for bundles. Of a cluster of one's own it is a folder that both nodes have: they are one machine, and nobody makes volumes.
fn volume(cluster: &Cluster) -> Result<()> {
    let own = cluster.kind() == Kind::Own;
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    if own {
        let folder = cluster.folder.join("volumes").join(CLAIM);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        // Pods are nobody in particular.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).with_context(|| format!("opening {}", folder.display()))?;
        cluster.apply(NAMESPACE, &persistent_volume(&folder).to_string())?;
        claim["spec"]["accessModes"] = json!(["ReadWriteMany"]);
        claim["spec"]["storageClassName"] = json!("");
        claim["spec"]["volumeName"] = json!(VOLUME);
    }
    cluster.apply(NAMESPACE, &claim.to_string()).map(drop)
}

fn persistent_volume(folder: &Path) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": VOLUME},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": NAMESPACE, "name": CLAIM},
            "hostPath": {"path": folder, "type": "Directory"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_every_split() {
        let inputs = Inputs::read().unwrap();
        for dataset in DATASETS {
            for (split, count) in SPLITS {
                let found = inputs.queries.iter().filter(|query| query["dataset"] == dataset && query["split"] == split).count();
                assert_eq!(found, count, "{dataset} {split}");
            }
        }
        assert_eq!(inputs.test_prompts().len(), 24);
    }
}
