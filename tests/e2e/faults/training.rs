//! Jobs and experts that have too little: memory, or room on a disk. Requests go on all the while, and the conditions say what is wrong.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    cluster::said,
    stage::{NAMESPACE, PATIENCE, ROUTER, Stage},
    trained::{CLAIM, claim, volume},
};

/// Too little to train, as a rule even to ask.
const TINY: &str = "6Mi";
/// Room for a model that is larger.
const DISK: &str = "size=8m,mode=0777";
/// Mebibytes of that model.
const MODEL: u32 = 32;
const CACHE: &str = "model-cache";

/// A condition tells why, long before Kubernetes gives up; with more memory it goes on.
pub(super) async fn out_of_memory(stage: &Stage<'_>) -> Result<String> {
    let model = json!({
        "apiVersion": "expertrouter.dev/v1alpha1", "kind": "RouterModel", "metadata": {"name": "starved"},
        "spec": {
            "experts": {"expertRouterRef": {"name": ROUTER}},
            "queries": {"configMapRef": {"name": "queries", "key": "red-first.jsonl"}},
            "scoring": {"metric": "Match"}, "router": {"type": "Lexical"},
            "job": {"resources": {"requests": {"cpu": "50m", "memory": TINY}, "limits": {"memory": TINY}}},
            "output": {"persistentVolumeClaim": {"name": CLAIM}},
        },
    });
    stage.objects.delete("routermodels", "starved", None).await?;
    stage.objects.create("routermodels", &model).await?;
    let conditions = |object: &Value| object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let told = |object: &Value| {
        conditions(object).iter().any(|condition| {
            condition["status"] != "True" && condition["message"].as_str().is_some_and(|message| message.contains("OOMKilled"))
        })
    };
    let began = Instant::now();
    let object = stage.objects.until("routermodels", "starved", PATIENCE, "says OOMKilled", told).await;
    let seconds = began.elapsed().as_secs();
    let enough = json!({"spec": {"job": {"resources": {"requests": {"memory": "128Mi"}, "limits": {"memory": "1Gi"}}}}});
    stage.objects.merge("routermodels", "starved", &enough).await?;
    let trained = stage.objects.until_condition("routermodels", "starved", "Trained", "True", PATIENCE).await;
    stage.objects.delete("routermodels", "starved", None).await?;
    object?;
    trained.context("with more memory it did not go on")?;
    Ok(format!("a condition said OOMKilled after {seconds} s; with more memory it went on"))
}

/// An expert that cannot fetch its model is not ready, and others answer; with room it comes.
pub(super) async fn model_cache_full(stage: &Stage<'_>) -> Result<String> {
    let folder = stage.folder().join(CACHE);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.to_string_lossy().into_owned();
    said(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "none", &path]), None)?;
    let done = with_cache(stage, &folder).await;
    let removed = stage.edit(ROUTER, |spec| {
        if let Some(experts) = spec["experts"].as_array_mut() {
            experts.retain(|expert| expert["name"] != "hoarder");
        }
    });
    removed.await?;
    stage.objects.until_none_ends("expertrouter.dev/expert=hoarder", PATIENCE).await?;
    // Kubelets may still hold it; the mount goes with the namespace it is in.
    let _ = said(Command::new("umount").args(["--lazy", &path]), None);
    done
}

async fn with_cache(stage: &Stage<'_>, folder: &Path) -> Result<String> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    let name = format!("expert-router-faults-{CACHE}");
    stage.cluster.apply(NAMESPACE, &volume(&name, CACHE, folder).to_string())?;
    stage.cluster.apply(NAMESPACE, &claim(stage, CACHE, &name).to_string())?;
    let megabytes = MODEL.to_string();
    let hoarder = json!({
        "name": "hoarder", "modelName": "hoarder", "pricing": {"perRequest": "0.0001"},
        "deployment": {
            "image": stage.installed.images.e2e, "port": 8000,
            "args": ["expert", "--model", "/models/weights", "--megabytes", megabytes],
            "modelCache": {"persistentVolumeClaim": CACHE, "mountPath": "/models"},
            "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"memory": "256Mi"}},
        },
    });
    stage
        .edit(ROUTER, |spec| {
            if let Some(experts) = spec["experts"].as_array_mut() {
                experts.push(hoarder);
            }
        })
        .await?;
    let of_hoarder = |object: &Value, ready: bool| {
        let experts = object["status"]["experts"].as_array();
        experts
            .into_iter()
            .flatten()
            .any(|expert| expert["name"] == "hoarder" && expert["ready"] == ready && (ready || !expert["reason"].is_null()))
    };
    let crashed = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"].as_u64().is_some_and(|restarts| restarts > 0)
    };
    let began = Instant::now();
    while !stage.objects.list("pods", "expertrouter.dev/expert=hoarder").await?.iter().any(crashed) {
        if began.elapsed() > PATIENCE {
            bail!("its Pod did not fail in {PATIENCE:?}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    let object = stage
        .objects
        .until("expertrouters", ROUTER, PATIENCE, "says that the expert is not ready", |object| of_hoarder(object, false))
        .await?;
    let experts = object["status"]["experts"].as_array().cloned().unwrap_or_default();
    let said_of_it =
        experts.iter().find(|expert| expert["name"] == "hoarder").map(|expert| expert["reason"].as_str().unwrap_or_default().to_owned());
    let path = folder.to_string_lossy().into_owned();
    said(Command::new("mount").args(["-o", "remount,size=128m", &path]), None)?;
    stage.objects.until("expertrouters", ROUTER, 2 * PATIENCE, "says that the expert is ready", |object| of_hoarder(object, true)).await?;
    Ok(format!("the expert's status said {}; with room on the disk it became ready", said_of_it.unwrap_or_default()))
}
