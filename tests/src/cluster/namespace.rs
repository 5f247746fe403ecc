//! A namespace for one test: nothing of another test is in it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Api, Cluster};
use crate::eventually;

/// How long the cluster is given to come to what a test waits for; on a busy machine controllers take their time.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where one test lives, and the administrator's way to it.
#[derive(Debug)]
pub struct Namespace {
    /// The server it is on.
    pub cluster: &'static Cluster,
    /// Its name.
    pub name: String,
    api: Api,
}

impl Cluster {
    /// A new namespace, called after the test.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn namespace(&'static self, test: &str) -> Result<Namespace> {
        let (name, api) = (Self::unique(test), self.api()?);
        // As a cautious team has it: what we run there must be content with the least.
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        api.create("/api/v1/namespaces", &object).await?;
        Ok(Namespace { cluster: self, name, api })
    }
}

impl Namespace {
    /// The administrator's client.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The path of a collection of this namespace, such as `configmaps`, `apps/v1/deployments` or `expertrouters`.
    #[must_use]
    pub fn path(&self, collection: &str) -> String {
        let namespace = &self.name;
        match collection.rsplit_once('/') {
            Some((group, plural)) => format!("/apis/{group}/namespaces/{namespace}/{plural}"),
            None if ["expertrouters", "routermodels"].contains(&collection) => {
                format!("/apis/expertrouter.dev/v1alpha1/namespaces/{namespace}/{collection}")
            }
            None => format!("/api/v1/namespaces/{namespace}/{collection}"),
        }
    }

    /// Applies objects of this namespace, written as YAML.
    ///
    /// # Errors
    /// kubectl refuses; with what it said.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let file = self.cluster.folder().join(format!("{}.yaml", Cluster::unique("manifest")));
        std::fs::write(&file, yaml).with_context(|| format!("writing {}", file.display()))?;
        self.kubectl(&["apply", "--validate=strict", "--filename", &file.to_string_lossy()])
    }

    /// What kubectl prints, in this namespace.
    ///
    /// # Errors
    /// It fails; with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// One object, or `None`.
    ///
    /// # Errors
    /// The server is away.
    pub async fn find(&self, collection: &str, name: &str) -> Result<Option<Value>> {
        self.api.find(&format!("{}/{name}", self.path(collection))).await
    }

    /// All objects of a collection that bear this label; an empty one: all.
    ///
    /// # Errors
    /// The server is away.
    pub async fn list(&self, collection: &str, label: &str) -> Result<Vec<Value>> {
        let list = self.api.get(&format!("{}?labelSelector={label}", self.path(collection))).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until the object satisfies `holds`, and returns it.
    ///
    /// # Errors
    /// It never did; with what it was last.
    pub async fn until(&self, collection: &str, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = None;
        let waited = eventually(what, PATIENCE, async || {
            last = self.find(collection, name).await?;
            Ok(last.as_ref().is_some_and(&holds))
        });
        match waited.await {
            Ok(()) => last.context("it was seen"),
            Err(error) => bail!("{error}; {collection} {name} is {}", last.map_or("absent".to_owned(), |object| format!("{object:#}"))),
        }
    }

    /// Waits until a condition of the object has this status and reason, at the object's newest generation.
    ///
    /// # Errors
    /// It never had; with what the object was last.
    pub async fn until_condition(&self, collection: &str, name: &str, kind: &str, status: &str, reason: &str) -> Result<Value> {
        let what = format!("{kind} is {status} ({reason})");
        let holds = |object: &Value| {
            condition(object, kind).is_some_and(|condition| {
                condition["status"] == status
                    && (reason.is_empty() || condition["reason"] == reason)
                    && condition["observedGeneration"] == object["metadata"]["generation"]
            })
        };
        self.until(collection, name, &what, holds).await
    }

    /// Waits until the object is gone.
    ///
    /// # Errors
    /// It stayed.
    pub async fn until_gone(&self, collection: &str, name: &str) -> Result<()> {
        eventually(&format!("{collection} {name} is gone"), PATIENCE, async || Ok(self.find(collection, name).await?.is_none())).await
    }
}

/// A condition of an object, by its type.
#[must_use]
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
