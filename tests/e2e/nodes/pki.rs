//! Who is who in the cluster: an authority, a certificate for each program, and the key that signs tokens of service accounts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::{API_SERVER, NODES, SERVICES_FIRST, address, node_name};

/// Files, each called after its owner: `<owner>.crt`, `<owner>.key`, `<owner>.kubeconfig`.
#[derive(Debug)]
pub(crate) struct Pki {
    folder: PathBuf,
}

struct Owner<'a> {
    name: &'a str,
    common_name: &'a str,
    organisation: Option<&'a str>,
    /// DNS names and addresses; those who have some serve.
    at: Vec<String>,
}

impl Pki {
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let pki = Self { folder: folder.to_owned() };
        let mut authority = CertificateParams::new(Vec::<String>::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name = name("e2e", None);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        pki.write("authority.crt", &issuer.pem())?;
        pki.write("authority.key", &issuer.key().serialize_pem())?;
        let at_api_server =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", SERVICES_FIRST, &address(1)];
        let nodes: Vec<_> = (1..=NODES).map(|node| (node_name(node), format!("system:node:{}", node_name(node)), address(node))).collect();
        let mut owners = vec![
            Owner::serving("api-server", "kube-apiserver", at_api_server.map(str::to_owned).to_vec()),
            Owner::client("administrator", "administrator", Some("system:masters")),
            Owner::client("api-server-to-kubelet", "kube-apiserver-kubelet-client", Some("system:masters")),
            Owner::client("front-proxy", "front-proxy", None),
            Owner::client("controllers", "system:kube-controller-manager", None),
            Owner::client("scheduler", "system:kube-scheduler", None),
            Owner::client("proxy", "system:kube-proxy", None),
        ];
        for (name, common_name, address) in &nodes {
            let at = vec![name.clone(), address.clone(), "127.0.0.1".to_owned()];
            owners.push(Owner { organisation: Some("system:nodes"), ..Owner::serving(name, common_name, at) });
        }
        for owner in &owners {
            pki.certify(owner, &issuer)?;
        }
        let tokens = KeyPair::generate()?;
        pki.write("tokens.key", &tokens.serialize_pem())?;
        pki.write("tokens.pub", &tokens.public_key_pem())?;
        Ok(pki)
    }

    /// A file of it, such as `administrator.kubeconfig`.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn certify(&self, owner: &Owner<'_>, issuer: &CertifiedIssuer<'_, KeyPair>) -> Result<()> {
        let mut parameters = CertificateParams::new(owner.at.clone())?;
        parameters.distinguished_name = name(owner.common_name, owner.organisation);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        self.write(&format!("{}.crt", owner.name), &parameters.signed_by(&key, issuer)?.pem())?;
        self.write(&format!("{}.key", owner.name), &key.serialize_pem())?;
        self.write(&format!("{}.kubeconfig", owner.name), &self.kubeconfig(owner.name))
    }

    /// JSON is YAML.
    fn kubeconfig(&self, owner: &str) -> String {
        let user = json!({"client-certificate": self.file(&format!("{owner}.crt")), "client-key": self.file(&format!("{owner}.key"))});
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
            "clusters": [{"name": "e2e", "cluster": {"server": API_SERVER, "certificate-authority": self.file("authority.crt")}}],
            "users": [{"name": owner, "user": user}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": owner}}],
        })
        .to_string()
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    }
}

impl<'a> Owner<'a> {
    fn client(name: &'a str, common_name: &'a str, organisation: Option<&'a str>) -> Self {
        Self { name, common_name, organisation, at: Vec::new() }
    }

    fn serving(name: &'a str, common_name: &'a str, at: Vec<String>) -> Self {
        Self { name, common_name, organisation: None, at }
    }
}

fn name(common_name: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name
}
