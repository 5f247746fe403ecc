//! Flags and environment to a checked configuration.
//!
//! In: the command line; every flag is also `EXPERT_ROUTER_<FLAG>`. Out: [`Config`], ready to use: times as durations, paths resolved.
//! Deliberately absent: anything about experts, prices or policies. That is the snapshot's, and changes without a restart.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Parser, ValueEnum};

use crate::trace;

/// Bodies above this many bytes are refused.
const DEFAULT_MAX_BODY_BYTES: usize = 32 << 20;

const EXAMPLES: &str = "Examples:
  Route by a manifest on this machine, and call it:
    expert-router --manifest chat.yaml --listen 127.0.0.1:8080
    curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
      -d '{\"model\": \"auto\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'
  See what it would route by, without serving:
    expert-router --manifest chat.yaml --check
  Read credentials from <DIR>/<secret name>/<key>, serve TLS:
    expert-router --manifest chat.yaml --secrets-dir secrets --tls-cert tls.crt --tls-key tls.key
  The same by environment, as in a Pod:
    EXPERT_ROUTER_SNAPSHOT=/etc/expert-router/snapshot.json EXPERT_ROUTER_LOG_FORMAT=json expert-router";

/// Sends each OpenAI-style request to the expert that answers it best for the money.
#[derive(Debug, Clone, Parser)]
#[command(name = "expert-router", version, after_help = EXAMPLES)]
#[command(group(ArgGroup::new("source").required(true).args(["manifest", "snapshot"])))]
pub struct Flags {
    /// `ExpertRouter` YAML to route by (and any `RouterModel` in the same file). Watched.
    #[arg(long, value_name = "FILE", env = "EXPERT_ROUTER_MANIFEST")]
    pub manifest: Option<PathBuf>,
    /// Snapshot JSON to route by, as the operator mounts it. Watched.
    #[arg(long, value_name = "FILE", env = "EXPERT_ROUTER_SNAPSHOT")]
    pub snapshot: Option<PathBuf>,
    /// Where clients call: HTTP/1.1 and HTTP/2, with TLS where a certificate is given.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080", env = "EXPERT_ROUTER_LISTEN")]
    pub listen: SocketAddr,
    /// Metrics, health and the active snapshot. Plain HTTP.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090", env = "EXPERT_ROUTER_ADMIN")]
    pub admin: SocketAddr,
    /// `credentials.secretRef: {name, key}` of a manifest is the file DIR/name/key.
    #[arg(long, value_name = "DIR", env = "EXPERT_ROUTER_SECRETS_DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Where an expert of a manifest is on this machine; needed for those with a `deployment`. May be given several times.
    #[arg(long = "expert-url", value_name = "NAME=URL", value_parser = expert_url, value_delimiter = ',', env = "EXPERT_ROUTER_EXPERT_URL")]
    pub expert_urls: Vec<(String, String)>,
    /// PEM certificate chain to serve TLS with. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "EXPERT_ROUTER_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// PEM private key of the certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "EXPERT_ROUTER_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// libonnxruntime.so. Without it ORT_DYLIB_PATH, else what `make fetch` brought, else the loader's search path.
    #[arg(long, value_name = "FILE", env = "EXPERT_ROUTER_ONNXRUNTIME")]
    pub onnxruntime: Option<PathBuf>,
    /// Threads that serve requests. 0: one per core.
    #[arg(long, value_name = "N", default_value_t = 0, env = "EXPERT_ROUTER_THREADS")]
    pub threads: usize,
    /// Threads that run the router model's encoder. 0: one per core, less one.
    #[arg(long, value_name = "N", default_value_t = 0, env = "EXPERT_ROUTER_SCORE_THREADS")]
    pub score_threads: usize,
    /// Larger request bodies are refused with 413.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_BODY_BYTES, env = "EXPERT_ROUTER_MAX_BODY_BYTES")]
    pub max_body_bytes: usize,
    /// How long a client may take to send a request's head; also how long an idle connection is kept.
    #[arg(long, value_name = "SECONDS", default_value_t = 75.0, value_parser = seconds, env = "EXPERT_ROUTER_IDLE_SECONDS")]
    pub idle_seconds: f64,
    /// How long a client may pause while it sends a body, before it gets 408.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds, env = "EXPERT_ROUTER_BODY_IDLE_SECONDS")]
    pub body_idle_seconds: f64,
    /// After SIGTERM or SIGINT, how long requests under way may take to end.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds, env = "EXPERT_ROUTER_DRAIN_SECONDS")]
    pub drain_seconds: f64,
    /// After SIGTERM or SIGINT, how long to be unready but still accept: time for load balancers to look elsewhere.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds, env = "EXPERT_ROUTER_DRAIN_DELAY_SECONDS")]
    pub drain_delay_seconds: f64,
    /// Keeps what budgets have spent across restarts. Standalone only: in a cluster the operator does.
    #[arg(long, value_name = "FILE", env = "EXPERT_ROUTER_STATE_FILE")]
    pub state_file: Option<PathBuf>,
    /// A bundle to try in shadow: it is asked about a share of the requests, what it would have chosen is counted, and nothing else.
    /// Goes before the one of the manifest or snapshot.
    #[arg(long, value_name = "DIR", env = "EXPERT_ROUTER_SHADOW_BUNDLE")]
    pub shadow_bundle: Option<PathBuf>,
    /// The share of requests it is asked about.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100), env = "EXPERT_ROUTER_SHADOW_PERCENT")]
    pub shadow_percent: u8,
    /// Where requests are kept for training, if the manifest asks for it (`observability.requestLog`). They have people's words in them.
    #[arg(long, value_name = "DIR", env = "EXPERT_ROUTER_REQUEST_LOG_DIR")]
    pub request_log_dir: Option<PathBuf>,
    /// Log lines for people or for machines. They go to standard error.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "EXPERT_ROUTER_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What to log: a level, or `target=level` pairs as in `info,sidecar=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "EXPERT_ROUTER_LOG")]
    pub log: String,
    /// Check the manifest or snapshot, print the table it would route by, and exit: 0 where it is sound, else 2.
    #[arg(long, env = "EXPERT_ROUTER_CHECK")]
    pub check: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which file says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `ExpertRouter` YAML.
    Manifest(PathBuf),
    /// Snapshot JSON.
    Snapshot(PathBuf),
}

