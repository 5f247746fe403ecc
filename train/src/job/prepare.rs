//! A part of the queries, asked and scored. Answers that any journal of the work space has are not asked for again: not after a Job that
//! was killed, not when there are more or fewer parts than before, not when an expert or a query has come or gone.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use api::training::Prepared;
use sha2::{Digest, Sha256};

use super::{
    PrepareJob, Spec, block_on, part_path,
    spec::{as_on_the_command_line, fingerprints},
};
use crate::{
    outcomes::{self, Reader},
    prepare::{self, Adopted, Ending, PrepareOptions, adopt},
    store::Store,
};

/// No file of queries is longer.
const MOST: u64 = 4 << 30;

impl PrepareJob {
    pub(super) fn run(&self) -> Result<Prepared> {
        let spec = Spec::read(&self.common.manifest)?;
        anyhow::ensure!(self.index < self.parts, "--index: expected 0 to {}, got {}", self.parts - 1, self.index);
        let out = part_path(&self.common.workspace, self.index, self.parts);
        let folder = out.parent().unwrap_or(Path::new("")).to_owned();
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let queries = self.local_queries(&folder)?;
        let adopted = adopt(&out, &folder, &self.ids(&queries)?)?;
        if adopted.answers > 0 {
            eprintln!("{} answers of other journals are taken over", adopted.answers);
        }
        let options = self.options(&spec, &adopted)?;
        let experts = prepare::read_experts(&self.common.manifest, &options)?;
        let prepared = prepare::prepare(&queries, &experts, &out, &options)?;
        let out_of_money = match prepared.ending {
            Ending::OutOfMoney { .. } => true,
            other => other.into_result().map(|()| false)?,
        };
        let count = |count: usize| count as u64;
        Ok(Prepared {
            done: count(prepared.outcomes),
            total: count(prepared.wanted),
            spent_usd: prepared.spent_usd + adopted.elsewhere_usd(self.parts),
            out_of_money,
            parts: self.parts,
            digest: digest(&out)?,
        })
    }

    fn options(&self, spec: &Spec, adopted: &Adopted) -> Result<PrepareOptions> {
        let encoder = spec.model.spec.scoring.encoder.as_ref().map(PathBuf::from);
        Ok(PrepareOptions {
            shard: Some(format!("{}/{}", self.index, self.parts)),
            concurrency: self.concurrency,
            max_cost_usd: self.max_cost_usd.map(|most| adopted.limit_usd(most, self.parts)),
            encoder: encoder.or_else(|| std::env::var_os("EXPERT_ROUTER_ENCODER").map(PathBuf::from)),
            secrets: self.secrets.clone(),
            fingerprints: fingerprints(self.fingerprints.as_deref())?,
            ..as_on_the_command_line::<PrepareOptions>(&[])?
        })
    }

    /// The queries as a file of this machine.
    fn local_queries(&self, folder: &Path) -> Result<PathBuf> {
        if !self.queries.contains("://") {
            return Ok(PathBuf::from(&self.queries));
        }
        let store = Store::open(self.store.credentials.as_deref())?;
        let bytes = block_on(store.read(&self.queries, MOST))?;
        let path = folder.join(format!("queries-{}-of-{}", self.index, self.parts));
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The ids of this part's queries.
    fn ids(&self, queries: &Path) -> Result<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        for (at, row) in Reader::open(queries)?.enumerate() {
            let (_, row) = row?;
            if at % self.parts as usize == self.index as usize {
                ids.insert(row.id);
            }
        }
        Ok(ids)
    }
}

/// Of the outcomes, but for what they cost: a router fitted to the same outcomes is the same. Scores that are computed differ in their
/// last digits from one processor to another, which is no other outcome.
fn digest(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for mut row in outcomes::read(path)? {
        for outcome in &mut row.outcomes {
            outcome.cost_usd = None;
            outcome.bertsim = outcome.bertsim.map(|bertsim| (bertsim * 1e4).round() / 1e4);
        }
        hasher.update(serde_json::to_vec(&row).context("writing JSON")?);
        hasher.update(b"\n");
    }
    Ok(hex::encode(&hasher.finalize()[..16]))
}
