//! `expert-router-replay`: a recording as a server.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use replay::{Answer, Options, Recording, Replay, Script, Tls};

const EXAMPLES: &str = "\
Examples:
  Answer as the expert `small` did, as fast as it did:
    expert-router-replay --outcomes outcomes.jsonl.gz --expert small --listen 127.0.0.1:8081
  Answer as any recorded expert, by the request's `model`, ten times faster:
    expert-router-replay --outcomes outcomes.jsonl --speed 10
  Without a recording: the same answer at once, every third request a 500:
    expert-router-replay --speed 0 --answer Yes. --script 'ok x2; status=500' --repeat
Script: steps parted by `;`, properties of a step by `,`, ` x3` or ` x*` behind a step repeats it:
  ok, delay=200ms, status=429, retry-after=2, hang, close (before any response), hang-after=3 and cut-after=3 (events),
  malformed-at=2, chunk-bytes=7 (cut the stream anywhere), no-usage. The request header x-replay-step takes one step, too.
Prints `READY http://ADDRESS` on standard output once it answers.";

/// An OpenAI-compatible expert that answers from a recording, at its recorded pace, with scripted faults
#[derive(Debug, Parser)]
#[command(name = "expert-router-replay", version, after_help = EXAMPLES)]
struct Arguments {
    /// An outcomes file (.jsonl, .jsonl.gz, .jsonl.zst); without one every prompt gets the fallback answer
    #[arg(long, env = "REPLAY_OUTCOMES", value_name = "FILE")]
    outcomes: Option<PathBuf>,
    /// Whose answers to give; without it the request's `model` names the expert
    #[arg(long, env = "REPLAY_EXPERT", value_name = "NAME")]
    expert: Option<String>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "REPLAY_LISTEN", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many times faster than recorded; 0 answers at once
    #[arg(long, env = "REPLAY_SPEED", default_value_t = 1.0)]
    speed: f64,
    /// The answer to prompts that are not recorded
    #[arg(long, env = "REPLAY_ANSWER", default_value = "This prompt is not in the recording.")]
    answer: String,
    /// How long that answer takes at speed 1
    #[arg(long, env = "REPLAY_ANSWER_SECONDS", default_value_t = 0.0, value_name = "SECONDS")]
    answer_seconds: f64,
    /// What goes wrong with which request (see below)
    #[arg(long, env = "REPLAY_SCRIPT", default_value = "")]
    script: String,
    /// Begin the script anew after its last step
    #[arg(long, env = "REPLAY_REPEAT")]
    repeat: bool,
    /// A file with the API keys of which requests must bear one, a line each
    #[arg(long, env = "REPLAY_API_KEY_FILE", value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Serve TLS with this certificate chain (PEM)
    #[arg(long, env = "REPLAY_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, env = "REPLAY_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Threads that serve
    #[arg(long, env = "REPLAY_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let threads = usize::from(arguments.threads);
    let options = options(arguments)?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?.block_on(serve(options))
}

async fn serve(options: Options) -> Result<()> {
    let listen = options.listen;
    let mut replay = Replay::start(options).await.with_context(|| format!("listening on {listen}"))?;
    println!("READY {}", replay.url());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        () = replay.wait() => bail!("the server broke"),
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

fn options(arguments: Arguments) -> Result<Options> {
    let recording = arguments.outcomes.as_deref().map(Recording::read).transpose()?.unwrap_or_default();
    if let Some(expert) =
        arguments.expert.as_deref().filter(|expert| arguments.outcomes.is_some() && !recording.experts().any(|name| name == *expert))
    {
        bail!("the recording has no expert {expert}; it has {}", recording.experts().collect::<Vec<_>>().join(", "));
    }
    if !arguments.speed.is_finite() || arguments.speed < 0.0 {
        bail!("--speed is {}; it is a number from 0", arguments.speed);
    }
    let script = Script::parse(&arguments.script).context("reading --script")?;
    let lasting = Duration::try_from_secs_f64(arguments.answer_seconds).context("reading --answer-seconds")?;
    let api_keys = arguments.api_key_file.as_deref().map(read).transpose()?;
    let tls = match (&arguments.tls_certificate, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls { certificates: read(certificate)?, key: read(key)? }),
        _ => None,
    };
    Ok(Options {
        listen: arguments.listen,
        recording,
        expert: arguments.expert,
        fallback: Answer::text(arguments.answer).lasting(lasting),
        speed: arguments.speed,
        script: if arguments.repeat { script.repeating() } else { script },
        api_keys: api_keys.map(|keys| lines(&keys)),
        tls,
        // Nobody could ask for them.
        keep_requests: 0,
    })
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}
