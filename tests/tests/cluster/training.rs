//! From two manifests to a published model and a snapshot with it, by the operator with the chart's rights. There is no node: the test
//! plays Jobs by running the real `expert-router-train` as the Job's container would, with its mounts as folders of this machine.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use replay::{Answer, Options, Recording, Replay};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Namespace, Operator, OperatorOptions, Release, condition};

/// The binaries under test.
const OPERATOR: &str = env!("CARGO_BIN_EXE_expert-router-operator-under-test");
const TRAIN: &str = env!("CARGO_BIN_EXE_expert-router-train-under-test");
const QUERIES: usize = 180;
/// A step takes seconds; a machine that is busy takes longer.
const PATIENCE: Duration = Duration::from_secs(240);

/// A third of the queries each: sums, which `atlas` knows; capitals, which `birch` knows; colours, which only `cedar` knows.
fn query(at: usize) -> Value {
    let split = ["train", "train", "train", "val", "test"][at / 3 % 5];
    let (dataset, prompt, answer) = match at % 3 {
        0 => ("sums", format!("Please add {at} and {} for me.", at * 7), (at * 8).to_string()),
        1 => ("capitals", format!("Name the capital of the province number {at}, please."), format!("Town{at}")),
        _ => ("colours", format!("Which colour has the wall in room {at}? Tell its paint."), format!("Shade{at}")),
    };
    json!({"id": format!("q{at}"), "dataset": dataset, "split": split, "prompt": prompt, "match": "contains", "answer": answer})
}

async fn expert(name: &str, knows: usize) -> Replay {
    let mut recording = Recording::default();
    for at in 0..QUERIES {
        let query = query(at);
        let right = at % 3 == knows || at % 20 == 7;
        let text = if right { format!("It is {}.", query["answer"].as_str().unwrap()) } else { "I cannot say.".to_owned() };
        recording.insert(query["prompt"].as_str().unwrap(), name, Answer::text(text).tokens(20, 0, 10));
    }
    Replay::start(Options { recording, expert: Some(name.to_owned()), speed: 0.0, ..Options::default() }).await.unwrap()
}

async fn start(release: &Release<'_>) -> Operator {
    let options = OperatorOptions { binary: OPERATOR, identity: "one", webhook_port: None, environment: &[] };
    release.start(&options).await.unwrap()
}

/// What Pods of Jobs find: claims and Services, which a cluster with nodes would have.
struct Node<'a> {
    namespace: &'a Namespace,
    folder: tempfile::TempDir,
    /// Addresses of Services, as its DNS has them, and where they lead.
    services: BTreeMap<String, String>,
    played: Vec<String>,
}

impl<'a> Node<'a> {
    fn new(namespace: &'a Namespace, services: BTreeMap<String, String>) -> Self {
        Self { namespace, folder: tempfile::tempdir().unwrap(), services, played: Vec::new() }
    }

