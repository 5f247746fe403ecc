//! The chart through its life: linted, rendered, installed, upgraded, rolled back, uninstalled.

use std::{fs, path::PathBuf};

use insta::{Settings, assert_snapshot};
use serde_json::{Value, json};
use tests::{cluster::Cluster, workspace};

const CHART: &str = "charts/expert-router";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Values of `charts/expert-router/golden`, rendered and held against the file beside them.
fn check_rendering(case: &str) {
    let golden = workspace().join(CHART).join("golden");
    let values = golden.join(format!("{case}.yaml"));
    let values = values.to_string_lossy();
    let arguments = ["template", "xr", CHART, "--namespace", "expert-router", "--set", "crds.install=false", "--values", &values];
    let rendered = Cluster::shared().helm(&arguments).unwrap();
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(golden);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| assert_snapshot!(case, rendered));
}

#[test]
fn with_the_least_said_it_looks_after_the_whole_cluster() {
    check_rendering("defaults");
}

#[test]
fn bound_to_namespaces_it_has_rights_nowhere_else() {
    check_rendering("namespaces");
}

#[test]
fn with_everything_said_each_value_is_somewhere() {
    check_rendering("everything");
}

#[test]
fn lint_has_nothing_to_say_and_the_schema_refuses_slips() {
    let cluster = Cluster::shared();
    cluster.helm(&["lint", "--strict", CHART]).unwrap();
    for (set, expected) in [
        ("operator.replica=3", "additional properties 'replica' not allowed"),
        ("operator.replicas=11", "maximum: got 11, want 10"),
        ("webhook.failurePolicy=Perhaps", "value must be one of 'Ignore', 'Fail'"),
        ("images.router.digest=sha256:1", "does not match pattern"),
        ("namespaces=team-a", "got string, want array"),
    ] {
        let refused = cluster.helm(&["template", "xr", CHART, "--set", set]).unwrap_err().to_string();
        assert!(refused.contains(expected), "{set}: {refused}");
    }
}

#[tokio::test]
async fn every_object_passes_the_strictest_check_of_the_server() {
    let namespace = Cluster::shared().namespace("chart-strict").await.unwrap();
    for case in ["defaults", "namespaces", "everything"] {
        let values = format!("{CHART}/golden/{case}.yaml");
        let own = format!("namespaces={{{}}}", namespace.name);
        let mut arguments = vec!["template", "xr", CHART, "--namespace", &namespace.name, "--values", &values, "--no-hooks"];
        if case != "defaults" {
            arguments.extend(["--set", &own]);
        }
        let rendered = namespace.cluster.helm(&arguments).unwrap();
        let file = namespace.cluster.folder().join(format!("strict-{case}.yaml"));
        fs::write(&file, rendered).unwrap();
        let file = file.to_string_lossy();
        let said = namespace.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            &file,
        ]);
        assert!(said.as_ref().is_ok_and(|said| !said.contains("Warning")), "{case}: {said:?}");
    }
}

