//! How things stand when a run failed: states, events and logs, as files in `<output>/state`.

use std::{fs, path::Path};

use crate::{
    cluster::Cluster,
    options::{Kind, Options},
};

/// What is asked of kubectl, and the file it goes to.
const QUESTIONS: [(&str, &str); 6] = [
    ("pods.txt", "get pods --all-namespaces --output wide"),
    ("pods.yaml", "get pods --all-namespaces --output yaml"),
    ("events.txt", "get events --all-namespaces --sort-by=.lastTimestamp"),
    ("routers.yaml", "get expertrouters,routermodels --all-namespaces --output yaml"),
    ("workloads.yaml", "get deployments,replicasets,jobs,services,endpointslices,persistentvolumeclaims --all-namespaces --output yaml"),
    ("nodes.txt", "describe nodes"),
];

/// Writes down what can still be found out. What cannot is left out: there was a first error, and it matters more.
pub(crate) async fn collect(cluster: &Cluster, options: &Options) {
    let folder = options.output.join("state");
    if let Err(error) = fs::create_dir_all(&folder) {
        eprintln!("e2e: making {}: {error}", folder.display());
        return;
    }
    for (file, question) in QUESTIONS {
        let mut arguments: Vec<&str> = question.split(' ').collect();
        arguments.push("--request-timeout=10s");
        let answer = cluster.kubectl(&arguments).unwrap_or_else(|error| format!("{error:#}"));
        write(&folder.join(file), &answer);
    }
    // The containers of an own cluster write their logs into the folder beside.
    if cluster.kind() == Kind::Existing {
        container_logs(cluster, &folder.join("logs"));
    }
}

fn container_logs(cluster: &Cluster, folder: &Path) {
    if let Err(error) = fs::create_dir_all(folder) {
        eprintln!("e2e: making {}: {error}", folder.display());
        return;
    }
    let names = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
    let pods = cluster.kubectl(&["get", "pods", "--all-namespaces", "--output", names]);
    for (namespace, pod) in pods.unwrap_or_default().lines().filter_map(|line| line.split_once('/')) {
        let arguments = ["logs", "--namespace", namespace, pod, "--all-containers", "--timestamps", "--tail=5000"];
        let said = cluster.kubectl(&arguments).unwrap_or_else(|error| format!("{error:#}"));
        write(&folder.join(format!("{namespace}-{pod}.log")), &said);
    }
}

fn write(path: &Path, content: &str) {
    if let Err(error) = fs::write(path, content) {
        eprintln!("e2e: writing {}: {error}", path.display());
    }
}
