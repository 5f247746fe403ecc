//! Objects of the cluster as JSON, by their paths.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

/// Reads and writes with the administrator's rights.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    /// The namespace that paths without one are of.
    pub(crate) namespace: String,
}

impl Objects {
    /// Of this namespace.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// Of another one.
    pub(crate) fn of(&self, namespace: &str) -> Self {
        Self::new(self.client.clone(), namespace)
    }

    /// The client behind.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes its namespace, where PodSecurity `restricted` is enforced, and waits until Pods are let in.
    pub(crate) async fn restricted(&self) -> Result<()> {
        let all = self.of("");
        if all.find("namespaces", &self.namespace).await?.is_none() {
            let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}});
            all.create("namespaces", &namespace).await?;
        }
        // Its service account comes a moment after it.
        self.until("serviceaccounts", "default", Duration::from_secs(60), "is there", |_| true).await.map(drop)
    }

    /// The path of a collection such as `pods`, `apps/v1/deployments` or `expertrouters`, and of an object in it.
    pub(crate) fn path(&self, collection: &str, name: &str) -> String {
        path(&self.namespace, collection, name)
    }

    /// The object, or `None`.
    pub(crate) async fn find(&self, collection: &str, name: &str) -> Result<Option<Value>> {
        match self.call(Method::GET, &self.path(collection, name), None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if status_of(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object.
    pub(crate) async fn get(&self, collection: &str, name: &str) -> Result<Value> {
        self.call(Method::GET, &self.path(collection, name), None).await
    }

    /// Those that bear these labels.
    pub(crate) async fn list(&self, collection: &str, labels: &str) -> Result<Vec<Value>> {
        let path = format!("{}?labelSelector={labels}", self.path(collection, ""));
        let mut list = self.call(Method::GET, &path, None).await?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// A new object.
    pub(crate) async fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        self.call(Method::POST, &self.path(collection, ""), Some(("application/json", object))).await
    }

    /// Some fields of an object, by a merge patch.
    pub(crate) async fn merge(&self, collection: &str, name: &str, fields: &Value) -> Result<Value> {
        self.call(Method::PATCH, &self.path(collection, name), Some(("application/merge-patch+json", fields))).await
    }

    /// Takes it away; `grace` in seconds, where it is not the object's own. One that is not there is fine.
    pub(crate) async fn delete(&self, collection: &str, name: &str, grace: Option<u32>) -> Result<()> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace});
        match self.call(Method::DELETE, &self.path(collection, name), Some(("application/json", &options))).await {
            Err(error) if status_of(&error) != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Any call.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value> {
        let what = format!("{method} {path}");
        let mut request = Request::builder().method(method).uri(path);
        let mut bytes = Vec::new();
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind);
            bytes = serde_json::to_vec(body)?;
        }
        self.client.request::<Value>(request.body(bytes)?).await.context(what)
    }

    /// Waits until an object is as it should be; being away counts as not being so, and so does an API server that is.
    pub(crate) async fn until(
        &self,
        collection: &str,
        name: &str,
        patience: Duration,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.find(collection, name).await;
            match &found {
                Ok(Some(object)) if holds(object) => return Ok(object.clone()),
                _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(150)).await,
                Ok(Some(object)) => bail!("not in {patience:?}: {collection} {name}: {what}; it is {:#}", object["status"]),
                Ok(None) => bail!("not in {patience:?}: {collection} {name}: {what}; it is absent"),
                Err(error) => bail!("not in {patience:?}: {collection} {name}: {what}; {error:#}"),
            }
        }
    }

    /// Waits until a condition has this status at the object's newest generation.
    pub(crate) async fn until_condition(
        &self,
        collection: &str,
        name: &str,
        kind: &str,
        status: &str,
        patience: Duration,
    ) -> Result<Value> {
        let holds = |object: &Value| {
            condition(object, kind)
                .is_some_and(|found| found["status"] == status && found["observedGeneration"] == object["metadata"]["generation"])
        };
        self.until(collection, name, patience, &format!("{kind} is {status}"), holds).await
    }

    /// Waits until a Deployment runs what its spec says and nothing else.
    pub(crate) async fn until_rolled_out(&self, name: &str, patience: Duration) -> Result<()> {
        let holds = |object: &Value| {
            let (spec, status) = (&object["spec"], &object["status"]);
            let wanted = spec["replicas"].as_u64().unwrap_or(1);
            let is = |field: &str| status[field].as_u64().unwrap_or_default() == wanted;
            status["observedGeneration"] == object["metadata"]["generation"]
                && is("updatedReplicas")
                && is("replicas")
                && is("availableReplicas")
        };
        self.until("apps/v1/deployments", name, patience, "is rolled out", holds).await.map(drop)
    }

    /// Starts new Pods of a Deployment, one after the other, and waits until they are all there and the old ones gone.
    pub(crate) async fn restart(&self, deployment: &str, patience: Duration) -> Result<()> {
        let now = crate::load::unix_milliseconds().to_string();
        let annotation = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}});
        let object = self.merge("apps/v1/deployments", deployment, &annotation).await?;
        self.until_rolled_out(deployment, patience).await?;
        let selector = selector_of(&object);
        self.until_none_ends(&selector, patience).await
    }

    /// Waits until no Pod with these labels is on its way out.
    pub(crate) async fn until_none_ends(&self, labels: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.list("pods", labels).await?.iter().any(|pod| !pod["metadata"]["deletionTimestamp"].is_null()) {
            if Instant::now() > deadline {
                bail!("Pods {labels} did not end in {patience:?}");
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    }
}

/// The label selector of a Deployment, as a query.
pub(crate) fn selector_of(deployment: &Value) -> String {
    let labels = deployment["spec"]["selector"]["matchLabels"].as_object();
    let pair = |(name, value): (&String, &Value)| format!("{name}%3D{}", value.as_str().unwrap_or_default());
    labels.map(|labels| labels.iter().map(pair).collect::<Vec<_>>().join("%2C")).unwrap_or_default()
}

/// The condition of that type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// An object's name.
pub(crate) fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// The HTTP status of the API server's no.
pub(crate) fn status_of(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref::<kube::Error>()? {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn path(namespace: &str, collection: &str, name: &str) -> String {
    let in_namespace = |plural: &str| if namespace.is_empty() { plural.to_owned() } else { format!("namespaces/{namespace}/{plural}") };
    let collection = match collection.rsplit_once('/') {
        Some((group, plural)) => format!("/apis/{group}/{}", in_namespace(plural)),
        None if ["expertrouters", "routermodels"].contains(&collection) => {
            format!("/apis/expertrouter.dev/v1alpha1/{}", in_namespace(collection))
        }
        None => format!("/api/v1/{}", in_namespace(collection)),
    };
    if name.is_empty() { collection } else { format!("{collection}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        assert_eq!(path("ns", "pods", "a"), "/api/v1/namespaces/ns/pods/a");
        assert_eq!(path("ns", "apps/v1/deployments", ""), "/apis/apps/v1/namespaces/ns/deployments");
        assert_eq!(path("ns", "expertrouters", "r"), "/apis/expertrouter.dev/v1alpha1/namespaces/ns/expertrouters/r");
        assert_eq!(path("", "nodes", "n"), "/api/v1/nodes/n");
    }

    #[test]
    fn a_deployment_is_found_again_by_its_labels() {
        let deployment = json!({"spec": {"selector": {"matchLabels": {"app": "x", "part": "y"}}}});
        assert_eq!(selector_of(&deployment), "app%3Dx%2Cpart%3Dy");
    }
}
