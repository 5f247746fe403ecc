//! What docs/status.md shows people is what kubectl printed here: the page is held against it, or written anew with `UPDATE_DOCS=1`.

use std::{fs, time::Duration};

use serde_json::json;
use tests::{cluster::Cluster, eventually, workspace};

use crate::operator::{ready_router, start};

const PAGE: &str = "docs/status.md";

/// A second router, whose Secret is not there, beside a model that waits for its queries.
const BROKEN: &str = r#"
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {name: broken}
spec:
  experts:
    - name: frontier
      url: https://llm.example.com/v1
      modelName: large
      credentials: {secretRef: {name: forgotten, key: apiKey}}
  model: {routerModelRef: {name: broken}}
  policy: {fallbackExpert: frontier}
---
apiVersion: expertrouter.dev/v1alpha1
kind: RouterModel
metadata: {name: broken}
spec:
  queries: {configMapRef: {name: nowhere, key: queries.jsonl}}
  experts: {expertRouterRef: {name: broken}}
  output: {persistentVolumeClaim: {name: router-models}}
"#;

#[tokio::test]
async fn the_page_on_status_shows_what_kubectl_prints() {
    let namespace = Cluster::shared().namespace("llm").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let _operator = start(&release, "one").await;
    ready_router(&namespace).await;
    namespace.apply(BROKEN).unwrap();
    namespace.until_condition("expertrouters", "broken", "Ready", "False", "").await.unwrap();
    namespace.until_condition("routermodels", "broken", "Ready", "False", "").await.unwrap();
    let print = |arguments: &[&str]| timeless(&namespace.kubectl(arguments).unwrap(), &namespace.name);
    let all = || {
        [
            ("get", print(&["get", "xr,rm"])),
            ("healthy", status_of(&print(&["describe", "expertrouter", "chat", "--show-events=false"]))),
            ("broken", status_of(&print(&["describe", "expertrouter", "broken", "--show-events=false"]))),
        ]
    };
    let mut seen = all();
    eventually("two looks a second apart see the same", Duration::from_secs(60), async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = std::mem::replace(&mut seen, all());
        Ok(before == seen)
    })
    .await
    .unwrap();
    seen.iter().for_each(|(name, printed)| check(name, printed));
}

/// What differs from run to run, as one run might have it.
fn timeless(printed: &str, namespace: &str) -> String {
    let line = |line: &str| {
        let line = line.replace(namespace, "llm");
        let words = line.split(' ').map(|word| {
            let is_time = word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
            let is_revision = word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            match (is_time, is_revision) {
                (true, _) => "2026-01-01T12:00:00Z".to_owned(),
                (_, true) => "0123456789abcdef".to_owned(),
                _ => word.to_owned(),
            }
        });
        words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    let lines: Vec<String> = printed.lines().map(line).map(|line| ageless(&line)).collect();
    lines.join("\n")
}

/// The last column of a table of objects is their age, such as `40s` or `2m5s`.
fn ageless(line: &str) -> String {
    let is_age = |word: &str| word.ends_with(['s', 'm']) && word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b's' | b'm'));
    match line.rsplit_once(' ') {
        Some((rest, age)) if is_age(age) => format!("{rest} 40s"),
        _ => line.to_owned(),
    }
}

fn status_of(described: &str) -> String {
    let start = described.find("\nStatus:").map_or(0, |start| start + 1);
    described[start..].trim_end().to_owned()
}

/// The block of the page behind the mark of that name.
fn check(name: &str, expected: &str) {
    let path = workspace().join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- seen: {name} -->\n```\n");
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{PAGE} has no block {name}"));
    let (shown, after) = rest.split_once("\n```\n").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, format!("{before}{begin}{expected}\n```\n{after}")).unwrap();
        return;
    }
    assert_eq!(shown, expected, "{PAGE}, block {name}: run the test with UPDATE_DOCS=1 if the page is what is old");
}
