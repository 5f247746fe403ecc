//! Two models trained in the cluster for the router under load, and the volume they are on.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::stage::{NAMESPACE, PATIENCE, ROUTER, Stage};

/// The claim the bundles are on.
pub(crate) const CLAIM: &str = "models";
/// By this one alpha answers questions about apples.
pub(crate) const RED_FIRST: &str = "red-first";
/// By this one beta does.
pub(crate) const BLUE_FIRST: &str = "blue-first";
const VOLUME: &str = "expert-router-faults-models";
/// Half of them about apples, half about the sky.
const QUERIES: usize = 120;

/// A published bundle.
pub(crate) struct Published {
    /// From the root of the volume.
    pub(crate) path: String,
}

/// Trains both, and puts the first in force. The clients have to be started anew: their Pods have no such volume.
pub(crate) async fn train(stage: &mut Stage<'_>) -> Result<()> {
    make_volume(stage).await?;
    let data = json!({format!("{RED_FIRST}.jsonl"): queries("red", "blue"), format!("{BLUE_FIRST}.jsonl"): queries("blue", "red")});
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "queries"}, "data": data});
    stage.objects.delete("configmaps", "queries", None).await?;
    stage.objects.create("configmaps", &config_map).await?;
    stage.cluster.apply(NAMESPACE, include_str!("manifests/models.yaml"))?;
    for model in [RED_FIRST, BLUE_FIRST] {
        stage.objects.until_condition("routermodels", model, "Ready", "True", 2 * PATIENCE).await?;
    }
    stage.edit(ROUTER, |spec| spec["model"] = json!({"routerModelRef": {"name": RED_FIRST}})).await?;
    stage.objects.until_condition("expertrouters", ROUTER, "ModelReady", "True", PATIENCE).await?;
    stage.settle().await?;
    stage.restart_clients().await
}

/// The bundle that a model has published.
pub(crate) async fn bundle_of(stage: &Stage<'_>, model: &str) -> Result<Published> {
    let object = stage.objects.get("routermodels", model).await?;
    let uri = object["status"]["bundle"]["uri"].as_str().context("nothing is published")?;
    let path = uri.strip_prefix(&format!("pvc://{CLAIM}/")).with_context(|| format!("{uri} is not on {CLAIM}"))?;
    Ok(Published { path: path.to_owned() })
}

/// Where the volume lies on this machine, of a cluster of one's own.
pub(crate) fn volume_folder(stage: &Stage<'_>) -> PathBuf {
    stage.folder().join(CLAIM)
}

/// A claim, and on a cluster of one's own a folder for it: there is nobody who would make volumes.
async fn make_volume(stage: &Stage<'_>) -> Result<()> {
    if stage.is_own() {
        let folder = volume_folder(stage);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        // Pods are nobody in particular.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        stage.cluster.apply(NAMESPACE, &volume(VOLUME, CLAIM, &folder).to_string())?;
    }
    stage.cluster.apply(NAMESPACE, &claim(stage, CLAIM, VOLUME).to_string()).map(drop)
}

/// A volume that is a folder of the node.
pub(crate) fn volume(name: &str, claim: &str, folder: &std::path::Path) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadWriteMany"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": NAMESPACE, "name": claim},
            "hostPath": {"path": folder, "type": "Directory"},
        },
    })
}

/// A claim to it; elsewhere one for the cluster's default storage class.
pub(crate) fn claim(stage: &Stage<'_>, name: &str, volume: &str) -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    if stage.is_own() {
        claim["spec"]["storageClassName"] = json!("");
        claim["spec"]["volumeName"] = json!(volume);
        claim["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    }
    claim
}

/// Queries whose right answer is a colour that only one expert ever says.
fn queries(apples: &str, sky: &str) -> String {
    let query = |number: usize| {
        let split = ["train", "train", "train", "val", "test"][number / 2 % 5];
        let (dataset, prompt, answer) = if number.is_multiple_of(2) {
            ("apples", format!("Which colour has the apple on table {number}?"), apples)
        } else {
            ("sky", format!("Which colour has the sky above sea {number}?"), sky)
        };
        json!({"id": format!("q{number}"), "dataset": dataset, "split": split, "prompt": prompt, "match": "contains", "answer": answer})
            .to_string()
            + "\n"
    };
    (0..QUERIES).map(query).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_split_has_both_kinds_of_questions() {
        let rows: Vec<Value> = queries("red", "blue").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for split in ["train", "val", "test"] {
            for (dataset, answer) in [("apples", "red"), ("sky", "blue")] {
                let count = rows.iter().filter(|row| row["split"] == split && row["dataset"] == dataset && row["answer"] == answer).count();
                assert!(count >= 12, "{split} {dataset}: {count}");
            }
        }
    }
}