impl Source {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Manifest(path) | Self::Snapshot(path) => path,
        }
    }
}

/// A certificate chain and its key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// Ready to use.
#[derive(Debug, Clone)]
pub struct Config {
    /// Manifest or snapshot.
    pub source: Source,
    /// Where clients call.
    pub listen: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
    /// Secrets of a manifest.
    pub secrets_directory: Option<PathBuf>,
    /// Addresses of a manifest's experts, by name.
    pub expert_urls: BTreeMap<String, String>,
    /// Present: clients call by TLS.
    pub tls: Option<TlsFiles>,
    /// The library, where it is named.
    pub onnxruntime: Option<PathBuf>,
    /// Threads that serve, at least one.
    pub threads: usize,
    /// Threads that score, at least one.
    pub score_threads: usize,
    /// Cap of request bodies.
    pub max_body_bytes: usize,
    /// For a request's head, and between requests.
    pub idle: Duration,
    /// Between two pieces of a request's body.
    pub body_idle: Duration,
    /// Grace for requests under way at the end.
    pub drain: Duration,
    /// Unready but accepting, before that.
    pub drain_delay: Duration,
    /// Budgets' memory.
    pub state_file: Option<PathBuf>,
    /// To be tried in shadow, whatever the source says.
    pub shadow: Option<routing::snapshot::Shadow>,
    /// Where requests are kept.
    pub request_log_dir: Option<PathBuf>,
    /// Where spans go, by OpenTelemetry's variables: no flag of ours says it a second time.
    pub traces: Option<trace::Settings>,
}