    fn claim(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join("claims").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Runs what waits to be run, once.
    async fn play(&mut self) {
        let pods = self.namespace.list("pods", "expertrouter.dev/role=job").await.unwrap();
        for pod in pods.iter().filter(|pod| pod["status"]["phase"] == "Pending" && pod["metadata"]["deletionTimestamp"].is_null()) {
            let (code, message) = self.run(pod).await;
            self.namespace.end_pod(pod, code, &message).await.unwrap();
            self.played.push(pod["metadata"]["labels"]["expertrouter.dev/step"].as_str().unwrap().to_owned());
        }
    }

    /// Plays until the object satisfies it.
    async fn until(&mut self, collection: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.play().await;
            let object = self.namespace.find(collection, "chat").await.unwrap().unwrap_or_default();
            if holds(&object) {
                return object;
            }
            assert!(Instant::now() < deadline, "never: {what}; {object:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_ready(&mut self) -> Value {
        self.until("routermodels", "the model is ready", |model| {
            condition(model, "Ready")
                .is_some_and(|ready| ready["status"] == "True" && ready["observedGeneration"] == model["metadata"]["generation"])
        })
        .await
    }

    async fn run(&self, pod: &Value) -> (i32, String) {
        let place = self.folder.path().join("pods").join(pod["metadata"]["name"].as_str().unwrap());
        fs::create_dir_all(&place).unwrap();
        let mut mounts = Vec::new();
        for mount in pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap() {
            let volumes = pod["spec"]["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            mounts.push((mount["mountPath"].as_str().unwrap().to_owned(), self.mount(volume, &place).await));
        }
        let mapped = |argument: &Value| {
            let argument = argument.as_str().unwrap();
            let below = |(path, folder): &(String, PathBuf)| {
                let rest = argument.strip_prefix(path.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", folder.display()))
            };
            mounts.iter().find_map(below).unwrap_or_else(|| argument.to_owned())
        };
        let summary = place.join("termination-log");
        let mut command = Command::new(TRAIN);
        command.args(pod["spec"]["containers"][0]["args"].as_array().unwrap().iter().map(mapped)).arg("--summary").arg(&summary);
        let index = &pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"];
        command.envs(index.as_str().map(|index| ("JOB_COMPLETION_INDEX", index)));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let message = fs::read_to_string(&summary).unwrap_or(log);
        assert!(message.len() <= 4096 || !output.status.success(), "{message}");
        (output.status.code().unwrap_or(137), message)
    }

    /// A volume as a folder.
    async fn mount(&self, volume: &Value, place: &Path) -> PathBuf {
        if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            return self.claim(claim);
        }
        let folder = place.join(volume["name"].as_str().unwrap());
        fs::create_dir_all(&folder).unwrap();
        if let Some(name) = volume["configMap"]["name"].as_str() {
            let map = self.namespace.find("configmaps", name).await.unwrap().unwrap();
            for (key, text) in map["data"].as_object().unwrap() {
                let mut text = text.as_str().unwrap().to_owned();
                self.services.iter().for_each(|(name, address)| text = text.replace(name, address));
                fs::write(folder.join(key), text).unwrap();
            }
        }
        for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
            let name = source["secret"]["name"].as_str().unwrap();
            assert!(self.namespace.find("secrets", name).await.unwrap().is_some());
            for item in source["secret"]["items"].as_array().unwrap() {
                let path = folder.join(item["path"].as_str().unwrap());
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "s3cret").unwrap();
            }
        }
        folder
    }
}

fn expert_entry(name: &str, address: Value, price: &str) -> Value {
    let mut entry = json!({"name": name, "modelName": name, "pricing": {"perRequest": price}});
    entry.as_object_mut().unwrap().extend(address.as_object().unwrap().clone());
    entry
}

fn manifests(experts: &[Value], queries: &str) -> String {
    let objects = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "provider"}, "stringData": {"apiKey": "s3cret"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chat-queries"}, "data": {"queries.jsonl": queries}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "router-models"},
               "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        json!({"apiVersion": "expertrouter.dev/v1alpha1", "kind": "ExpertRouter", "metadata": {"name": "chat"},
               "spec": {"experts": experts, "model": {"routerModelRef": {"name": "chat"}}, "policy": {"fallbackExpert": "atlas"}}}),
        json!({"apiVersion": "expertrouter.dev/v1alpha1", "kind": "RouterModel", "metadata": {"name": "chat"},
               "spec": {"experts": {"expertRouterRef": {"name": "chat"}}, "queries": {"configMapRef": {"name": "chat-queries", "key": "queries.jsonl"}},
                        "scoring": {"metric": "Match"}, "router": {"type": "Lexical"}, "job": {"parallelism": 2, "maxCostUsd": "50"},
                        "output": {"persistentVolumeClaim": {"name": "router-models"}}, "promotion": {"mode": "Automatic", "requiredGain": "0.05"}}}),
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}

