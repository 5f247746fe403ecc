//! Certificates in, TLS configurations out: ours towards clients, and one per trust set towards experts.
//!
//! Deliberately absent: watching. Whoever watches the files builds again and swaps whole.

mod expiry;

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::config::TlsFiles;

/// What is wrong with a certificate or a key. Never carries their content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or is no PEM.
    #[error("cannot read {what} {file}: {source}")]
    Read {
        /// `certificate`, `key` or `CA`.
        what: &'static str,
        /// Its path.
        file: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// PEM, but without what was looked for.
    #[error("{file} has no certificate in it")]
    Empty {
        /// Its path.
        file: String,
    },
    /// Certificate and key do not go together, or are of a kind not supported.
    #[error("{file} cannot be used: {source}")]
    Unusable {
        /// Its path.
        file: String,
        /// Why.
        source: rustls::Error,
    },
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = || path.display().to_string();
    let read = |source| TlsError::Read { what, file: file(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if found.is_empty() { Err(TlsError::Empty { file: file() }) } else { Ok(found) }
}

/// What clients meet: HTTP/2 or HTTP/1.1, as they prefer.
///
/// # Errors
/// The file that cannot be used.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Read {
        what: "key",
        file: files.key.display().to_string(),
        source,
    })?;
    let unusable = |source| TlsError::Unusable { file: files.certificate.display().to_string(), source };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// When the certificate clients meet ends, in seconds since 1970; 0 where it does not say so in a way we know.
#[must_use]
pub fn not_after(files: &TlsFiles) -> i64 {
    let leaf = certificates(&files.certificate, "certificate").ok().and_then(|chain| expiry::not_after(chain.first()?));
    leaf.unwrap_or(0)
}

/// Whom we believe when we call an expert: the system's authorities (Mozilla's where the system has none, as in an image built from
/// scratch), and those of `extra`.
///
/// # Errors
/// The file that cannot be used.
pub fn client_config(extra: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = extra {
        for certificate in certificates(path, "CA")? {
            roots.add(certificate).map_err(|source| TlsError::Unusable { file: path.display().to_string(), source })?;
        }
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Unusable { file: String::new(), source })?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_the_certificates_own_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        let one = rcgen::generate_simple_self_signed(["one.test".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["other.test".to_owned()]).unwrap();
        std::fs::write(&files.certificate, one.cert.pem()).unwrap();
        std::fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
        let error = server_config(&files).unwrap_err().to_string();
        assert!(error.contains("tls.crt"), "{error}");
        std::fs::write(&files.key, one.signing_key.serialize_pem()).unwrap();
        server_config(&files).unwrap();
    }

    #[test]
    fn an_empty_ca_file_is_refused_rather_than_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, "").unwrap();
        assert!(client_config(Some(&path)).unwrap_err().to_string().contains("ca.crt"));
    }
}