impl From<Flags> for Config {
    fn from(flags: Flags) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let source = match (flags.manifest, flags.snapshot) {
            (Some(path), _) => Source::Manifest(path),
            (None, path) => Source::Snapshot(path.expect("the argument group requires one of the two")),
        };
        Self {
            source,
            listen: flags.listen,
            admin: flags.admin,
            secrets_directory: flags.secrets_dir,
            expert_urls: flags.expert_urls.into_iter().collect(),
            tls: flags.tls_cert.zip(flags.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
            onnxruntime: flags.onnxruntime,
            threads: if flags.threads == 0 { cores } else { flags.threads },
            score_threads: if flags.score_threads == 0 { cores.saturating_sub(1).max(1) } else { flags.score_threads },
            max_body_bytes: flags.max_body_bytes,
            idle: Duration::from_secs_f64(flags.idle_seconds),
            body_idle: Duration::from_secs_f64(flags.body_idle_seconds),
            drain: Duration::from_secs_f64(flags.drain_seconds),
            drain_delay: Duration::from_secs_f64(flags.drain_delay_seconds),
            state_file: flags.state_file,
            shadow: flags.shadow_bundle.map(|bundle| routing::snapshot::Shadow {
                model: routing::snapshot::Model { uri: bundle.to_string_lossy().into_owned(), sha256: None },
                percent: flags.shadow_percent,
            }),
            request_log_dir: flags.request_log_dir,
            traces: None,
        }
    }
}

/// Seconds with a fraction, from nothing to a day: more is a slip of the unit.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=86_400.0).contains(&value) => Ok(value),
        _ => Err("expected seconds from 0 to 86400".into()),
    }
}

/// Whether the URL is one is for the manifest's checks to say.
fn expert_url(text: &str) -> Result<(String, String), String> {
    let (name, url) = text.split_once('=').ok_or("expected NAME=URL, as in local=http://127.0.0.1:8000/v1")?;
    Ok((name.to_owned(), url.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &str, expect: Result<(), &str>) {
        let words = std::iter::once("expert-router").chain(arguments.split_whitespace());
        match (Flags::try_parse_from(words), expect) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{arguments}: {error}"),
            (result, _) => panic!("{arguments}: {result:?}"),
        }
    }

    #[test]
    fn flags_say_what_is_missing_or_too_much() {
        check("--manifest a.yaml", Ok(()));
        check("--snapshot a.json --threads 3", Ok(()));
        check("", Err("--manifest <FILE>|--snapshot <FILE>"));
        check("--manifest a --snapshot b", Err("cannot be used with"));
        check("--manifest a --tls-cert c", Err("--tls-key"));
        check("--manifest a --drain-seconds=-1", Err("expected seconds"));
        check("--manifest a --drain-seconds=NaN", Err("expected seconds"));
        check("--manifest a --listen nowhere", Err("--listen"));
        check("--manifest a --expert-url local=http://127.0.0.1:1/v1 --expert-url b=http://b/v1", Ok(()));
        check("--manifest a --expert-url local", Err("expected NAME=URL"));
    }

    #[test]
    fn every_flag_is_also_an_environment_variable_of_its_name() {
        use clap::CommandFactory;
        for argument in Flags::command().get_arguments() {
            let flag = argument.get_long().unwrap();
            let variable = format!("EXPERT_ROUTER_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().and_then(std::ffi::OsStr::to_str), Some(variable.as_str()), "--{flag}");
            assert!(argument.get_help().is_some(), "--{flag}");
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = Config::from(Flags::try_parse_from(["expert-router", "--manifest", "a.yaml"]).unwrap());
        assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(config.admin, "0.0.0.0:9090".parse().unwrap());
        assert_eq!(config.max_body_bytes, 32 * 1024 * 1024);
        assert!(config.threads >= 1 && config.score_threads >= 1);
    }
}
