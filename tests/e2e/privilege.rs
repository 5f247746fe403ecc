//! Who may do what: Pods as they run, the operator's account as the API server sees it, network policies as they are written.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use http::Method;
use k8s_openapi::api::authentication::v1::TokenRequest;
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    objects::{Objects, name_of, status_of},
    report::Report,
    whole_loop::Installed,
};

/// Verb, group, resource, subresource.
type Right = (&'static str, &'static str, &'static str, &'static str);

/// What the operator has no business with.
const REFUSED: [Right; 14] = [
    ("create", "", "pods", ""),
    ("delete", "", "pods", ""),
    ("create", "", "pods", "exec"),
    ("create", "", "pods", "portforward"),
    ("update", "", "secrets", ""),
    ("delete", "", "secrets", ""),
    ("create", "", "serviceaccounts", "token"),
    ("delete", "", "persistentvolumeclaims", ""),
    ("patch", "", "nodes", ""),
    ("delete", "", "namespaces", ""),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("impersonate", "", "users", ""),
    ("patch", "expertrouter.dev", "expertrouters", ""),
    ("create", "apps", "daemonsets", ""),
];

/// What it cannot do without, so that a refusal above is not one of everything.
const GRANTED: [Right; 4] = [
    ("patch", "apps", "deployments", ""),
    ("create", "batch", "jobs", ""),
    ("patch", "", "pods", ""),
    ("patch", "expertrouter.dev", "expertrouters", "status"),
];

/// What those who need nothing of the API server may not even read.
const READ: [Right; 4] = [
    ("get", "", "secrets", ""),
    ("list", "", "pods", ""),
    ("get", "", "configmaps", ""),
    ("list", "expertrouter.dev", "expertrouters", ""),
];

/// Checks it in these namespaces.
pub(crate) async fn run(cluster: &Cluster, installed: &Installed, namespaces: &[&str], report: &mut Report) -> Result<()> {
    let objects = Objects::new(cluster.client.clone(), "");
    let mut told = Vec::new();
    for namespace in namespaces {
        told.push(pods(&objects.of(namespace), report).await?);
        told.push(policies(&objects.of(namespace), report).await?);
    }
    told.push(pods(&objects.of(installed.system), report).await?);
    told.push(account(cluster, &objects, installed, namespaces.first().copied().unwrap_or("default"), report).await?);
    report.section("Who may do what", &told.iter().map(|line| format!("- {line}\n")).collect::<String>());
    Ok(())
}

/// Every Pod as PodSecurity `restricted` and we ourselves want it.
async fn pods(objects: &Objects, report: &mut Report) -> Result<String> {
    let namespace = objects.of("").get("namespaces", &objects.namespace).await?;
    let enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted";
    if !enforced {
        report.fail(format!("{}: PodSecurity restricted is not enforced", objects.namespace));
    }
    let (mut seen, mut without_token) = (0, 0);
    for pod in objects.list("pods", "").await?.iter().filter(|pod| pod["status"]["phase"] == "Running") {
        seen += 1;
        let role = pod["metadata"]["labels"]["expertrouter.dev/role"].as_str().unwrap_or_default();
        for problem in problems(pod, !role.is_empty()) {
            report.fail(format!("{}/{}: {problem}", objects.namespace, name_of(pod)));
        }
        without_token += u32::from(!role.is_empty());
    }
    if seen == 0 {
        report.fail(format!("{}: no Pod runs there", objects.namespace));
    }
    Ok(format!(
        "`{}`: PodSecurity `restricted` is enforced; {seen} Pods run as somebody other than root, with a read-only root, no capabilities and no way to more; {without_token} gateways, sidecars, experts and Jobs among them hold no API token.",
        objects.namespace
    ))
}

/// What a Pod has that it should not.
fn problems(pod: &Value, of_the_data_plane: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let of_pod = &pod["spec"]["securityContext"];
    let containers = ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
    for container in containers {
        let own = &container["securityContext"];
        let either = |field: &str| if own[field].is_null() { &of_pod[field] } else { &own[field] };
        let mut check = |fine: bool, what: &str| {
            if !fine {
                problems.push(format!("container {}: {what}", container["name"].as_str().unwrap_or_default()));
            }
        };
        check(*either("runAsNonRoot") == true, "may run as root");
        check(own["readOnlyRootFilesystem"] == true, "its root can be written");
        check(own["allowPrivilegeEscalation"] == false, "may gain privileges");
        check(own["capabilities"]["drop"] == json!(["ALL"]), "keeps capabilities");
        check(either("seccompProfile")["type"] == "RuntimeDefault", "runs without seccomp");
    }
    let volumes = pod["spec"]["volumes"].as_array();
    let sources = volumes.into_iter().flatten().filter_map(|volume| volume["projected"]["sources"].as_array()).flatten();
    if of_the_data_plane && sources.into_iter().any(|source| !source["serviceAccountToken"].is_null()) {
        problems.push("holds an API token".into());
    }
    problems
}

/// What its policies say. Whether a network enforces them is the cluster's affair.
async fn policies(objects: &Objects, report: &mut Report) -> Result<String> {
    let gateways = objects.list("pods", "expertrouter.dev/role=gateway").await?;
    let policies = objects.list("networking.k8s.io/v1/networkpolicies", "").await?;
    for pod in &gateways {
        let Some(policy) = policies.iter().find(|policy| selects(policy, pod)) else {
            report.fail(format!("{}: no NetworkPolicy selects {}", objects.namespace, name_of(pod)));
            continue;
        };
        for problem in policy_problems(policy) {
            report.fail(format!("{}: NetworkPolicy {}: {problem}", objects.namespace, name_of(policy)));
        }
    }
    Ok(format!(
        "`{}`: each of {} gateways has a NetworkPolicy: in by its two ports alone, out to what its experts need.",
        objects.namespace,
        gateways.len()
    ))
}

