//! The four steps of a training, as the operator's Jobs call them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use api::training::{Evaluated, Fitted, Prepared, Published, Summary};
use replay::{Answer, Options, Recording, Replay, Script};
use serde_json::{Value, json};

const QUERIES: usize = 160;

/// Half of the queries are sums, which `atlas` knows; the others are capitals, which `birch` knows.
fn query(at: usize) -> Value {
    let split = ["train", "train", "train", "val", "test"][at / 2 % 5];
    let (prompt, answer) = match at % 2 {
        0 => (format!("Please add {at} and {} for me.", at * 7), (at * 8).to_string()),
        _ => (format!("Name the capital of the province number {at}, please."), format!("Town{at}")),
    };
    let dataset = ["sums", "capitals"][at % 2];
    json!({"id": format!("q{at}"), "dataset": dataset, "split": split, "prompt": prompt, "match": "contains", "answer": answer})
}

fn recording() -> Recording {
    let mut recording = Recording::default();
    for at in 0..QUERIES {
        let query = query(at);
        let (prompt, right) = (query["prompt"].as_str().unwrap(), query["answer"].as_str().unwrap());
        for (expert, knows) in [("atlas", at % 2 == 0), ("birch", at % 2 == 1), ("cedar", false)] {
            let text = if knows || at % 16 == 3 { format!("It is {right}.") } else { "I cannot say.".to_owned() };
            recording.insert(prompt, expert, Answer::text(text).tokens(20, 0, 10));
        }
    }
    recording
}

/// Experts in this process, a work space, and what the operator would mount.
struct Site {
    folder: tempfile::TempDir,
    experts: Vec<(&'static str, Replay)>,
}

impl Site {
    async fn new() -> Self {
        let mut experts = Vec::new();
        for name in ["atlas", "birch", "cedar"] {
            let expert = name.to_owned();
            let options =
                Options { recording: recording(), expert: Some(expert), speed: 0.0, script: Script::fine(), ..Options::default() };
            experts.push((name, Replay::start(options).await.unwrap()));
        }
        let site = Self { folder: tempfile::tempdir().unwrap(), experts };
        site.write("queries.jsonl", &(0..QUERIES).map(|at| format!("{}\n", query(at))).collect::<String>());
        site
    }

