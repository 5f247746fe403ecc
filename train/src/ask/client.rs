//! Connections to an expert.

use std::time::Duration;

use anyhow::Context;
use reqwest::Client;
use routing::snapshot::Expert;

/// A client with the expert's time-outs and certificates. It follows no redirect: that would send the key to whoever is named there.
pub(super) fn client(expert: &Expert) -> anyhow::Result<Client> {
    // Whoever was first has chosen; it is the same provider everywhere in this workspace.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeouts = &expert.timeouts;
    let mut builder = Client::builder()
        .user_agent(concat!("expert-router-train/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_millis(timeouts.connect_milliseconds))
        // An answer that does not stream has its head at its end: only the whole can be timed.
        .timeout(Duration::from_millis(timeouts.total_milliseconds))
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &expert.ca_file {
        let pem = std::fs::read(path).with_context(|| format!("expert {}: reading {}", expert.name, path.display()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).with_context(|| format!("certificates in {}", path.display()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().with_context(|| format!("preparing connections to expert {}", expert.name))
}
