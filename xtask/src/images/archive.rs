//! An OCI image layout in a tar: layers, configuration, manifest, index, each named by its digest.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::Layer;

/// What a container of the image begins with.
#[derive(Debug)]
pub(crate) struct Configuration<'a> {
    /// The program, and what it is always told.
    pub(crate) entrypoint: &'a [&'a str],
    /// Numbers, so that Kubernetes sees that it is not root.
    pub(crate) user: &'a str,
    /// Environment variables.
    pub(crate) environment: &'a BTreeMap<&'a str, &'a str>,
}

/// Writes the archive; the manifest's digest, which is the image's.
pub(crate) fn write_archive(path: &Path, name: &str, configuration: &Configuration<'_>, layers: &[Vec<u8>]) -> Result<String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = json!({"architecture": architecture, "os": "linux"});
    let variables: Vec<String> = configuration.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": configuration.entrypoint, "User": configuration.user, "Env": variables, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created_by": "xtask images"})).collect::<Vec<_>>(),
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect::<Vec<_>>(),
    })
    .to_string();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    entry["platform"] = platform;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}).to_string();

    let mut archive = Layer::new();
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, false);
    archive.file("index.json", index.as_bytes(), false);
    for blob in layers.iter().map(Vec::as_slice).chain([config.as_bytes(), manifest.as_bytes()]) {
        archive.file(&format!("blobs/{}", digest(blob).replace(':', "/")), blob, false);
    }
    fs::write(path, archive.finish()?).with_context(|| format!("writing {}", path.display()))?;
    Ok(digest(manifest.as_bytes()))
}

fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(content), "size": content.len()})
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digest_leads_to_what_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let environment = BTreeMap::from([("A", "b")]);
        let configuration = Configuration { entrypoint: &["/x"], user: "65532:65532", environment: &environment };
        let mut layer = Layer::new();
        layer.file("/x", b"x", true);
        let made = write_archive(&path, "localhost/x:1", &configuration, &[layer.finish().unwrap()]).unwrap();
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(fs::File::open(&path).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
        }
        let blob = |descriptor: &Value| {
            let name = descriptor["digest"].as_str().unwrap().replace(':', "/");
            let content = &files[&format!("blobs/{name}")];
            assert_eq!(descriptor["size"], content.len());
            assert_eq!(descriptor["digest"], digest(content));
            content.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["digest"], made);
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&blob(&manifest["layers"][0])));
    }
}
