//! Kinds of other projects that a cluster does not know, and then does.

use std::{sync::OnceLock, thread, time::Duration};

use serde_json::json;
use tests::{cluster::Cluster, eventually};

use super::{MANAGED, ready_router, start};

/// A server without them. It ends with the process.
fn bare() -> &'static Cluster {
    static BARE: OnceLock<Cluster> = OnceLock::new();
    let started = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cluster = runtime.block_on(Cluster::start())?;
        cluster.define()?;
        anyhow::Ok(cluster)
    };
    BARE.get_or_init(|| thread::spawn(started).join().unwrap().unwrap())
}

#[tokio::test]
async fn routes_and_monitors_are_made_once_the_cluster_knows_them() {
    let namespace = bare().namespace("later").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let operator = start(&release, "one").await;
    ready_router(&namespace).await;
    bare().define_others().unwrap();
    // It looks once a minute.
    for collection in ["gateway.networking.k8s.io/v1/httproutes", "monitoring.coreos.com/v1/podmonitors"] {
        let made = eventually(collection, Duration::from_secs(120), async || Ok(!namespace.list(collection, MANAGED).await?.is_empty()));
        made.await.unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    }
}
