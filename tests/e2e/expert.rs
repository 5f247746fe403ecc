//! An expert that keeps its model in a cache, as servers do that fetch theirs from a hub: nothing is served before the file is there whole.

use std::{
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use replay::{Answer, Options, Replay};

/// What it keeps, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct ExpertOptions {
    /// The model's file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Its size
    #[arg(long, value_name = "MEBIBYTES")]
    megabytes: usize,
    /// Where it answers
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], 8000)))]
    listen: SocketAddr,
}

/// Fetches its model where it is not there, and answers.
pub(crate) fn run(options: &ExpertOptions) -> ExitCode {
    let ended = fetch(&options.model, options.megabytes).and_then(|()| serve(options.listen));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e expert: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(model: &Path, mebibytes: usize) -> Result<()> {
    let wanted = (mebibytes << 20) as u64;
    if std::fs::metadata(model).is_ok_and(|file| file.len() == wanted) {
        return Ok(());
    }
    let write = || {
        let mut file = File::create(model)?;
        let piece = vec![0x5a; 1 << 20];
        for _ in 0..mebibytes {
            file.write_all(&piece)?;
        }
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", model.display()))
}

fn serve(listen: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = Options { listen, fallback: Answer::text("I have all I need."), keep_requests: 0, ..Options::default() };
        let mut expert = Replay::start(options).await.with_context(|| format!("listening on {listen}"))?;
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            () = expert.wait() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_fetched_once_and_a_half_one_again() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("weights");
        std::fs::write(&model, [1, 2, 3]).unwrap();
        fetch(&model, 1).unwrap();
        assert_eq!(std::fs::metadata(&model).unwrap().len(), 1 << 20);
        fetch(&model, 1).unwrap();
        assert!(fetch(&folder.path().join("no/such"), 1).is_err());
    }
}
