//! The webhook's certificate: made here, kept in a Secret, made anew in time, and its authority told to the API server.
//!
//! Every replica does this, and all serve what the Secret has: of two that make one at once the API server refuses the slower. A new
//! certificate comes with a new authority, whose key is thrown away; the one before stays trusted beside it, so that replicas may change
//! over one after the other. Where somebody else keeps the Secret (cert-manager), it is only read.

mod made;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    ByteString,
    api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use rustls::ServerConfig;
use serde_json::json;

use crate::{config::Webhook, metrics::Metrics, names};
use made::{Made, authorities, server_config};

/// A certificate is made anew when it is good for no longer than this.
const DAYS_LEFT: i64 = 30;
/// How often the Secret is looked at.
const EVERY: Duration = Duration::from_secs(60);
/// The same while there is no certificate to serve.
const SOON: Duration = Duration::from_secs(2);
/// Annotation of the Secret: when its certificate ends, in seconds since 1970.
const NOT_AFTER: &str = "expertrouter.dev/not-after";
/// Annotation of the Secret: what its certificate is made out to.
const HOSTS: &str = "expertrouter.dev/hosts";

/// What is served just now.
#[derive(Clone, Default)]
pub struct Serving {
    config: Arc<RwLock<Option<Arc<ServerConfig>>>>,
}

impl Serving {
    /// For a new connection.
    #[must_use]
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, config: Arc<ServerConfig>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The API server cannot be asked or told.
    #[error("{what}: {source}")]
    Api {
        /// What was done.
        what: &'static str,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// It cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What the Secret has is no certificate.
    #[error("Secret {secret}: {problem}")]
    Unusable {
        /// Which.
        secret: String,
        /// What is wrong.
        problem: String,
    },
}

/// Keeps the certificate.
pub struct Certificates {
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    webhook: Webhook,
    metrics: Arc<Metrics>,
}

impl Certificates {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str, webhook: Webhook, metrics: Arc<Metrics>) -> Self {
        Self { secrets: Api::namespaced(client.clone(), namespace), configurations: Api::all(client), webhook, metrics }
    }

    /// Looks after it, for ever. `ready` turns true once there is one to serve.
    pub async fn keep(self, serving: Serving, ready: Arc<AtomicBool>) {
        let mut served = None;
        loop {
            match self.look(&serving, &mut served).await {
                Ok(()) => ready.store(true, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "the webhook's certificate"),
            }
            tokio::time::sleep(if served.is_some() { EVERY } else { SOON }).await;
        }
    }

    async fn look(&self, serving: &Serving, served: &mut Option<String>) -> Result<(), CertificateError> {
        let name = &self.webhook.secret;
        let failed = |source| CertificateError::Api { what: "reading the Secret", source: Box::new(source) };
        let found = self.secrets.get_opt(name).await.map_err(failed)?;
        let secret = match found {
            Some(secret) if self.webhook.external || !is_due(&secret, &self.webhook.hosts, Timestamp::now()) => secret,
            None if self.webhook.external => return Err(self.unusable("it is not there yet")),
            found => self.renew(found).await?,
        };
        let data = secret.data.as_ref().ok_or_else(|| self.unusable("it is empty"))?;
        let part = |key: &str| data.get(key).map(|value| value.0.as_slice()).ok_or_else(|| self.unusable(&format!("it has no {key}")));
        if let Some(end) = not_after(&secret) {
            self.metrics.certificate_end.set(end);
        }
        // The API server trusts it before it is served.
        if let (Some(configuration), Ok(authority)) = (&self.webhook.configuration, part("ca.crt")) {
            self.announce(configuration, authority).await?;
        }
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        if served.as_ref() != Some(&version) {
            let config = server_config(part("tls.crt")?, part("tls.key")?).map_err(|problem| self.unusable(&problem))?;
            serving.set(config);
            tracing::info!(secret = name, "certificate in force");
            *served = Some(version);
        }
        Ok(())
    }

    fn unusable(&self, problem: &str) -> CertificateError {
        CertificateError::Unusable { secret: self.webhook.secret.clone(), problem: problem.to_owned() }
    }

