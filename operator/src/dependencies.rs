//! Who is to be told when something changes that a spec names: kept by each reconcile, asked by `watch`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{cache::Kind, owner::OwnerKey};

/// One thing a spec names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dependency {
    /// An object of a watched kind, of the owner's namespace. For Services' endpoints the name is the Service's.
    Object(Kind, String),
    /// A router of the owner's namespace.
    Router(String),
    /// A model of the owner's namespace.
    Model(String),
}

/// Who depends on what.
#[derive(Debug, Default)]
pub struct Dependencies {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    of_owner: HashMap<OwnerKey, BTreeSet<Dependency>>,
    owners: HashMap<(String, Dependency), BTreeSet<OwnerKey>>,
}

impl Dependencies {
    /// From now on the owner depends on these, and on nothing else.
    pub fn record(&self, owner: &OwnerKey, dependencies: BTreeSet<Dependency>) {
        let mut inner = self.lock();
        if inner.of_owner.get(owner).map_or(dependencies.is_empty(), |before| *before == dependencies) {
            return;
        }
        inner.forget(owner);
        for dependency in &dependencies {
            inner.owners.entry((owner.namespace.clone(), dependency.clone())).or_default().insert(owner.clone());
        }
        inner.of_owner.insert(owner.clone(), dependencies);
    }

    /// The owner is no more.
    pub fn forget(&self, owner: &OwnerKey) {
        self.lock().forget(owner);
    }

    /// Who depends on that.
    #[must_use]
    pub fn owners(&self, namespace: &str, dependency: &Dependency) -> Vec<OwnerKey> {
        let key = (namespace.to_owned(), dependency.clone());
        self.lock().owners.get(&key).into_iter().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, owner: &OwnerKey) {
        for dependency in self.of_owner.remove(owner).into_iter().flatten() {
            let key = (owner.namespace.clone(), dependency);
            if let Some(owners) = self.owners.get_mut(&key) {
                owners.remove(owner);
                if owners.is_empty() {
                    self.owners.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_hears_of_what_it_names_now_and_of_nothing_else() {
        let dependencies = Dependencies::default();
        let chat = OwnerKey::router("llm", "chat");
        let secret = |name: &str| Dependency::Object(Kind::Secret, name.to_owned());
        dependencies.record(&chat, BTreeSet::from([secret("a"), Dependency::Model("chat".to_owned())]));
        assert_eq!(dependencies.owners("llm", &secret("a")), std::slice::from_ref(&chat));
        assert!(dependencies.owners("other", &secret("a")).is_empty());
        dependencies.record(&chat, BTreeSet::from([secret("b")]));
        assert!(dependencies.owners("llm", &secret("a")).is_empty());
        assert_eq!(dependencies.owners("llm", &secret("b")), std::slice::from_ref(&chat));
        dependencies.forget(&chat);
        assert!(dependencies.owners("llm", &secret("b")).is_empty());
    }
}
