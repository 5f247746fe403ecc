//! The number of Pods, when it is an autoscaler's to say and no longer ours.
//!
//! A field that we alone have and leave out falls back to its default: of `replicas` that is one, whatever load there is. So another
//! manager takes it over before, with the number it has. The autoscaler's first word takes it from there.

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::json;

use super::{Applier, Child};
use crate::{
    cache::{Detail, Kind, Seen},
    names,
};

/// The Pods that a Deployment has by our word, where what is to be says nothing of them any more. Of none the default is better: an
/// autoscaler does nothing where there are none.
pub(super) fn left_to_an_autoscaler(child: &Child, seen: &Seen) -> Option<i32> {
    let is_left = child.kind == Kind::Deployment && seen.scales && child.object.pointer("/spec/replicas").is_none();
    match &seen.detail {
        Detail::Deployment(facts) if is_left && facts.replicas > 1 => Some(facts.replicas),
        _ => None,
    }
}

impl Applier {
    /// Has the other manager say how many Pods there are.
    pub(super) async fn hand_over(&self, api: &Api<DynamicObject>, child: &Child, uid: &str, replicas: i32) -> kube::Result<()> {
        let object = json!({
            "apiVersion": child.resource.api_version,
            "kind": child.resource.kind,
            // With the uid: where the Deployment is gone, none is made of this.
            "metadata": {"name": child.name, "uid": uid},
            "spec": {"replicas": replicas},
        });
        match api.patch_metadata(&child.name, &PatchParams::apply(names::SCALED), &Patch::Apply(&object)).await {
            Ok(_) => {
                self.metrics.applied(&child.resource.kind, "apply");
                Ok(())
            }
            // Somebody else has said another number, and it is theirs already; or the Deployment is gone.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) => Err(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::cache::DeploymentFacts;

    fn check(spec: serde_json::Value, scales: bool, replicas: i32, expect: Option<i32>) {
        let child = Child::planned(Kind::Deployment, "chat-gateway".to_owned(), json!({"metadata": {}, "spec": spec}));
        let detail = Detail::Deployment(DeploymentFacts { replicas, ..DeploymentFacts::default() });
        let seen = Seen { scales, ..Seen::of(&ObjectMeta::default(), detail) };
        assert_eq!(left_to_an_autoscaler(&child, &seen), expect, "{child:?} {seen:?}");
    }

    #[test]
    fn pods_we_asked_for_are_handed_over_when_we_ask_no_more() {
        check(json!({}), true, 3, Some(3));
        check(json!({"replicas": 3}), true, 3, None);
        check(json!({}), false, 3, None);
        check(json!({}), true, 1, None);
        check(json!({}), true, 0, None);
    }

    #[test]
    fn other_kinds_have_no_pods() {
        let child = Child::planned(Kind::Service, "chat-gateway".to_owned(), json!({"metadata": {}, "spec": {}}));
        let seen = Seen { scales: true, ..Seen::of(&ObjectMeta::default(), Detail::None) };
        assert_eq!(left_to_an_autoscaler(&child, &seen), None);
    }
}