    async fn renew(&self, before: Option<Secret>) -> Result<Secret, CertificateError> {
        let now = Timestamp::now();
        let made = Made::new(&self.webhook.hosts, now)?;
        let previous = before.as_ref().and_then(|secret| secret.data.as_ref()?.get("ca.crt")).map(|value| value.0.clone());
        let is_new = before.is_none();
        let mut secret = before.unwrap_or_default();
        secret.metadata.name = Some(self.webhook.secret.clone());
        secret.metadata.managed_fields = None;
        secret.metadata.labels.get_or_insert_default().insert(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned());
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(NOT_AFTER.to_owned(), made.not_after.as_second().to_string());
        annotations.insert(HOSTS.to_owned(), self.webhook.hosts.join(","));
        secret.type_.get_or_insert_with(|| "kubernetes.io/tls".to_owned());
        secret.data = Some(BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(made.certificate.into_bytes())),
            ("tls.key".to_owned(), ByteString(made.key.into_bytes())),
            ("ca.crt".to_owned(), ByteString(authorities(&made.authority, previous.as_deref()).into_bytes())),
        ]));
        let written = if is_new {
            self.secrets.create(&PostParams::default(), &secret).await
        } else {
            self.secrets.replace(&self.webhook.secret, &PostParams::default(), &secret).await
        };
        self.metrics.applied("Secret", "certificate");
        match written {
            Ok(secret) => Ok(secret),
            // Another replica was faster: what it made is as good.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let failed = |source| CertificateError::Api { what: "reading the Secret", source: Box::new(source) };
                self.secrets.get(&self.webhook.secret).await.map_err(failed)
            }
            Err(source) => Err(CertificateError::Api { what: "writing the Secret", source: Box::new(source) }),
        }
    }

    /// Tells the API server whom to trust, where it does not know.
    async fn announce(&self, configuration: &str, authority: &[u8]) -> Result<(), CertificateError> {
        let failed = |source| CertificateError::Api { what: "reading the MutatingWebhookConfiguration", source: Box::new(source) };
        let found = self.configurations.get(configuration).await.map_err(failed)?;
        let webhooks = found.webhooks.unwrap_or_default();
        let stale = |webhook: &&k8s_openapi::api::admissionregistration::v1::MutatingWebhook| {
            webhook.client_config.ca_bundle.as_ref().is_none_or(|known| known.0 != authority)
        };
        let bundle = json!(ByteString(authority.to_vec()));
        let patches: Vec<_> =
            webhooks.iter().filter(stale).map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}})).collect();
        if patches.is_empty() {
            return Ok(());
        }
        let failed = |source| CertificateError::Api { what: "writing the MutatingWebhookConfiguration", source: Box::new(source) };
        let parameters = PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
        self.configurations.patch(configuration, &parameters, &Patch::Strategic(json!({"webhooks": patches}))).await.map_err(failed)?;
        self.metrics.applied("MutatingWebhookConfiguration", "patch");
        Ok(())
    }
}

fn not_after(secret: &Secret) -> Option<i64> {
    secret.metadata.annotations.as_ref()?.get(NOT_AFTER)?.parse().ok()
}

/// Whether it is time for another: it ends soon, is made out to somebody else, or is not one of ours.
fn is_due(secret: &Secret, hosts: &[String], now: Timestamp) -> bool {
    let made_for = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(HOSTS));
    let whole = ["tls.crt", "tls.key", "ca.crt"].iter().all(|key| secret.data.as_ref().is_some_and(|data| data.contains_key(*key)));
    let good_for = not_after(secret).map_or(0, |end| end.saturating_sub(now.as_second()));
    !whole || made_for != Some(&hosts.join(",")) || good_for <= DAYS_LEFT * 86_400
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan;

    use super::{made::DAYS, *};

    fn hosts() -> Vec<String> {
        vec!["hook.xr.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    fn secret(now: Timestamp) -> Secret {
        let made = Made::new(&hosts(), now).unwrap();
        let text = |text: String| json!(ByteString(text.into_bytes()));
        serde_json::from_value(json!({
            "metadata": {"annotations": {NOT_AFTER: made.not_after.as_second().to_string(), HOSTS: "hook.xr.svc,127.0.0.1"}},
            "data": {"tls.crt": text(made.certificate), "tls.key": text(made.key), "ca.crt": text(made.authority)},
        }))
        .unwrap()
    }

    #[test]
    fn a_certificate_is_made_anew_in_time() {
        let now = Timestamp::from_second(1_780_000_000).unwrap();
        let later = |days: i64| now + (days * 24).hours();
        assert!(!is_due(&secret(now), &hosts(), now));
        assert!(!is_due(&secret(now), &hosts(), later(DAYS - DAYS_LEFT - 2)));
        assert!(is_due(&secret(now), &hosts(), later(DAYS - DAYS_LEFT + 1)));
        assert!(is_due(&secret(now), &["other".to_owned()], now));
        assert!(is_due(&Secret::default(), &hosts(), now));
    }
}