fn all_queries() -> String {
    (0..QUERIES).map(|at| format!("{}\n", query(at))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_manifests_become_a_model_in_service_and_changes_do_what_they_must_and_no_more() {
    let namespace = Cluster::shared().namespace("training").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let operator = start(&release).await;
    let (atlas, birch, cedar) = (expert("atlas", 0).await, expert("birch", 1).await, expert("cedar", 2).await);
    let services = BTreeMap::from([(format!("http://birch.{}.svc:8000", namespace.name), birch.url())]);
    let mut node = Node::new(&namespace, services);
    let credentials = json!({"url": format!("{}/v1", atlas.url()), "credentials": {"secretRef": {"name": "provider", "key": "apiKey"}}});
    let mut experts = vec![
        expert_entry("atlas", credentials, "0.02"),
        expert_entry("birch", json!({"service": {"name": "birch", "port": 8000}}), "0.005"),
    ];
    namespace.apply(&manifests(&experts, &all_queries())).unwrap();

    // Trained, published, in the snapshot.
    let model = node.until_ready().await;
    assert_eq!(node.played, ["prepare", "prepare", "fit", "evaluate", "publish"], "{}", operator.log());
    let digest = model["status"]["bundle"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(model["status"]["bundle"]["uri"], format!("pvc://router-models/chat/{digest}/bundle"));
    assert!(node.claim("router-models").join("chat").join(&digest).join("bundle/bundle.json").is_file());
    assert_eq!(model["status"]["progress"], json!({"done": 2 * QUERIES, "total": 2 * QUERIES}));
    let rows = model["status"]["evaluation"].as_array().unwrap();
    let score = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap()["score"].as_str().unwrap().parse::<f64>().unwrap();
    assert!(score("router at Quality") > score("best single") + 0.05, "{rows:#?}");
    assert_eq!((atlas.requests().len(), birch.requests().len()), (QUERIES, QUERIES));
    assert_eq!(atlas.requests()[0].header("authorization"), "Bearer s3cret");
    let in_service = |digest: String| move |router: &Value| router["status"]["model"]["digest"] == digest;
    let router = node.until("expertrouters", "the router has the model", in_service(digest.clone())).await;
    assert_eq!(condition(&router, "ModelReady").unwrap()["status"], "True", "{:#}", router["status"]);
    let revision = router["status"]["snapshotRevision"].clone();

    // A price: another snapshot and another evaluation; nobody is asked and nothing is trained.
    experts[0]["pricing"]["perRequest"] = json!("0.03");
    node.played.clear();
    namespace.apply(&manifests(&experts, &all_queries())).unwrap();
    node.until("expertrouters", "a new snapshot", |router| router["status"]["snapshotRevision"] != revision).await;
    let evaluated = model["status"]["evaluation"].clone();
    let model = node.until("routermodels", "a new evaluation", |model| model["status"]["evaluation"] != evaluated).await;
    assert_eq!((&node.played, &model["status"]["bundle"]["digest"]), (&vec!["evaluate".to_owned()], &json!(digest)));
    assert_eq!(atlas.requests().len() + birch.requests().len(), 2 * QUERIES);
    node.until_ready().await;

    // At rest nothing is written.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = namespace.cluster.calls();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let written = calls.writes_of(&namespace.name, release.account()).unwrap();
    assert!(written.is_empty(), "{written:#?}\n{}", operator.log());

    // One more expert: it alone is asked, and a better bundle takes the place of the other.
    experts.push(expert_entry("cedar", json!({"url": format!("{}/v1", cedar.url())}), "0.01"));
    node.played.clear();
    namespace.apply(&manifests(&experts, &all_queries())).unwrap();
    let other = |model: &Value| model["status"]["bundle"]["digest"] != json!(digest);
    let model = node.until("routermodels", "another bundle", other).await;
    let second = model["status"]["bundle"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(node.played, ["prepare", "prepare", "fit", "evaluate", "publish"]);
    assert_eq!((atlas.requests().len(), birch.requests().len(), cedar.requests().len()), (QUERIES, QUERIES, QUERIES));
    let router = node.until("expertrouters", "the router has the new model", in_service(second)).await;
    // No proxy is there to load it.
    assert_ne!(condition(&router, "ModelCompatible").unwrap()["status"], "False", "{:#}", router["status"]);
    assert!(node.claim("router-models").join("chat").join(&digest).join("bundle/bundle.json").is_file(), "the older one stays beside");

    // The model goes: the router says so and goes on, and nothing of the model is left.
    namespace.kubectl(&["delete", "routermodel", "chat"]).unwrap();
    let router = node.until("expertrouters", "the router says so", |router| {
        condition(router, "ModelReady").is_some_and(|ready| ready["status"] == "False")
    });
    assert_eq!(condition(&router.await, "ModelReady").unwrap()["reason"], "NoModel");
    for collection in ["batch/v1/jobs", "pods", "configmaps"] {
        let gone = tests::eventually("nothing of it is left", Duration::from_secs(90), async || {
            Ok(namespace.list(collection, "expertrouter.dev/model=chat").await?.is_empty())
        });
        gone.await.unwrap_or_else(|error| panic!("{error}: {collection}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_named_and_a_step_that_fails_says_why() {
    let namespace = Cluster::shared().namespace("training-trouble").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let operator = start(&release).await;
    let mut node = Node::new(&namespace, BTreeMap::new());
    let dead = json!({"url": "http://127.0.0.1:9/v1"});
    let experts = [expert_entry("atlas", dead.clone(), "0.02"), expert_entry("birch", dead, "0.005")];
    let whole = manifests(&experts, "{\"id\": \"q0\", \"prompt\": \"Hello?\"}\n{\"id\": broken\n");
    let mut objects: Vec<&str> = whole.split("\n---\n").collect();
    // The model alone, then what it names, one by one.
    let model = objects.pop().unwrap();
    namespace.apply(model).unwrap();
    namespace.until_condition("routermodels", "chat", "Ready", "False", "RouterMissing").await.unwrap();
    namespace.apply(objects.pop().unwrap()).unwrap();
    namespace.until_condition("routermodels", "chat", "Ready", "False", "QueriesMissing").await.unwrap();
    namespace.apply(objects[1]).unwrap();
    namespace.until_condition("routermodels", "chat", "Ready", "False", "VolumeMissing").await.unwrap();
    namespace.apply(objects[2]).unwrap();
    namespace.until_condition("routermodels", "chat", "Ready", "False", "Asking").await.unwrap();
    let said =
        |model: &Value| condition(model, "DataPrepared").is_some_and(|it| it["message"].as_str().unwrap().contains("queries.jsonl:2"));
    node.until("routermodels", "the failure is told", said).await;
    drop(operator);
}
