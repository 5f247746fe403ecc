//! The load client: runs in a Pod, sends requests at a steady rate whatever becomes of them, and keeps a record of each until it is asked
//! for. It is told what to do on a port of its own, and goes on by itself while nobody can tell it anything.

pub(crate) mod answer;
pub(crate) mod connections;
pub(crate) mod control;
pub(crate) mod generator;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod send;

use std::{
    net::SocketAddr,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use generator::Generator;

/// Where it is told what to do.
pub(crate) const CONTROL_PORT: u16 = 7070;

/// Whom it calls.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadOptions {
    /// The base URL of the router, with `/v1`; an injected Pod has it in this variable
    #[arg(long, env = "OPENAI_BASE_URL", value_name = "URL")]
    url: String,
    /// Where it is told what to do
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], CONTROL_PORT)))]
    listen: SocketAddr,
    /// Stands in front of each request's id
    #[arg(long, value_name = "NAME", default_value = "load")]
    name: String,
}

/// Sends them.
pub(crate) fn run(options: &LoadOptions) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(serve(options)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: &LoadOptions) -> Result<()> {
    let (address, path) = split(&options.url)?;
    // Ids are of this process alone, though another Pod may have had its name before.
    let name = format!("{}-{:x}", options.name, unix_milliseconds() / 1000);
    let generator = Generator::new(&name, &address, &path);
    let listener = tokio::net::TcpListener::bind(options.listen).await.with_context(|| format!("listening on {}", options.listen))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        () = generator.clone().generate() => Ok(()),
        () = control::serve(listener, generator) => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// `http://host:port/path` to host and port, and path.
fn split(url: &str) -> Result<(String, String)> {
    let uri: http::Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let host = uri.host().with_context(|| format!("{url} names no host"))?;
    Ok((format!("{host}:{}", uri.port_u16().unwrap_or(80)), uri.path().trim_end_matches('/').to_owned()))
}

/// The wall clock: what happened here is set against what happened elsewhere.
pub(crate) fn unix_milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_an_address_and_a_path() {
        assert_eq!(split("http://127.0.0.1:15080/v1").unwrap(), ("127.0.0.1:15080".into(), "/v1".into()));
        assert_eq!(split("http://chat-gateway.ns.svc/v1/").unwrap(), ("chat-gateway.ns.svc:80".into(), "/v1".into()));
    }
}