fn selects(policy: &Value, pod: &Value) -> bool {
    let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object();
    wanted.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value))
}

fn policy_problems(policy: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let spec = &policy["spec"];
    for kind in ["Ingress", "Egress"] {
        if !spec["policyTypes"].as_array().is_some_and(|kinds| kinds.iter().any(|other| other == kind)) {
            problems.push(format!("does not speak of {kind}"));
        }
    }
    let ports =
        |rule: &Value| rule["ports"].as_array().map(|ports| ports.iter().filter_map(|port| port["port"].as_u64()).collect::<Vec<_>>());
    let ingress: Vec<_> = spec["ingress"].as_array().into_iter().flatten().map(ports).collect();
    if ingress != [Some(vec![8080, 9090])] {
        problems.push(format!("lets in by {ingress:?}"));
    }
    let open = |rule: &Value| rule["to"].as_array().is_none_or(Vec::is_empty) && rule["ports"].as_array().is_none_or(Vec::is_empty);
    if spec["egress"].as_array().into_iter().flatten().any(open) {
        problems.push("lets out to everywhere".into());
    }
    problems
}

/// What the operator's account is granted and refused, by asking the API server, and by trying.
async fn account(cluster: &Cluster, objects: &Objects, installed: &Installed, namespace: &str, report: &mut Report) -> Result<String> {
    let system = objects.of(installed.system);
    let operator = system.get("apps/v1/deployments", installed.release).await?;
    let name =
        operator["spec"]["template"]["spec"]["serviceAccountName"].as_str().context("the operator has no account of its own")?.to_owned();
    let user = format!("system:serviceaccount:{}:{name}", installed.system);
    for (wanted, rights) in [(false, &REFUSED[..]), (true, &GRANTED[..])] {
        for right in rights {
            if may(objects, &user, namespace, *right).await? != wanted {
                report.fail(format!("the operator {} {right:?}", if wanted { "may not" } else { "may" }));
            }
        }
    }
    let accounts = data_plane_accounts(&objects.of(namespace)).await?;
    for account in &accounts {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        for right in REFUSED.iter().chain(&GRANTED).chain(&READ) {
            if may(objects, &user, namespace, *right).await? {
                report.fail(format!("{user} may {right:?}"));
            }
        }
    }
    tried(cluster, &system, &name, namespace, report).await?;
    Ok(format!(
        "The operator's account is refused what it was not granted ({} rights asked for, and one tried with its own token); the {} accounts of gateways and experts are refused all of that, what the operator is granted, and reading.",
        REFUSED.len(),
        accounts.len()
    ))
}

/// The accounts that gateways and experts of the namespace run as.
async fn data_plane_accounts(objects: &Objects) -> Result<BTreeSet<String>> {
    let pods = objects.list("pods", "expertrouter.dev/role%20in%20(gateway,expert)").await?;
    Ok(pods.iter().filter_map(|pod| pod["spec"]["serviceAccountName"].as_str().map(str::to_owned)).collect())
}

/// Whether somebody may do something, as the API server says.
async fn may(objects: &Objects, user: &str, namespace: &str, right: Right) -> Result<bool> {
    let (verb, group, resource, subresource) = right;
    let attributes = json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:serviceaccounts", "system:authenticated"], "resourceAttributes": attributes}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = objects.call(Method::POST, path, Some(("application/json", &review))).await?;
    Ok(answer["status"]["allowed"] == true)
}

/// With the account's own token: a Pod cannot be made, and its own objects can be read.
async fn tried(cluster: &Cluster, system: &Objects, account: &str, namespace: &str, report: &mut Report) -> Result<()> {
    let request = TokenRequest::default();
    let path = format!("{}/token", system.path("serviceaccounts", account));
    let token = system.call(Method::POST, &path, Some(("application/json", &serde_json::to_value(&request)?))).await?;
    let token = token["status"]["token"].as_str().context("no token")?.to_owned();
    let client = client_of(cluster, token).await?;
    let own = Objects::new(client, namespace);
    own.list("expertrouters", "").await.context("the operator's own objects")?;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "not-to-be"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    match own.create("pods", &pod).await {
        Err(error) if status_of(&error) == Some(403) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            report.fail("the operator made a Pod");
            system.of(namespace).delete("pods", "not-to-be", Some(0)).await
        }
    }
}

/// The API server as the holder of that token sees it.
async fn client_of(cluster: &Cluster, token: String) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig).context("reading the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.context("a kubeconfig")?;
    config.proxy_url = None;
    config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    Client::try_from(config).context("a client with the operator's token")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}],
            "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        }})
    }

    #[test]
    fn a_token_is_a_problem_of_the_data_plane_alone() {
        assert_eq!(problems(&pod(), true), ["holds an API token"]);
        assert!(problems(&pod(), false).is_empty());
    }

    #[test]
    fn each_privilege_is_found() {
        let mut pod = pod();
        pod["spec"]["containers"][0]["securityContext"] = json!({"runAsNonRoot": false});
        assert_eq!(problems(&pod, false).len(), 4);
    }

    #[test]
    fn a_policy_that_lets_everything_out_is_none() {
        let policy = |egress: Value| json!({"spec": {"policyTypes": ["Ingress", "Egress"], "ingress": [{"ports": [{"port": 8080}, {"port": 9090}]}], "egress": egress}});
        assert!(policy_problems(&policy(json!([{"to": [{"podSelector": {}}]}]))).is_empty());
        assert_eq!(policy_problems(&policy(json!([{}]))), ["lets out to everywhere"]);
        assert_eq!(policy_problems(&json!({"spec": {}})).len(), 3);
    }
}
