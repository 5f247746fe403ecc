//! The server's certificate and the key that signs the tokens of service accounts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Files for the servers' flags.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// PEM: whom clients trust.
    pub(crate) authority: String,
    /// The same, as a file.
    pub(crate) authority_file: PathBuf,
    /// The API server's certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Signs tokens of service accounts.
    pub(crate) token_key: PathBuf,
    /// Checks them.
    pub(crate) token_public_key: PathBuf,
}

impl Certificates {
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let write = |name: &str, content: &str| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            Ok(path)
        };
        let mut authority = CertificateParams::new(Vec::<String>::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let (key, token_key) = (KeyPair::generate()?, KeyPair::generate()?);
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?.signed_by(&key, &issuer)?;
        Ok(Self {
            authority: issuer.pem(),
            authority_file: write("authority.crt", &issuer.pem())?,
            certificate: write("server.crt", &server.pem())?,
            key: write("server.key", &key.serialize_pem())?,
            token_key: write("token.key", &token_key.serialize_pem())?,
            token_public_key: write("token.pub", &token_key.public_key_pem())?,
        })
    }
}
