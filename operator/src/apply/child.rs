//! What is to be, as it is sent.

use kube::{Resource, api::ApiResource};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{cache::Kind, names, owner::Owner};

/// An object that is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// What it is, for the cache.
    pub kind: Kind,
    /// What it is, for the API server.
    pub resource: ApiResource,
    /// Its name.
    pub name: String,
    /// Everything we want of it, and nothing else.
    pub object: Value,
}

impl Child {
    /// A child of a kind that every cluster has.
    ///
    /// Namespace, owner reference and labels are added by [`super::Applier::apply`].
    #[must_use]
    pub fn of<K: Resource<DynamicType = ()> + Serialize>(kind: Kind, object: &K) -> Self {
        let resource = ApiResource::erase::<K>(&());
        let object = serde_json::to_value(object).expect("Kubernetes objects have string keys only");
        Self { kind, name: object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned(), resource, object }
    }

    /// A child written as a manifest would have it.
    #[must_use]
    pub fn planned(kind: Kind, name: String, object: Value) -> Self {
        let resource = crate::watch::resource(kind).expect("every kind has a resource");
        Self { kind, resource, name, object }
    }

    /// As it is sent: with the type, the owner, and the digest of all that.
    #[must_use]
    pub fn prepared(&self, owner: &Owner) -> (Value, String) {
        let mut object = self.object.clone();
        object["apiVersion"] = json!(self.resource.api_version);
        object["kind"] = json!(self.resource.kind);
        object["metadata"]["name"] = json!(self.name);
        object["metadata"]["namespace"] = json!(owner.key.namespace);
        object["metadata"]["labels"][names::MANAGED_BY] = json!(names::MANAGER);
        object["metadata"]["ownerReferences"] = json!([owner.reference()]);
        if let Some(fields) = object.as_object_mut() {
            fields.shift_remove("status");
        }
        let json = serde_json::to_vec(&object).expect("a value has string keys only");
        let digest = hex::encode(&Sha256::digest(json)[..8]);
        object["metadata"]["annotations"][names::APPLIED] = json!(digest);
        (object, digest)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceAccount;

    use super::*;
    use crate::owner::OwnerKey;

    fn owner() -> Owner {
        Owner { key: OwnerKey::router("llm", "chat"), uid: "r".to_owned() }
    }

    #[test]
    fn what_is_sent_names_its_owner_and_its_digest() {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("chat".to_owned());
        let child = Child::of(Kind::ServiceAccount, &account);
        let (object, digest) = child.prepared(&owner());
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "r");
        assert_eq!(object["metadata"]["annotations"][names::APPLIED], digest.as_str());
        assert_eq!(object["metadata"]["namespace"], "llm");
        assert_eq!(child.prepared(&owner()), (object, digest));
    }
}
