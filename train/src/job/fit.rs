//! All parts to a bundle on trial, called after its digest.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result};
use api::training::Fitted;

use super::{FitJob, Spec, bundle_folder, join_parts};
use crate::fit::{FitArgs, fit};

/// So many bundles on trial are kept.
const KEPT: usize = 4;

impl FitJob {
    pub(super) fn run(&self) -> Result<Fitted> {
        let spec = Spec::read(&self.common.manifest)?;
        let workspace = &self.common.workspace;
        let bundles = workspace.join("bundles");
        let failed = || format!("writing {}", bundles.display());
        fs::create_dir_all(&bundles).with_context(failed)?;
        let fresh = tempfile::Builder::new().prefix(".fit-").tempdir_in(&bundles).with_context(failed)?;
        let arguments = FitArgs {
            outcomes: join_parts(workspace, self.parts)?,
            out: fresh.path().join("bundle"),
            manifest: Some(spec.write_market(fresh.path())?),
            options: spec.fit_options()?,
        };
        let begun = Instant::now();
        let fitted = fit(&arguments, &|what: &str| eprintln!("[{:6.1} s] {what}", begun.elapsed().as_secs_f64()))?;
        eprintln!("{}", fitted.summary);
        let target = bundle_folder(workspace, &fitted.bundle.digest);
        if model::Bundle::read(&target).is_err() {
            let parent = target.parent().unwrap_or(&bundles);
            fs::create_dir_all(parent).with_context(failed)?;
            if target.exists() {
                fs::rename(&target, fresh.path().join("old")).with_context(failed)?;
            }
            fs::rename(&arguments.out, &target).with_context(failed)?;
        }
        forget_old(&bundles, &fitted.bundle.digest);
        Ok(Fitted { digest: fitted.bundle.digest, kind: fitted.bundle.manifest.router })
    }
}

/// Removes all but the newest. What cannot be removed now goes another time.
fn forget_old(bundles: &Path, keep: &str) {
    let entries = fs::read_dir(bundles).into_iter().flatten().flatten();
    let dated = entries.filter(|entry| entry.file_name() != keep && !entry.file_name().to_string_lossy().starts_with('.'));
    let mut dated: Vec<_> = dated.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    dated.sort();
    for (_, path) in dated.iter().rev().skip(KEPT - 1) {
        drop(fs::remove_dir_all(path));
    }
}
