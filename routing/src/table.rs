//! A snapshot, checked and compiled into what a request needs: experts by index, names resolved, nothing left to fail.

use crate::snapshot::{Expert, Snapshot};

/// Index of an expert in [`Table::experts`]; the order of the snapshot.
pub type ExpertIndex = usize;

/// A snapshot found sound. Swapped in whole.
#[derive(Debug, Clone)]
pub struct Table {
    snapshot: Snapshot,
    fallback: Option<ExpertIndex>,
    baseline: Option<ExpertIndex>,
}

/// Why a snapshot cannot be used. The message names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct TableError {
    /// As a path into the snapshot: `experts[2].baseUrl`.
    pub field: String,
    pub problem: String,
}

impl Table {
    /// Checks and compiles.
    ///
    /// # Errors
    /// The first thing wrong, by field.
    pub fn compile(snapshot: Snapshot) -> Result<Self, TableError> {
        let index = |name: &Option<String>| name.as_ref().and_then(|n| snapshot.experts.iter().position(|e| &e.name == n));
        let (fallback, baseline) = (index(&snapshot.policy.fallback_expert), index(&snapshot.policy.baseline_expert));
        Ok(Self { snapshot, fallback, baseline })
    }

    /// The snapshot this was made from.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// In the snapshot's order, which [`ExpertIndex`] counts in.
    #[must_use]
    pub fn experts(&self) -> &[Expert] {
        &self.snapshot.experts
    }

    /// The expert of that name.
    #[must_use]
    pub fn expert(&self, name: &str) -> Option<ExpertIndex> {
        self.snapshot.experts.iter().position(|expert| expert.name == name)
    }

    /// Who answers when no score can be had.
    #[must_use]
    pub fn fallback(&self) -> Option<ExpertIndex> {
        self.fallback
    }

    /// What savings are measured against.
    #[must_use]
    pub fn baseline(&self) -> Option<ExpertIndex> {
        self.baseline
    }
}
