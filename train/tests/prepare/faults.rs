//! Experts that fail.

use crate::support::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_errors_and_broken_connections_are_asked_again() {
    let site = Site::new(8, "status=429,retry-after=0; status=503; close; malformed-at=0", "cut-after=0; status=408; ok x*").await;
    let ended = site.run(&["--concurrency", "4"]).await;
    assert_eq!(
        (ended.code, ended.summary["outcomes"].as_u64(), ended.summary["failures"].as_u64()),
        (Some(0), Some(16), Some(0)),
        "{ended:?}"
    );
    assert_eq!((site.atlas.requests().len(), site.birch.requests().len()), (12, 10), "each failure is asked again once");
    let outcome = &site.outcomes()[4]["outcomes"][0];
    assert_eq!((outcome["response"].as_str(), outcome["score"].as_f64()), (Some("It is 5."), Some(1.0)));
    assert_eq!((outcome["prompt_tokens"].as_f64(), outcome["completion_tokens"].as_f64()), (Some(16.0), Some(9.0)));
    assert!(outcome["nll"].as_f64().unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expert_that_never_answers_is_given_up_in_time() {
    let site = Site::new(2, "hang x*", "").await;
    site.write("router.yaml", &site.manifest(", timeouts: {totalMilliseconds: 200}"));
    let ended = site.run(&["--attempts", "2"]).await;
    // Two queries without an answer are tolerated and told; the file has the rest.
    assert_eq!(
        (ended.code, ended.summary["failures"].as_u64(), ended.summary["outcomes"].as_u64()),
        (Some(0), Some(2), Some(2)),
        "{ended:?}"
    );
    assert!(ended.errors.contains("expert atlas: no answer in time") && ended.errors.contains("tried 2 times"), "{}", ended.errors);
    assert_eq!(site.atlas.requests().len(), 4);
    site.atlas.set_script(replay::Script::fine());
    let ended = site.run(&[]).await;
    assert_eq!((ended.code, ended.summary["outcomes"].as_u64()), (Some(0), Some(4)), "those that failed are asked again: {ended:?}");
    assert_eq!(site.birch.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_failures_end_it_and_an_earlier_file_stays() {
    let site = Site::new(9, "status=500 x*", "").await;
    site.write("outcomes.jsonl", "earlier\n");
    let ended = site.run(&["--attempts", "1", "--max-failures", "2"]).await;
    assert_eq!((ended.code, ended.summary["ending"].as_str()), (Some(1), Some("failed")), "{ended:?}");
    assert!(ended.errors.contains("more than 2 queries without an answer"), "{}", ended.errors);
    assert_eq!(std::fs::read_to_string(site.path("outcomes.jsonl")).unwrap(), "earlier\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_ends_it_at_once_and_is_not_told() {
    let site = Site::new(30, "status=401 x*", "").await;
    std::fs::create_dir(site.path("secrets")).unwrap();
    std::fs::create_dir(site.path("secrets/provider")).unwrap();
    site.write("secrets/provider/key", "sk-do-not-tell\n");
    site.write("router.yaml", &site.manifest(", credentials: {secretRef: {name: provider, key: key}}"));
    let ended = site.run(&["--concurrency", "1", "--secrets-dir", "secrets"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.errors.contains("expert atlas") && ended.errors.contains("401"), "{}", ended.errors);
    assert!(site.atlas.requests().len() == 1 && site.birch.requests().len() < 30);
    assert_eq!(site.atlas.requests()[0].header("authorization"), "Bearer sk-do-not-tell");
    let journal = std::fs::read_to_string(site.path("outcomes.jsonl.journal")).unwrap();
    for text in [&ended.errors, &ended.output, &journal] {
        assert!(!text.contains("sk-do-not-tell"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moderation_refuses_is_one_query_where_the_expert_answers_others() {
    let site = Site::new(4, "ok; status=403; ok x*", "").await;
    let ended = site.run(&["--concurrency", "1"]).await;
    assert_eq!(
        (ended.code, ended.summary["failures"].as_u64(), ended.summary["outcomes"].as_u64()),
        (Some(0), Some(1), Some(7)),
        "{ended:?}"
    );
    assert!(ended.errors.contains("q1, expert atlas: 403 Forbidden"), "{}", ended.errors);
    site.atlas.set_script(replay::Script::parse("status=403 x*").unwrap());
    let ended = site.run(&[]).await;
    assert_eq!((ended.code, ended.summary["failures"].as_u64()), (Some(0), Some(1)), "it answered in an earlier run: {ended:?}");

    let site = Site::new(30, "status=403 x*", "").await;
    let ended = site.run(&["--concurrency", "1"]).await;
    assert!(ended.code == Some(1) && ended.errors.contains("expert atlas at http"), "none was answered: {ended:?}");
    assert_eq!(site.atlas.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_kept_though_nobody_can_tell_its_reference_s_likelihood() {
    let site = Site::new(1, "", "").await;
    site.write("queries.jsonl", r#"{"id": "q0", "prompt": "What is 0 + 1?", "reference": "It is 1."}"#);
    let ended = site.run(&["--reference-nll"]).await;
    assert_eq!(
        (ended.code, ended.summary["outcomes"].as_u64(), ended.summary["failures"].as_u64()),
        (Some(0), Some(2), Some(2)),
        "{ended:?}"
    );
    assert!(ended.errors.contains("q0, expert atlas: the reference's likelihood"), "{}", ended.errors);
    assert_eq!(site.outcomes()[0]["outcomes"][0]["response"], "It is 1.");
    let asked = site.requests();
    assert_eq!(site.run(&["--reference-nll"]).await.code, Some(0));
    assert_eq!(site.requests(), asked, "what is answered is not asked again");
}