#[tokio::test]
async fn dashboards_and_rules_are_delivered_whole() {
    let namespace = Cluster::shared().namespace("monitoring").await.unwrap();
    namespace.install(&json!({"dashboards": {"enabled": true, "labels": {"grafana_dashboard": "yes"}}})).await.unwrap();
    let folder = workspace().join(CHART).join("files");
    for entry in fs::read_dir(folder.join("dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let name = format!("xr-{}", file.trim_end_matches(".json"));
        let delivered = namespace.find("configmaps", &name).await.unwrap().unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(delivered["data"][&file], fs::read_to_string(&path).unwrap());
        assert_eq!(delivered["metadata"]["labels"]["grafana_dashboard"], "yes");
    }
    let rule = |set: &str| -> Value {
        let only = ["--show-only", "templates/monitoring.yaml"];
        let rendered = namespace.cluster.helm(&["template", "xr", CHART, "--set", set, only[0], only[1]]).unwrap();
        serde_saphyr::from_str(&rendered).unwrap()
    };
    let elsewhere = rule("prometheusRule.enabled=true,prometheusRule.runbooks=https://git.example.com/runbooks/");
    let links: Vec<_> =
        elsewhere["spec"]["groups"][1]["rules"].as_array().unwrap().iter().map(|rule| &rule["annotations"]["runbook_url"]).collect();
    assert!(
        links
            .iter()
            .all(|link| link.as_str().unwrap().starts_with("https://git.example.com/runbooks/") && link.as_str().unwrap().ends_with(".md")),
        "{links:?}"
    );
    let rule = rule("prometheusRule.enabled=true");
    let rules: Value = serde_saphyr::from_str(&fs::read_to_string(folder.join("rules/expert-router.yaml")).unwrap()).unwrap();
    assert_eq!((&rule["kind"], &rule["spec"]), (&json!("PrometheusRule"), &rules));
}

/// No node runs the Pod of `helm test`, so its part is played; where it asks is held against what the chart made.
#[tokio::test(flavor = "multi_thread")]
async fn helm_test_asks_the_operator_whether_it_is_ready() {
    let namespace = Cluster::shared().namespace("helm-test").await.unwrap();
    namespace.install(&json!({})).await.unwrap();
    for (exit_code, expected) in [(0, true), (1, false)] {
        let (cluster, name) = (namespace.cluster, namespace.name.clone());
        let test = tokio::task::spawn_blocking(move || cluster.helm(&["test", "xr", "--namespace", &name, "--timeout", "90s"]));
        let pod = namespace.until("pods", "xr-expert-router-test", "a fresh Pod", |pod| pod["status"]["phase"] == "Pending").await.unwrap();
        let asked = pod["spec"]["containers"][0]["command"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
        assert_eq!(asked, format!("http://xr-expert-router-admin.{}.svc:9090/readyz", namespace.name));
        let service = namespace.find("services", "xr-expert-router-admin").await.unwrap().unwrap();
        assert_eq!((&service["spec"]["ports"][0]["port"], &service["spec"]["ports"][0]["targetPort"]), (&json!(9090), &json!("admin")));
        assert!(namespace.end_pod(&pod, exit_code, "").await.unwrap());
        let said = test.await.unwrap();
        assert_eq!(said.is_ok(), expected, "exit code {exit_code}: {said:?}");
    }
}

/// A release on a server of its own: the definitions, which all tests share, come and go with it.
struct Life {
    cluster: Cluster,
}

impl Life {
    async fn begin() -> Self {
        Self { cluster: Cluster::start().await.unwrap() }
    }

    fn helm(&self, arguments: &[&str]) -> String {
        self.cluster.helm(&[arguments, &["--namespace", "expert-router"]].concat()).unwrap()
    }

    async fn get(&self, path: &str) -> Option<Value> {
        self.cluster.api().unwrap().find(path).await.unwrap()
    }

    async fn operator(&self) -> Value {
        self.get("/apis/apps/v1/namespaces/expert-router/deployments/xr-expert-router").await.unwrap()
    }

    async fn crds(&self) -> usize {
        self.get(CRDS).await.unwrap()["items"].as_array().unwrap().len()
    }
}

const ROUTER: &str = "/apis/expertrouter.dev/v1alpha1/namespaces/default/expertrouters";
const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/expert-router-xr-expert-router";

#[tokio::test]
async fn a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_routers_stay() {
    let life = Life::begin().await;
    let api = life.cluster.api().unwrap();
    life.helm(&["install", "xr", CHART, "--create-namespace"]);
    assert_eq!(life.crds().await, 2);
    life.cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all"]).unwrap();
    let router = json!({"apiVersion": "expertrouter.dev/v1alpha1", "kind": "ExpertRouter", "metadata": {"name": "chat"},
                        "spec": {"experts": [{"name": "small", "url": "https://llm.example.com/v1", "modelName": "s"}]}});
    api.create(ROUTER, &router).await.unwrap();
    // As the operator does once it has made a certificate.
    let authority = ["config", "view", "--raw", "--flatten", "--output", "jsonpath={.clusters[0].cluster.certificate-authority-data}"];
    let authority = json!(life.cluster.kubectl(&authority).unwrap());
    let trust = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": authority}]).to_string();
    let configuration = "mutatingwebhookconfiguration/expert-router-xr-expert-router";
    life.cluster.kubectl(&["patch", configuration, "--type=json", "--patch", &trust, "--field-manager=expert-router-operator"]).unwrap();

    life.helm(&[
        "upgrade",
        "xr",
        CHART,
        "--set",
        "operator.replicas=3",
        "--set",
        "webhook.timeoutSeconds=7",
        "--set",
        "operator.log=debug",
    ]);
    let upgraded = life.operator().await;
    assert_eq!(upgraded["spec"]["replicas"], 3);
    assert!(upgraded.to_string().contains(r#"{"name":"EXPERT_ROUTER_OPERATOR_LOG","value":"debug"}"#));
    let webhook = &life.get(WEBHOOK).await.unwrap()["webhooks"][0];
    assert_eq!((&webhook["timeoutSeconds"], &webhook["clientConfig"]["caBundle"]), (&json!(7), &authority), "whom it trusts is not Helm's");

    life.helm(&["rollback", "xr", "1"]);
    let back = life.operator().await;
    assert_eq!(back["spec"]["replicas"], 2);
    assert!(back.to_string().contains(r#"{"name":"EXPERT_ROUTER_OPERATOR_LOG","value":"info"}"#));
    let webhook = &life.get(WEBHOOK).await.unwrap()["webhooks"][0];
    assert_eq!((&webhook["timeoutSeconds"], &webhook["clientConfig"]["caBundle"]), (&json!(5), &authority));

    life.helm(&["uninstall", "xr"]);
    assert!(life.get("/apis/apps/v1/namespaces/expert-router/deployments/xr-expert-router").await.is_none());
    assert!(life.get(WEBHOOK).await.is_none(), "a configuration left behind would slow down every Pod");
    let left =
        life.get("/apis/rbac.authorization.k8s.io/v1/clusterroles?labelSelector=app.kubernetes.io/part-of=expert-router").await.unwrap();
    assert_eq!(left["items"], json!([]));
    assert_eq!((life.crds().await, life.get(&format!("{ROUTER}/chat")).await.is_some()), (2, true), "kept, for nobody asked to lose them");

    // The definitions that were kept are taken over again, and go when asked.
    life.helm(&["install", "xr", CHART, "--take-ownership", "--set", "crds.keep=false"]);
    assert!(life.get(&format!("{ROUTER}/chat")).await.is_some());
    life.helm(&["uninstall", "xr"]);
    tests::eventually("the definitions are gone", std::time::Duration::from_secs(60), async || Ok(life.crds().await == 0)).await.unwrap();
}

#[test]
fn the_charts_definitions_are_those_of_the_folder_crds() {
    let files = |folder: PathBuf| {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(files(workspace().join("crds")), files(workspace().join(CHART).join("files/crds")));
}
