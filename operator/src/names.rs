//! Names of children, and the labels they carry.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::owner::{OwnerKey, OwnerKind};

/// The field manager of everything the operator applies, and the value of [`MANAGED_BY`].
pub const MANAGER: &str = "expert-router-operator";
/// The field manager that has a Deployment's number of Pods from us, once that is an autoscaler's to say.
pub const SCALED: &str = "expert-router-operator-scaled";
/// Kubernetes' own label for who looks after an object. Only objects with it are watched as children.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Names the router something belongs to.
pub const ROUTER: &str = "expertrouter.dev/router";
/// Names the model something belongs to.
pub const MODEL: &str = "expertrouter.dev/model";
/// Names the expert something belongs to.
pub const EXPERT: &str = "expertrouter.dev/expert";
/// `gateway`, `sidecar`, `expert` or `job`.
pub const ROLE: &str = "expertrouter.dev/role";
/// On Pods that carry the data plane: the snapshot's revision. Its change makes kubelet refresh the mounted snapshot at once.
pub const REVISION: &str = "expertrouter.dev/snapshot-revision";
/// Likewise, of the Secrets that they mount: a digest of these objects' versions.
pub const SECRETS_REVISION: &str = "expertrouter.dev/secrets-revision";
/// On children: the digest of what was applied last.
pub const APPLIED: &str = "expertrouter.dev/applied";
/// On Pods of applications: the router whose sidecar they want.
pub const INJECT: &str = "expertrouter.dev/inject";

/// Names of Services and label values are no longer.
const LONGEST: usize = 63;
/// A Job with an index is refused where the name of its last Pod, `<job>-<index>`, is longer; of its most parts, this is what is added.
const LAST_INDEX: &str = "-999";

/// The name of a child: `<owner>-<suffix>` where that is the name of a Service, else as much of it as fits and a digest that keeps
/// different owners apart.
#[must_use]
pub fn child(owner: &str, suffix: &str) -> String {
    fit(&if suffix.is_empty() { owner.to_owned() } else { format!("{owner}-{suffix}") }, LONGEST)
}

/// Likewise of a Job: what is left of it leaves room for the index of a Pod.
#[must_use]
pub fn job(owner: &str, suffix: &str) -> String {
    fit(&format!("{owner}-{suffix}"), LONGEST - LAST_INDEX.len())
}

/// A label value that stands for a name: the name itself where it is one.
#[must_use]
pub fn label_value(name: &str) -> String {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() <= LONGEST && name.chars().all(sound) { name.to_owned() } else { fit(name, LONGEST) }
}

fn fit(name: &str, longest: usize) -> String {
    let mut fitting: String = name.chars().map(|c| if c == '.' || c == '_' { '-' } else { c.to_ascii_lowercase() }).collect();
    if !fitting.starts_with(|c: char| c.is_ascii_lowercase()) {
        fitting.insert_str(0, "x-");
    }
    if fitting == name && name.len() <= longest {
        return fitting;
    }
    let digest = hex::encode(&Sha256::digest(name)[..4]);
    let most = longest - digest.len() - 1;
    let short: String = fitting.chars().take(most).collect();
    format!("{}-{digest}", short.trim_end_matches('-'))
}

/// The labels every child carries.
#[must_use]
pub fn labels(owner: &OwnerKey, role: &str) -> BTreeMap<String, String> {
    let of = match owner.kind {
        OwnerKind::Router => ROUTER,
        OwnerKind::Model => MODEL,
    };
    let pairs = [
        ("app.kubernetes.io/name", "expert-router".to_owned()),
        ("app.kubernetes.io/instance", label_value(&owner.name)),
        ("app.kubernetes.io/component", role.to_owned()),
        (MANAGED_BY, MANAGER.to_owned()),
        (of, label_value(&owner.name)),
        (ROLE, role.to_owned()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_kept() {
        assert_eq!(child("chat", "gateway"), "chat-gateway");
        assert_eq!(child("chat", ""), "chat");
        assert_eq!(label_value("Team.chat_1"), "Team.chat_1");
    }

    #[test]
    fn a_long_name_fits_and_stays_apart_from_others() {
        let (a, b) = (child(&"a".repeat(200), "gateway"), child(&"a".repeat(201), "gateway"));
        assert!(a.len() <= LONGEST && b.len() <= LONGEST && a != b, "{a} {b}");
    }

    #[test]
    fn a_job_leaves_room_for_its_index_and_a_short_one_is_kept() {
        assert_eq!(job("chat", "prepare-0123456789"), "chat-prepare-0123456789");
        for length in 35..70 {
            let (a, b) = (job(&"a".repeat(length), "prepare-0123456789"), job(&"a".repeat(length), "prepare-9876543210"));
            assert!(a.len() + LAST_INDEX.len() <= LONGEST && a != b, "{a} {b}");
        }
    }

    #[test]
    fn every_name_is_that_of_a_service() {
        for owner in ["chat.prod", "7b", "a.-b", "x_y", &"-".repeat(80)] {
            let name = child(owner, "gateway");
            let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() <= LONGEST && name.chars().all(sound) && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        }
        assert_ne!(child("chat.prod", ""), child("chat-prod", ""));
    }
}
