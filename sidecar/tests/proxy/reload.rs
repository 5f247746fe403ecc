//! Changes: live within moments, whole or not at all, and no request dropped.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;

use super::support::{Expert, Router, Step, budget, chat, eventually, expert_json, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_snapshot_is_served_and_requests_under_way_end_by_the_old_one() {
    let release = Arc::new(Notify::new());
    let held = release.clone();
    let old = Expert::start(move |_, _| [vec![Step::Hold(held.clone())], chat("old", None)].concat()).await;
    let new = Expert::always(chat("new", None)).await;
    let router = Arc::new(Router::start(snapshot(&[expert_json("one", &old.url(), json!({}))], json!({}))).await);
    let under_way = tokio::spawn({
        let router = router.clone();
        async move { router.chat("one").await }
    });
    eventually("the old one works", || async { old.count() == 1 }).await;
    router.replace("snapshot.json", snapshot(&[expert_json("one", &new.url(), json!({}))], json!({"revision": "r2"})).to_string());
    router.revision("r2").await;
    assert!(router.chat("one").await.text().contains("new"));
    release.notify_waiters();
    assert!(under_way.await.unwrap().text().contains("old"));
    router.counts(r#"expert_router_snapshot_info{revision="r2"}"#, 1.0).await;
    router.counts(r#"expert_router_snapshot_info{revision="r1"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn experts_and_budgets_that_are_no_more_leave_the_metrics() {
    let expert = Expert::always(chat("ok", None)).await;
    let one = expert_json("one", &expert.url(), json!({}));
    let gone = expert_json("gone", &format!("http://{}/v1", Expert::nowhere()), json!({"health": {"consecutiveFailures": 1}}));
    let router = Router::start(snapshot(&[one.clone(), gone], json!({"budgets": [budget(1.0, "Refuse")]}))).await;
    assert_eq!(router.chat("gone").await.status, 502);
    router.counts(r#"expert_router_ejected{expert="gone"}"#, 1.0).await;
    router.counts(r#"expert_router_budget_amount_usd{budget="day"}"#, 1.0).await;
    router.replace("snapshot.json", snapshot(&[one], json!({"revision": "r2"})).to_string());
    router.revision("r2").await;
    let shown = router.admin.get("/metrics").await.text();
    let of = |name: &str| shown.lines().filter(|line| line.starts_with(&format!("expert_router_{name}"))).collect::<Vec<_>>();
    assert_eq!((of("ejected{").len(), of("paused{").len()), (1, 1));
    assert_eq!(of("budget_"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_snapshot_leaves_the_old_in_force_and_says_why_until_a_good_one_comes() {
    let expert = Expert::always(chat("ok", None)).await;
    let good = |revision: &str| snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({"revision": revision}));
    let router = Router::start(good("r1")).await;
    let bad = [
        ("{".to_owned(), "snapshot.json"),
        (good("r2").to_string().replace("http://", "ftp://"), "experts[0].baseUrl"),
        (snapshot(&[], json!({"revision": "r2"})).to_string(), "experts"),
        (good("r2").to_string().replace("\"formatVersion\":1", "\"formatVersion\":99"), "formatVersion"),
    ];
    for (number, (content, part)) in bad.into_iter().enumerate() {
        router.replace("snapshot.json", content);
        router.counts(r#"expert_router_config_reload_failures_total{what="source"}"#, number as f64 + 1.0).await;
        let shown = router.admin.get("/snapshot").await.json();
        let message = shown["lastError"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
        assert_eq!((&shown["revision"], router.chat("one").await.status), (&json!("r1"), 200));
    }
    std::fs::remove_file(router.path("snapshot.json")).unwrap();
    router.counts(r#"expert_router_config_reload_failures_total{what="source"}"#, 5.0).await;
    assert_eq!(router.chat("one").await.status, 200);
    router.replace("snapshot.json", good("r3").to_string());
    router.revision("r3").await;
    assert_eq!(router.admin.get("/snapshot").await.json()["lastError"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_used_from_then_on_and_shown_nowhere() {
    let expert = Expert::always(chat("ok", None)).await;
    let router = Router::start_with(
        |folder| {
            std::fs::write(folder.join("token"), "old-secret").unwrap();
            snapshot(&[expert_json("one", &expert.url(), json!({"credentialsFile": folder.join("token")}))], json!({}))
        },
        "",
    )
    .await;
    router.chat("one").await;
    router.replace("token", "new-secret\n");
    eventually("the new secret is used", || async {
        router.chat("one").await;
        expert.seen().last().unwrap().headers["authorization"] == "Bearer new-secret"
    })
    .await;
    assert_eq!(expert.seen()[0].headers["authorization"], "Bearer old-secret");
    // An empty or unusable secret leaves the last good one.
    router.replace("token", "");
    router.counts(r#"expert_router_config_reload_failures_total{what="files"}"#, 1.0).await;
    router.chat("one").await;
    assert_eq!(expert.seen().last().unwrap().headers["authorization"], "Bearer new-secret");
    let shown = router.admin.get("/snapshot").await.text() + &router.admin.get("/metrics").await.text();
    assert!(!shown.contains("-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_config_map_changes_by_a_swap_of_links() {
    let expert = Expert::always(chat("ok", None)).await;
    let content = |revision: &str| snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({"revision": revision})).to_string();
    let folder = tempfile::tempdir().unwrap();
    let put = |version: &str, revision: &str| {
        std::fs::create_dir(folder.path().join(version)).unwrap();
        std::fs::write(folder.path().join(version).join("snapshot.json"), content(revision)).unwrap();
        std::os::unix::fs::symlink(version, folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    put("..1", "r1");
    std::os::unix::fs::symlink("..data/snapshot.json", folder.path().join("snapshot.json")).unwrap();
    let at = folder.path().to_owned();
    let router = Router::start_in(folder, "").await;
    std::fs::create_dir(at.join("..2")).unwrap();
    std::fs::write(at.join("..2/snapshot.json"), content("r2")).unwrap();
    std::os::unix::fs::symlink("..2", at.join("..data_tmp")).unwrap();
    std::fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    router.revision("r2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_keys_change_without_a_restart() {
    let expert = Expert::always(chat("ok", None)).await;
    let router = Router::start_with(
        |folder| {
            std::fs::write(folder.join("keys"), "old-key").unwrap();
            snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({"clientKeysFile": folder.join("keys")}))
        },
        "",
    )
    .await;
    let call = |key: &'static str| router.client.send(http::Method::GET, "/v1/models", vec![("authorization", key)].leak(), "".into());
    assert_eq!((call("Bearer old-key").await.status, call("Bearer new-key").await.status), (200, 401));
    router.replace("keys", "new-key");
    eventually("the new key is known", || async { call("Bearer new-key").await.status == 200 }).await;
    assert_eq!(call("Bearer old-key").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_bundle_at_the_start_is_served_by_the_failure_mode_and_tried_again() {
    let expert = Expert::always(chat("ok", None)).await;
    let experts = [expert_json("one", &expert.url(), json!({})), expert_json("two", &expert.url(), json!({}))];
    let with = |mode: &str, revision: &str| json!({"revision": revision, "model": {"uri": "/nowhere/bundle"}, "policy": {"failureMode": mode, "fallbackExpert": "two"}});
    let router = Router::start(snapshot(&experts, with("FailOpen", "r1"))).await;
    let answer = router.chat("auto").await;
    assert_eq!((answer.header("x-expert-router-expert"), answer.header("x-expert-router-reason")), ("two", "model_broken"));
    router.counts("expert_router_model_ready", 0.0).await;
    let shown = router.admin.get("/snapshot").await.json();
    assert_eq!((&shown["model"]["state"], &shown["lastError"]["what"]), (&json!("broken"), &json!("model")));
    router.replace("snapshot.json", snapshot(&experts, with("FailClosed", "r2")).to_string());
    router.revision("r2").await;
    let refused = router.chat("auto").await;
    assert_eq!(refused.error(), (503, "no_score".into()));
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(router.chat("one").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_configurations_come_and_go() {
    let (one, two) = (Expert::always(chat("one", Some((1, 0, 1)))).await, Expert::always(chat("two", Some((1, 0, 1)))).await);
    let content = |number: usize| {
        let expert = if number.is_multiple_of(2) { &one } else { &two };
        snapshot(&[expert_json("only", &expert.url(), json!({}))], json!({"revision": format!("r{number}")}))
    };
    let router = Arc::new(Router::start(content(0)).await);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (router, stop) = (router.clone(), stop.clone());
            tokio::spawn(async move {
                let mut answered = 0;
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    let answer = router.chat("only").await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for number in 1..6 {
        router.replace("snapshot.json", content(number).to_string());
        router.revision(&format!("r{number}")).await;
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap();
    }
    assert_eq!(one.count() + two.count(), answered);
    assert!(one.count() > 0 && two.count() > 0);
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="ok",status="2xx"}"#, answered as f64).await;
}
