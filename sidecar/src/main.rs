//! `expert-router`: flags, log, signals; all else is the library.

use std::process::ExitCode;

use clap::Parser;
use sidecar::{Config, Flags, StartError, allow_files, build::read_table, logging, trace::settings};
use tokio::signal::unix::{SignalKind, signal};

/// What was asked for makes no sense; as for a wrong flag.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    refuse_telemetry();
    allow_files();
    let flags = Flags::parse();
    let (check, format, filter) = (flags.check, flags.log_format, flags.log.clone());
    let mut config = Config::from(flags);
    if check {
        return match read_table(&config) {
            Ok(table) => {
                print!("{}", routing::render(&table));
                ExitCode::SUCCESS
            }
            Err(problem) => fail(&problem, WRONG),
        };
    }
    if let Err(problem) = logging::init(format, &filter) {
        return fail(&problem, WRONG);
    }
    let traces = settings::read(settings::variables(&config));
    for ignored in traces.ignored {
        tracing::warn!("{ignored}");
    }
    config.traces = traces.settings;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(config.threads).thread_name("serve").enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => fail(&error, 1),
    }
}

/// ONNX Runtime's own builds tell their maker of processes and models, from before the moment an interface lets one refuse. Unless this is
/// set when they are loaded.
#[expect(unsafe_code, reason = "the first thing that main does: no other thread could read the environment meanwhile")]
fn refuse_telemetry() {
    // SAFETY: there is one thread.
    unsafe {
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
    }
}

async fn serve(config: Config) -> ExitCode {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return fail(&"cannot listen for signals", 1);
    };
    // Reads files and loads a model: long enough to be told to stop meanwhile.
    let server = match tokio::task::block_in_place(|| sidecar::start(config)) {
        Ok(server) => server,
        Err(error @ StartError::Configuration(_)) => return fail(&error, WRONG),
        Err(error) => return fail(&error, 1),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut running = std::pin::pin!(server.run(async {
        // A dropped sender says the same.
        let _ = stopped.await;
    }));
    tokio::select! {
        _ = &mut running => return ExitCode::SUCCESS,
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
    let _ = stop.send(());
    tokio::select! {
        _ = running => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::from(128 + 15),
        _ = interrupt.recv() => ExitCode::from(128 + 2),
    }
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("expert-router: {error}");
    ExitCode::from(code)
}
