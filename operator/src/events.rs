//! Events: what a person would want to see in `kubectl describe`. Published on changes only, which is the caller's to know; a failure to
//! publish is logged and nothing else.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::{
    conditions::{Finding, Verdict, shorten},
    names,
    owner::Owner,
};

/// The longest note the API server takes.
const LONGEST_NOTE: usize = 1024;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Something is wrong.
    pub warning: bool,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub note: String,
    /// What was being done, in one word.
    pub action: &'static str,
}

/// Publishes them.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// In the name of this replica.
    #[must_use]
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: format!("expertrouter.dev/{}", names::MANAGER), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Says it of an object of ours.
    pub async fn publish(&self, owner: &Owner, happening: &Happening) {
        let reference = owner.reference();
        let object = ObjectReference {
            api_version: Some(reference.api_version),
            kind: Some(reference.kind),
            name: Some(reference.name),
            namespace: Some(owner.key.namespace.clone()),
            uid: Some(reference.uid),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if happening.warning { EventType::Warning } else { EventType::Normal },
            reason: happening.reason.clone(),
            note: Some(shorten(&happening.note, LONGEST_NOTE)),
            action: happening.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object).await {
            tracing::warn!(%error, reason = happening.reason, "an event could not be published");
        }
    }
}

/// What is worth an event about conditions: those that flipped, or are False for another reason than before. At the first visit only what
/// is wrong and will not right itself by waiting is news; `waits` are the reasons that will.
#[must_use]
pub fn of_conditions(
    before: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    findings: &[Finding],
    waits: &[&str],
) -> Vec<Happening> {
    let mut happenings: Vec<Happening> = Vec::new();
    for finding in findings {
        let earlier = before.iter().find(|condition| condition.type_ == finding.kind);
        let was = earlier.map(|condition| (condition.status.as_str(), condition.reason.as_str()));
        if was == Some((finding.verdict.as_str(), finding.reason.as_str())) {
            continue;
        }
        let flipped = was.is_none_or(|(status, _)| status != finding.verdict.as_str());
        let warning = match finding.verdict {
            Verdict::True => false,
            Verdict::False => !waits.contains(&finding.reason.as_str()),
            Verdict::Unknown => continue,
        };
        // Becoming True is news after having been something else; a wait is news when something that held holds no more.
        let is_news = warning || flipped && was.is_some_and(|(status, _)| finding.holds() || status == "True");
        let known = happenings.iter().any(|other| other.reason == finding.reason && other.note == finding.message);
        if is_news && !known {
            let reason = if finding.holds() { finding.kind.to_owned() } else { finding.reason.clone() };
            happenings.push(Happening { warning, reason, note: finding.message.clone(), action: "Reconcile" });
        }
    }
    happenings
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::conditions::merge;

    fn check(before: &[Finding], after: &[Finding], expect: &[(bool, &str)]) {
        let before = merge(&[], before, None, Timestamp::UNIX_EPOCH);
        let happenings = of_conditions(&before, after, &["Progressing"]);
        let found: Vec<(bool, &str)> = happenings.iter().map(|happening| (happening.warning, happening.reason.as_str())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn events_are_about_changes() {
        let missing = Finding::no("ExpertsResolved", "SecretMissing", "no Secret a");
        let resolved = Finding::yes("ExpertsResolved", "Resolved", "");
        let waiting = Finding::no("GatewayReady", "Progressing", "0 of 2");
        check(&[], std::slice::from_ref(&missing), &[(true, "SecretMissing")]);
        check(std::slice::from_ref(&missing), std::slice::from_ref(&missing), &[]);
        check(std::slice::from_ref(&missing), std::slice::from_ref(&resolved), &[(false, "ExpertsResolved")]);
        check(&[], std::slice::from_ref(&resolved), &[]);
        check(&[], std::slice::from_ref(&waiting), &[]);
        check(&[Finding::yes("GatewayReady", "Available", "")], std::slice::from_ref(&waiting), &[(false, "Progressing")]);
    }
}
