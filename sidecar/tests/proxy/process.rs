//! The binary: flags, exit codes, signals.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::support::{Client, Expert, Step, budget, chat, chunk, events, eventually, expert_json, snapshot};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_expert-router"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to its end.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Running; its log is read on a thread of its own.
struct Process {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    client: Client,
    admin: Client,
}

impl Process {
    fn start(folder: &Path, flags: &[&str]) -> Self {
        let mut child = command()
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json", "--snapshot"])
            .arg(folder.join("snapshot.json"))
            .args(flags)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        let (ready, serves) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if line["message"] == "expert-router serves" {
                    ready.send(line.clone()).unwrap();
                }
                kept.lock().unwrap().push(line);
            }
        });
        let line = serves.recv().unwrap();
        let client = |field: &str| Client::new(line[field].as_str().unwrap().parse().unwrap());
        Self { client: client("listen"), admin: client("admin"), child, log }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    fn logged(&self, message: &str) -> Vec<Value> {
        self.log.lock().unwrap().iter().filter(|line| line["message"] == message).cloned().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder(content: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("snapshot.json"), content.to_string()).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_every_request_under_way_end_and_exits_0() {
    let release = Arc::new(Notify::new());
    let held = release.clone();
    let expert = Expert::start(move |_, seen| {
        if seen.json()["stream"] == true {
            let mut steps = events(&["begun"], None);
            steps.push(Step::Hold(held.clone()));
            steps.extend([chunk("data: [DONE]\n\n"), Step::send("0\r\n\r\n")]);
            return steps;
        }
        [vec![Step::Hold(held.clone())], chat("ok", None)].concat()
    })
    .await;
    let folder = folder(&snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({})));
    let mut process = Process::start(folder.path(), &["--drain-seconds", "30"]);
    let calls: Vec<_> = (0..20)
        .map(|number| {
            // A connection each, as of twenty clients.
            let client = Client::new(process.client.address());
            let body = json!({"model": "one", "stream": number % 2 == 0, "messages": [{"role": "user", "content": "?"}]});
            tokio::spawn(async move { client.post("/v1/chat/completions", &body).await })
        })
        .collect();
    eventually("all are under way", || async { expert.count() == 20 }).await;
    process.signal("TERM");
    eventually("unready", || async { process.admin.get("/readyz").await.status == 503 }).await;
    release.notify_waiters();
    for call in calls {
        let answer = call.await.unwrap();
        assert!(answer.status == 200 && answer.complete, "{answer:?}");
    }
    assert_eq!(process.ended().await.code(), Some(0));
    assert_eq!(process.logged("request").len(), 20);
    assert_eq!(process.logged("every connection ended within the grace").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_ends_with_its_grace_and_a_second_signal_ends_it_at_once() {
    let expert = Expert::always(vec![Step::Hang]).await;
    let content = snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}));
    let call = |client: &Client| {
        let (client, body) = (client.clone(), json!({"model": "one", "messages": [{"role": "user", "content": "?"}]}).to_string());
        tokio::spawn(async move { client.try_post("/v1/chat/completions", body).await })
    };
    let first = folder(&content);
    let mut process = Process::start(first.path(), &["--drain-seconds", "0.2"]);
    let call_1 = call(&process.client);
    eventually("under way", || async { expert.count() == 1 }).await;
    process.signal("INT");
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(call_1.await.unwrap().is_none());
    let second = folder(&content);
    let mut process = Process::start(second.path(), &["--drain-seconds", "600"]);
    let call_2 = call(&process.client);
    eventually("under way", || async { expert.count() == 2 }).await;
    process.signal("TERM");
    eventually("draining", || async { process.logged("draining").len() == 1 }).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(143));
    assert!(call_2.await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_end_of_the_grace_cuts_is_logged_and_paid_for_as_that() {
    let expert = Expert::start(|_, seen| {
        let begun = if seen.json()["stream"] == true { events(&["begun"], None) } else { Vec::new() };
        [begun, vec![Step::Hang]].concat()
    })
    .await;
    // A token is a dollar, and each stream has two.
    let one = expert_json("one", &expert.url(), json!({"prices": {"outputPerMillion": 1_000_000.0}}));
    let folder = folder(&snapshot(&[one], json!({"budgets": [budget(100.0, "Refuse")]})));
    let spent = folder.path().join("spent.json");
    let mut process = Process::start(folder.path(), &["--drain-seconds", "0.2", "--state-file", spent.to_str().unwrap()]);
    let body = |stream| json!({"model": "one", "stream": stream, "messages": [{"role": "user", "content": "?"}]}).to_string();
    let (mut streams, mut calls) = (Vec::new(), Vec::new());
    for client in [Client::new(process.client.address()), Client::http2(process.client.address())] {
        streams.push(client.begin(Method::POST, "/v1/chat/completions", &[], body(true).into()).await);
        let body = body(false);
        calls.push(tokio::spawn(async move { client.try_post("/v1/chat/completions", body).await }));
    }
    eventually("all are under way", || async { expert.count() == 4 }).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
    for call in calls {
        assert!(call.await.unwrap().is_none());
    }
    for stream in streams {
        assert!(stream.into_body().collect().await.is_err());
    }
    eventually("the log is read", || async { process.logged("request").len() == 4 }).await;
    for line in process.logged("request") {
        assert_eq!(line["outcome"], "shutdown", "{line}");
    }
    let spent: Value = serde_json::from_slice(&std::fs::read(spent).unwrap()).unwrap();
    assert_eq!(spent.pointer("/accounts/day/spentUsd"), Some(&json!(4.0)), "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_a_request_without_prompt_or_secret() {
    let expert = Expert::always(chat("The answer is secret too.", Some((5, 1, 2)))).await;
    let folder = folder(&json!({}));
    std::fs::write(folder.path().join("token"), "expert-token").unwrap();
    let one =
        expert_json("one", &expert.url(), json!({"credentialsFile": folder.path().join("token"), "prices": {"outputPerMillion": 5.0}}));
    std::fs::write(folder.path().join("snapshot.json"), snapshot(&[one], json!({})).to_string()).unwrap();
    let process = Process::start(folder.path(), &["--log", "trace"]);
    let body = json!({"model": "one", "messages": [{"role": "user", "content": "My dark prompt."}]}).to_string();
    process.client.post_with("/v1/chat/completions", &[("x-request-id", "r-1"), ("authorization", "Bearer client-token")], body).await;
    eventually("the line", || async { process.logged("request").len() == 1 }).await;
    let line = process.logged("request").remove(0);
    let expected = json!({"request_id": "r-1", "endpoint": "chat_completions", "outcome": "ok", "status": 200, "expert": "one",
        "reason": "pinned", "stream": false, "attempts": 1, "input_tokens": 5, "cached_tokens": 1, "output_tokens": 2, "estimated": false});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&line[field], value, "{field} of {line}");
    }
    let ours: Vec<_> = process
        .log
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line["target"].as_str().unwrap().contains("router") || line["target"].as_str().unwrap().contains("sidecar"))
        .cloned()
        .collect();
    let all = serde_json::to_string(&ours).unwrap();
    for kept in ["dark prompt", "secret too", "expert-token", "client-token"] {
        assert!(!all.contains(kept), "{kept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_says_who_failed_before_somebody_answered() {
    let (ill, well) = (Expert::always(vec![Step::Close]).await, Expert::always(chat("ok", None)).await);
    let experts = [expert_json("ill", &ill.url(), json!({})), expert_json("well", &well.url(), json!({}))];
    let folder = folder(&snapshot(&experts, json!({"policy": {"fallbackExpert": "ill"}})));
    let process = Process::start(folder.path(), &[]);
    process.client.post("/v1/chat/completions", &json!({"messages": [{"role": "user", "content": "?"}]})).await;
    eventually("the line", || async { process.logged("request").len() == 1 }).await;
    let line = process.logged("request").remove(0);
    assert_eq!((&line["chosen"], &line["expert"], &line["failed"]), (&json!("ill"), &json!("well"), &json!("ill:reset")), "{line}");
}

#[test]
fn check_prints_the_table_or_the_field_that_is_wrong() {
    let sound = folder(&snapshot(&[expert_json("coder", "http://127.0.0.1:1/v1", json!({}))], json!({})));
    let path = |folder: &tempfile::TempDir| folder.path().join("snapshot.json").to_str().unwrap().to_owned();
    let (code, out, error) = run(&["--snapshot", &path(&sound), "--check"]);
    assert!(code == Some(0) && out.contains("coder") && error.is_empty(), "{out}{error}");
    let wrong = folder(&snapshot(&[expert_json("coder", "nowhere", json!({}))], json!({})));
    let (code, out, error) = run(&["--snapshot", &path(&wrong), "--check"]);
    assert!(code == Some(2) && out.is_empty() && error.contains("experts[0].baseUrl"), "{error}");
    let (code, _, error) = run(&["--snapshot", &path(&wrong), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(code == Some(2) && error.contains("experts[0].baseUrl"), "{error}");
    let (code, _, error) = run(&["--snapshot", "/nowhere/snapshot.json", "--check"]);
    assert!(code == Some(2) && error.contains("/nowhere/snapshot.json"), "{error}");
    let (code, _, error) = run(&[]);
    assert!(code == Some(2) && error.contains("--manifest"), "{error}");
    let (code, out, _) = run(&["--help"]);
    assert!(code == Some(0) && out.contains("Examples:") && out.contains("EXPERT_ROUTER_LISTEN"), "{out}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let sound = folder(&snapshot(&[expert_json("coder", "http://127.0.0.1:1/v1", json!({}))], json!({})));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = sound.path().join("snapshot.json");
    let (code, _, error) = run(&["--snapshot", file.to_str().unwrap(), "--listen", &address, "--admin", "127.0.0.1:0"]);
    assert!(code == Some(1) && error.contains(&address) && error.contains("--listen"), "{error}");
}

#[test]
fn every_flag_is_also_an_environment_variable() {
    let sound = folder(&snapshot(&[expert_json("coder", "http://127.0.0.1:1/v1", json!({}))], json!({})));
    let output = command().env("EXPERT_ROUTER_SNAPSHOT", sound.path().join("snapshot.json")).arg("--check").output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("coder"));
}

#[test]
fn a_manifest_is_read_as_in_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.yaml");
    let manifest = "apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {name: chat}
spec:
  experts:
    - {name: small, url: \"http://127.0.0.1:8001/v1\", modelName: small-1b, pricing: {inputPerMillion: \"0.10\", outputPerMillion: \"0.40\"}}
    - {name: large, url: \"https://llm.example.com/v1\", modelName: large}
  policy: {objective: Quality, fallbackExpert: small}
";
    std::fs::write(&path, manifest).unwrap();
    let (code, out, error) = run(&["--manifest", path.to_str().unwrap(), "--check"]);
    assert!(code == Some(0) && out.contains("small-1b") && out.contains("https://llm.example.com/v1"), "{out}{error}");
    std::fs::write(&path, manifest.replace("\"0.10\"", "\"ten cents\"")).unwrap();
    let (code, _, error) = run(&["--manifest", path.to_str().unwrap(), "--check"]);
    assert!(code == Some(2) && error.contains("inputPerMillion"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_delay_it_is_unready_and_still_answers_new_clients() {
    let expert = Expert::always(chat("ok", None)).await;
    let folder = folder(&snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({})));
    let mut process = Process::start(folder.path(), &["--drain-delay-seconds", "600"]);
    assert_eq!(process.admin.get("/readyz").await.status, 200);
    process.signal("TERM");
    eventually("unready", || async { process.admin.get("/readyz").await.status == 503 }).await;
    assert_eq!(process.admin.get("/healthz").await.status, 200);
    let body = json!({"model": "one", "messages": [{"role": "user", "content": "?"}]});
    assert_eq!(Client::new(process.client.address()).post("/v1/chat/completions", &body).await.status, 200);
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(143));
}