    /// With these experts at these prices for a request.
    fn manifest(&self, experts: &[(&str, &str)], more: &str) {
        let url = |name: &str| self.experts.iter().find(|(expert, _)| *expert == name).unwrap().1.url();
        let experts: String = experts
            .iter()
            .map(|(name, price)| {
                let url = url(name);
                format!(
                    "    - {{name: {name}, url: \"{url}/v1\", modelName: {name}, pricing: {{perRequest: \"{price}\"}}, \
                     credentials: {{secretRef: {{name: keys, key: {name}}}}}}}\n"
                )
            })
            .collect();
        let head = "apiVersion: expertrouter.dev/v1alpha1\nkind:";
        self.write(
            "manifest.yaml",
            &format!(
                "{head} ExpertRouter\nmetadata: {{name: chat}}\nspec:\n  experts:\n{experts}---\n{head} RouterModel\nmetadata: {{name: chat}}\n\
                 spec:\n  experts: {{expertRouterRef: {{name: chat}}}}\n  queries: {{configMapRef: {{name: q, key: q}}}}\n  scoring: {{metric: Match}}\n  \
                 router: {{type: Lexical{more}}}\n  output: {{persistentVolumeClaim: {{name: models}}}}\n"
            ),
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn job(&self, step: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_expert-router-train"));
        command.current_dir(self.folder.path()).args([
            "job",
            step,
            "--manifest",
            "manifest.yaml",
            "--workspace",
            "work",
            "--summary",
            "said",
        ]);
        command.args(more);
        drop(fs::remove_file(self.path("said")));
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn done(&self, step: &str, more: &[&str]) -> Summary {
        let output = self.job(step, more).await;
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
        let said = fs::read_to_string(self.path("said")).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().last(), Some(said.as_str()));
        Summary::parse(&said).unwrap()
    }

    async fn prepare(&self, index: usize, parts: usize, more: &[&str]) -> Prepared {
        let (index, parts) = (index.to_string(), parts.to_string());
        let fixed = ["--queries", "queries.jsonl", "--secrets", "secrets", "--index", &index, "--parts", &parts];
        let Summary::Prepare(found) = self.done("prepare", &[&fixed, more].concat()).await else { panic!("another step") };
        found
    }

    async fn fit(&self, parts: &str) -> Fitted {
        let Summary::Fit(found) = self.done("fit", &["--parts", parts]).await else { panic!("another step") };
        found
    }

    async fn evaluate(&self, parts: &str, digest: &str, more: &[&str]) -> Evaluated {
        let fixed = ["--parts", parts, "--digest", digest];
        let Summary::Evaluate(found) = self.done("evaluate", &[&fixed, more].concat()).await else { panic!("another step") };
        found
    }

    fn requests(&self) -> usize {
        self.experts.iter().map(|(_, expert)| expert.requests().len()).sum()
    }

    /// Prepares these queries, one part after another.
    async fn prepare_all(&self, queries: &[usize], parts: usize, more: &[&str]) -> Vec<Prepared> {
        self.write("queries.jsonl", &queries.iter().map(|at| format!("{}\n", query(*at))).collect::<String>());
        let mut all = Vec::new();
        for index in 0..parts {
            all.push(self.prepare(index, parts, more).await);
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_training_goes_from_queries_to_a_published_bundle_and_asks_only_what_is_new() {
    let site = Site::new().await;
    for name in ["atlas", "birch", "cedar"] {
        site.write(&format!("secrets/keys/{name}"), "hush-hush\n");
    }
    site.manifest(&[("atlas", "0.02"), ("birch", "0.005")], "");
    let halves = [site.prepare(0, 2, &[]).await, site.prepare(1, 2, &[]).await];
    for half in &halves {
        assert_eq!((half.done, half.total, half.out_of_money, half.parts), (QUERIES as u64, QUERIES as u64, false, 2));
        assert!((half.spent_usd - 0.025 * QUERIES as f64 / 2.0).abs() < 1e-9, "{half:?}");
    }
    assert_eq!(site.requests(), 2 * QUERIES);
    // In other parts nobody is asked again, and the outcomes are the same.
    let whole = site.prepare(0, 1, &[]).await;
    assert_eq!((site.requests(), whole.done), (2 * QUERIES, 2 * QUERIES as u64));
    assert_eq!(site.prepare(0, 2, &[]).await.digest, halves[0].digest);

    let fitted = site.fit("2").await;
    assert_eq!((fitted.kind.as_str(), fitted.digest.len()), ("lexical", 64));
    assert_eq!(site.fit("2").await, fitted, "repeatable");
    let evaluated = site.evaluate("2", &fitted.digest, &[]).await;
    assert_eq!((evaluated.split.as_str(), evaluated.in_service.is_none()), ("test", true));
    assert!(evaluated.router.score > 0.9 && evaluated.best_single.score < 0.7, "{evaluated:?}");
    let names: Vec<&str> = evaluated.table.iter().map(|(name, _, _)| name.as_str()).collect();
    assert!(["router at Quality", "best single", "oracle of all", "atlas", "birch"].iter().all(|name| names.contains(name)), "{names:?}");
    let Summary::Publish(Published { digest }) = site.done("publish", &["--digest", &fitted.digest, "--output", "out/chat"]).await else {
        panic!("another step")
    };
    let published = site.path("out/chat").join(&digest);
    assert_eq!(model::Bundle::read(&published.join("bundle")).unwrap().digest, fitted.digest);
    assert!(published.join("evaluation.json").is_file() && published.join("report.html").is_file());

    // A price: the same outcomes and the same bundle, evaluated anew.
    site.manifest(&[("atlas", "0.08"), ("birch", "0.005")], "");
    assert_eq!(site.prepare(0, 2, &[]).await.digest, halves[0].digest);
    let dearer = site.evaluate("2", &fitted.digest, &["--in-force", &fitted.digest, "--output", "out/chat"]).await;
    assert!(dearer.router.cost.unwrap() > evaluated.router.cost.unwrap() * 2.0, "{dearer:?}");
    assert_eq!(dearer.in_service.map(|point| point.score), Some(evaluated.router.score));

    // One more expert: it alone is asked, and the bundle in force is compared on the same rows, fetched from where it was published.
    site.manifest(&[("atlas", "0.02"), ("birch", "0.005"), ("cedar", "0.0001")], "");
    let before = site.requests();
    let more = site.prepare(0, 1, &[]).await;
    assert_eq!((site.requests() - before, more.total), (QUERIES, 3 * QUERIES as u64));
    let again = site.fit("1").await;
    assert_ne!(again.digest, fitted.digest);
    fs::remove_dir_all(site.path("work/bundles").join(&fitted.digest)).unwrap();
    let compared = site.evaluate("1", &again.digest, &["--in-force", &fitted.digest, "--output", "out/chat"]).await;
    assert_eq!(compared.in_service.map(|point| point.name), Some(fitted.digest.clone()));

    // One expert less: the bundle in force chooses one that is gone, so there is nothing to compare with.
    site.manifest(&[("birch", "0.005"), ("cedar", "0.0001")], "");
    site.prepare(0, 1, &[]).await;
    let other = site.fit("1").await;
    let compared = site.evaluate("1", &other.digest, &["--in-force", &fitted.digest, "--output", "out/chat"]).await;
    assert_eq!(compared.in_service, None);
    assert_eq!(fs::read_dir(site.path("work")).unwrap().count(), 3, "parts, outcomes, bundles, and nothing temporary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_is_shared_by_the_parts_and_running_out_of_it_is_no_failure() {
    let site = Site::new().await;
    for name in ["atlas", "birch"] {
        site.write(&format!("secrets/keys/{name}"), "hush-hush\n");
    }
    site.manifest(&[("atlas", "0.02"), ("birch", "0.005")], "");
    let poor = site.prepare(0, 2, &["--max-cost-usd", "1"]).await;
    assert!(poor.out_of_money && poor.spent_usd <= 0.5 && poor.done < poor.total, "{poor:?}");
    let before = site.requests();
    let rich = site.prepare(0, 2, &["--max-cost-usd", "100"]).await;
    assert_eq!((rich.out_of_money, rich.done), (false, rich.total));
    assert_eq!(site.requests(), QUERIES, "{before} were asked before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_paid_counts_once_wherever_queries_go() {
    let site = Site::new().await;
    for name in ["atlas", "birch"] {
        site.write(&format!("secrets/keys/{name}"), "hush-hush\n");
    }
    site.manifest(&[("atlas", "0.02"), ("birch", "0.005")], "");
    let all: Vec<usize> = (0..12).collect();
    // The last comes first, so that all are in the other part.
    let rotated: Vec<usize> = [11].into_iter().chain(0..11).collect();
    let inserted: Vec<usize> = [12].into_iter().chain(0..12).collect();
    let every: Vec<usize> = (0..16).collect();
    let paid =
        || site.experts.iter().zip([0.02, 0.005, 0.0]).map(|((_, expert), price)| expert.requests().len() as f64 * price).sum::<f64>();
    for (queries, parts, asked) in [
        (&all[..], 2, 12),
        (&rotated[..], 2, 12),
        (&inserted[..], 2, 13),
        (&[0, 1, 2, 13][..], 1, 14),
        (&[1, 2, 3, 4, 5, 14][..], 3, 15),
        (&every[..], 2, 16),
        (&every[8..], 3, 16),
        (&every[..4], 1, 16),
        (&rotated[..], 2, 16),
    ] {
        let spent: f64 = site.prepare_all(queries, parts, &[]).await.iter().map(|part| part.spent_usd).sum();
        assert_eq!(site.requests(), 2 * asked, "{queries:?} in {parts}");
        assert!((spent - paid()).abs() < 1e-9, "{queries:?} in {parts}: {spent}");
    }
    // 0.4 is spent: the limit holds whatever each part spent before.
    let many: Vec<usize> = (0..40).collect();
    for parts in [3, 1, 2] {
        let found = site.prepare_all(&many, parts, &["--max-cost-usd", "0.4501"]).await;
        let spent: f64 = found.iter().map(|part| part.spent_usd).sum();
        assert!((spent - paid()).abs() < 1e-9 && spent > 0.4 && spent < 0.4501, "{parts}: {spent}");
        assert!(found.iter().any(|part| part.out_of_money), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_of_the_same_name_is_asked_anew() {
    let site = Site::new().await;
    for name in ["atlas", "birch"] {
        site.write(&format!("secrets/keys/{name}"), "hush-hush\n");
    }
    site.manifest(&[("atlas", "0.02"), ("birch", "0.005")], "");
    site.write("who.json", r#"{"atlas": "a", "birch": "b"}"#);
    site.prepare(0, 1, &["--fingerprints", "who.json"]).await;
    site.write("who.json", r#"{"atlas": "other", "birch": "b"}"#);
    site.prepare(0, 1, &["--fingerprints", "who.json"]).await;
    assert_eq!(site.requests(), 3 * QUERIES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_leaves_no_summary_and_says_why_at_the_end_of_its_log() {
    let site = Site::new().await;
    site.manifest(&[("atlas", "0.02"), ("birch", "0.005")], "");
    for (step, more, words) in [
        ("prepare", &["--queries", "nowhere.jsonl", "--secrets", "secrets"][..], "nowhere.jsonl"),
        ("prepare", &["--queries", "queries.jsonl"], "spec.experts[0].credentials"),
        ("prepare", &["--queries", "queries.jsonl", "--index", "2", "--parts", "2"], "--index"),
        ("fit", &["--parts", "2"], "part-0-of-2.jsonl.gz"),
        ("publish", &["--digest", "none", "--output", "out"], "none"),
    ] {
        fs::create_dir_all(site.path("work")).unwrap();
        let output = site.job(step, more).await;
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        assert!(!output.status.success() && last.starts_with("error: ") && last.contains(words), "{step} {more:?}: {said}");
        assert!(!site.path("said").exists());
    }
}
