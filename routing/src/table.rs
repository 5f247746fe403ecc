//! A snapshot, checked and compiled into what a request needs: experts by index, names resolved, nothing left to fail.

use serde_json::Value;

use crate::{
    check::check,
    snapshot::{Capability, Expert, Snapshot},
};

/// Index of an expert in [`Table::experts`]; the order of the snapshot.
pub type ExpertIndex = usize;

/// A snapshot found sound. Swapped in whole.
#[derive(Debug, Clone)]
pub struct Table {
    snapshot: Snapshot,
    fallback: Option<ExpertIndex>,
    baseline: Option<ExpertIndex>,
    compiled: Vec<Compiled>,
}

/// What a choice asks of an expert, worked out once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compiled {
    capabilities: u32,
    /// Estimated tokens of `prependMessages`, which take context and cost money in every request.
    prepended_tokens: u64,
    /// A `bodyOverrides` field that replaces the client's own limit on output tokens.
    output_limit: Option<u64>,
}

/// Why a snapshot cannot be used. The message names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct TableError {
    /// As a path into the snapshot: `experts[2].baseUrl`.
    pub field: String,
    /// What is wrong with it, and what is expected.
    pub problem: String,
}

impl Table {
    /// Checks and compiles.
    ///
    /// # Errors
    /// The first thing wrong, by field.
    pub fn compile(snapshot: Snapshot) -> Result<Self, TableError> {
        check(&snapshot)?;
        let index = |name: &Option<String>| name.as_ref().and_then(|n| snapshot.experts.iter().position(|e| &e.name == n));
        let (fallback, baseline) = (index(&snapshot.policy.fallback_expert), index(&snapshot.policy.baseline_expert));
        let compiled = snapshot.experts.iter().map(Compiled::of).collect();
        Ok(Self { snapshot, fallback, baseline, compiled })
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

    /// For each expert of this table, in order, its column in a bundle whose columns bear `names`. Columns of experts this table does
    /// not have are left out.
    ///
    /// # Errors
    /// The experts the bundle knows nothing of, in order: it cannot score this router.
    pub fn bind(&self, names: &[&str]) -> Result<Vec<usize>, Vec<String>> {
        let column = |expert: &Expert| names.iter().position(|name| *name == expert.name);
        let missing: Vec<String> = self.experts().iter().filter(|e| column(e).is_none()).map(|e| e.name.clone()).collect();
        if missing.is_empty() { Ok(self.experts().iter().filter_map(column).collect()) } else { Err(missing) }
    }

    /// Estimated tokens that an expert's `prependMessages` add to each request.
    #[must_use]
    pub fn prepended_tokens(&self, expert: ExpertIndex) -> u64 {
        self.compiled.get(expert).map_or(0, |compiled| compiled.prepended_tokens)
    }

    pub(crate) fn capable(&self, expert: ExpertIndex, needs: &[Capability]) -> bool {
        needs.iter().all(|need| self.compiled[expert].capabilities & bit(*need) != 0)
    }

    /// The limit on output tokens that the expert will be sent: an override's, else the client's.
    pub(crate) fn output_limit(&self, expert: ExpertIndex, of_client: Option<u64>) -> Option<u64> {
        self.compiled[expert].output_limit.or(of_client)
    }
}

impl Compiled {
    fn of(expert: &Expert) -> Self {
        let limits = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        Self {
            capabilities: expert.capabilities.iter().fold(0, |bits, capability| bits | bit(*capability)),
            prepended_tokens: expert.prepend_messages.iter().map(|message| 4 + text_bytes(message.get("content")).div_ceil(4)).sum(),
            output_limit: limits.iter().find_map(|field| expert.body_overrides.get(*field)?.as_u64()),
        }
    }
}

fn bit(capability: Capability) -> u32 {
    1 << capability as u32
}

/// Bytes of text in a message's content: a string, or parts with a `text` each. Four bytes a token is close enough for English and for
/// code, and errs towards too many elsewhere.
fn text_bytes(content: Option<&Value>) -> u64 {
    match content {
        Some(Value::String(text)) => text.len() as u64,
        Some(Value::Array(parts)) => parts.iter().map(|part| part.get("text").and_then(Value::as_str).map_or(0, str::len) as u64).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
