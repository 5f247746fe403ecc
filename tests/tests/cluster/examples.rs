//! Every manifest that people start from is taken as it stands.

use std::fs;

use tests::{cluster::Cluster, workspace};

#[tokio::test]
async fn each_passes_the_strictest_check_of_the_server() {
    let namespace = Cluster::shared().namespace("examples").await.unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(workspace().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let said = namespace.kubectl(&["apply", "--dry-run=server", "--validate=strict", "--filename", &path.to_string_lossy()]);
        let said = said.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        // PodSecurity warns of Pods that it would refuse; kubectl prints that on standard error, refusals fail.
        assert!(said.lines().all(|line| line.ends_with("created (server dry run)")), "{name}: {said}");
        seen += 1;
    }
    assert_eq!(seen, 5, "edge and cloud, three pods, paid APIs, adapters, budget and stickiness");
}

#[tokio::test]
async fn what_the_chart_prints_after_its_installation_is_taken_too() {
    let namespace = Cluster::shared().namespace("notes").await.unwrap();
    let notes = namespace.cluster.helm(&["install", "notes", "charts/expert-router", "--dry-run=client", "--hide-notes=false"]).unwrap();
    let (_, after) = notes.split_once("kubectl apply -f - <<EOF\n").expect("the notes show a first router");
    let (manifest, _) = after.split_once("\nEOF").unwrap();
    namespace.apply(manifest).unwrap();
    assert!(namespace.find("expertrouters", "chat").await.unwrap().is_some());
}
