//! Certificates as such: one made with an authority of its own, the authorities that are to be trusted, and what a server needs of one.
//! No I/O; what time it is is an argument.

use std::sync::Arc;

use k8s_openapi::jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::names;

/// A certificate is good for this long.
pub(super) const DAYS: i64 = 90;

/// A certificate that was just made, as PEM.
pub(super) struct Made {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) authority: String,
    pub(super) not_after: Timestamp,
}

impl Made {
    /// Made out to these hosts. The authority's key is gone when this returns.
    pub(super) fn new(hosts: &[String], now: Timestamp) -> Result<Self, rcgen::Error> {
        // Whole days, the first of them yesterday: clocks differ.
        let date = |days: i64| {
            let date = now.to_zoned(TimeZone::UTC).date().saturating_add(days.days());
            let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
            (rcgen::date_time_ymd(i32::from(date.year()), month, day), date)
        };
        let ((from, _), (until, end)) = (date(-1), date(DAYS));
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, format!("{} authority {}", names::MANAGER, now.as_second()));
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        (authority.not_before, authority.not_after) = (from, until);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut certificate = CertificateParams::new(hosts.to_vec())?;
        certificate.distinguished_name.push(DnType::CommonName, names::MANAGER);
        certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        certificate.use_authority_key_identifier_extension = true;
        (certificate.not_before, certificate.not_after) = (from, until);
        let key = KeyPair::generate()?;
        let certificate = certificate.signed_by(&key, &authority)?;
        let not_after = end.to_zoned(TimeZone::UTC).map_or(now, |end| end.timestamp());
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), authority: authority.pem(), not_after })
    }
}

/// The new authority, and the one before it.
pub(super) fn authorities(new: &str, previous: Option<&[u8]>) -> String {
    const END: &str = "-----END CERTIFICATE-----\n";
    let previous = previous.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let newest = previous.split_inclusive(END).next().unwrap_or_default();
    format!("{new}{newest}")
}

/// What a server needs to serve it.
pub(super) fn server_config(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, String> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().map_err(|error| format!("tls.crt: {error}"))?;
    // Never with its content.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "tls.key: expected a private key in PEM".to_owned())?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Vec<String> {
        vec!["hook.xr.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    #[test]
    fn a_client_that_trusts_the_authority_trusts_the_server() {
        let made = Made::new(&hosts(), Timestamp::now()).unwrap();
        let config = server_config(made.certificate.as_bytes(), made.key.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(made.authority.as_bytes()).unwrap()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Arc::new(client);
        for (name, trusted) in [("hook.xr.svc", true), ("127.0.0.1", true), ("other.xr.svc", false)] {
            let mut client = rustls::ClientConnection::new(client.clone(), name.try_into().unwrap()).unwrap();
            let mut server = rustls::ServerConnection::new(config.clone()).unwrap();
            assert_eq!(handshake(&mut client, &mut server), trusted, "{name}");
        }
    }

    fn handshake(client: &mut rustls::ClientConnection, server: &mut rustls::ServerConnection) -> bool {
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut wire = wire.as_slice();
            while !wire.is_empty() {
                client.read_tls(&mut wire).unwrap();
                if client.process_new_packets().is_err() {
                    return false;
                }
            }
        }
        true
    }

    #[test]
    fn the_authority_before_stays_trusted_and_the_one_before_that_does_not() {
        let pem = |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
        let second = authorities(&pem("b"), Some(pem("a").as_bytes()));
        assert_eq!(second, pem("b") + &pem("a"));
        assert_eq!(authorities(&pem("c"), Some(second.as_bytes())), pem("c") + &pem("b"));
        assert_eq!(authorities(&pem("a"), None), pem("a"));
    }

    #[test]
    fn a_broken_key_is_never_shown() {
        let problem = server_config(b"", b"hunter2").unwrap_err();
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}
