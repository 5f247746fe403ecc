//! Status written: as a merge patch of the subresource, and only where something differs from what is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    context::Error,
    metrics::Metrics,
    names,
    owner::{Owner, OwnerKind},
};

/// Writes status.
pub struct StatusWriter {
    client: Client,
    metrics: Arc<Metrics>,
    /// By uid: what was written over which version. Until the watch brings a newer one, this is what is there.
    written: Mutex<HashMap<String, (String, Value)>>,
}

impl StatusWriter {
    /// Nothing written yet.
    #[must_use]
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics, written: Mutex::new(HashMap::new()) }
    }

    /// The status an object has: as it was read, unless we wrote another since.
    #[must_use]
    pub fn current<S: Serialize + serde::de::DeserializeOwned + Default>(&self, uid: &str, version: &str, read: Option<&S>) -> S {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((over, status)) = written.get(uid)
            && over == version
            && let Ok(status) = serde_json::from_value(status.clone())
        {
            return status;
        }
        let read = read.map(|status| serde_json::to_value(status).unwrap_or_default());
        read.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default()
    }

    /// Makes the status so. `version` is that of the object the status was worked out from. Returns whether anything was written.
    ///
    /// # Errors
    /// The API server says no. An object that is gone is no error.
    pub async fn write<S: Serialize>(&self, owner: &Owner, version: &str, before: &S, after: &S) -> Result<bool, Error> {
        let json = |status: &S| serde_json::to_value(status).expect("a status has string keys only");
        let (before, after) = (json(before), json(after));
        let Some(patch) = difference(&before, &after) else { return Ok(false) };
        let resource = match owner.key.kind {
            OwnerKind::Router => kube::api::ApiResource::erase::<api::ExpertRouter>(&()),
            OwnerKind::Model => kube::api::ApiResource::erase::<api::RouterModel>(&()),
        };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &owner.key.namespace, &resource);
        // With the uid: an object deleted and made anew meanwhile does not get the status of the old.
        let patch = json!({"metadata": {"uid": owner.uid}, "status": patch});
        let parameters = PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_status(&owner.key.name, &parameters, &Patch::Merge(&patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return Ok(false),
            Err(source) => {
                let what = format!("{} {}", owner.key.kind.as_str(), owner.key.name);
                return Err(Error::Status { what, source: Box::new(source) });
            }
        }
        self.metrics.applied(owner.key.kind.as_str(), "status");
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(owner.uid.clone(), (version.to_owned(), after));
        Ok(true)
    }

    /// An object is no more.
    pub fn forget(&self, uid: &str) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// The merge patch that makes one value of the other; `None` where they are equal.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return Some(after.clone()) };
    let mut patch = Map::new();
    for (name, value) in after {
        match before.get(name) {
            Some(old) => drop(difference(old, value).map(|change| patch.insert(name.clone(), change))),
            None => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let before = json!({"a": 1, "b": {"c": 2, "d": 3}, "gone": 4, "list": [1, 2]});
        let after = json!({"a": 1, "b": {"c": 5, "d": 3}, "new": 6, "list": [1]});
        assert_eq!(difference(&before, &after), Some(json!({"b": {"c": 5}, "new": 6, "list": [1], "gone": null})));
        assert_eq!(difference(&before, &before.clone()), None);
    }
}
