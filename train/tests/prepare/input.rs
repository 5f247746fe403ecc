//! Input that is wrong: told by file and line before anybody is asked, and nothing is overwritten.

use std::io::Write;

use crate::support::{Site, query};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_are_wrong_are_told_by_file_and_line() {
    let site = Site::new(1, "", "").await;
    site.write("outcomes.jsonl", "earlier\n");
    let good = query(1).to_string();
    for (second, problem) in [
        ("{\"id\": ".to_owned(), "queries.jsonl:2"),
        (good.clone(), "`q1`"),
        (r#"{"id": "q2"}"#.to_owned(), "prompt: either this or messages is needed"),
        (r#"{"id": "", "prompt": "x"}"#.to_owned(), "id: must not be empty"),
        (r#"{"id": "q2", "prompt": "x", "match": "fuzzy", "answer": "y"}"#.to_owned(), "match: \"fuzzy\" is none of"),
        (r#"{"id": "q2", "prompt": "x", "match": "exact"}"#.to_owned(), "neither answer nor reference"),
        (r#"{"id": "q2", "prompt": "x", "match": "number", "answer": "many"}"#.to_owned(), "there is no number in it"),
        (r#"{"id": "q2", "messages": []}"#.to_owned(), "messages: must not be empty"),
        (r#"{"id": "q2", "prompt": "x", "split": "tset"}"#.to_owned(), "tset"),
        (r#"{"id": "q2", "messages": "hello"}"#.to_owned(), "messages"),
    ] {
        site.write("queries.jsonl", &format!("{good}\n{second}\n"));
        let ended = site.run(&[]).await;
        assert_eq!((ended.code, ended.summary["ending"].as_str()), (Some(1), Some("failed")), "{second}: {ended:?}");
        assert!(ended.errors.contains("queries.jsonl:2") && ended.errors.contains(problem), "{second}: {}", ended.errors);
    }
    assert_eq!((site.requests(), std::fs::read_to_string(site.path("outcomes.jsonl")).unwrap().as_str()), (0, "earlier\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_queries_are_told() {
    let site = Site::new(1, "", "").await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(format!("{}\n{}\n", query(0), query(1)).repeat(500).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    for (bytes, problem) in
        [(&b""[..], "has no queries"), (&packed[..packed.len() / 2], "queries.jsonl"), (&b"\xff\xfe{}\n"[..], "queries.jsonl:1")]
    {
        std::fs::write(site.path("queries.jsonl"), bytes).unwrap();
        let ended = site.run(&[]).await;
        assert_eq!((ended.code, site.requests()), (Some(1), 0), "{problem}: {ended:?}");
        assert!(ended.errors.contains(problem), "{problem}: {}", ended.errors);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_make_no_sense_are_told() {
    let site = Site::new(2, "", "").await;
    for (more, problem) in [
        (&["--experts", "cedar"][..], "there is no expert \"cedar\"; there are atlas, birch"),
        (&["--shard", "3/3"], "--shard"),
        (&["--rate", "0"], "--rate"),
        (&["--max-cost-usd=-1"], "--max-cost-usd"),
        (&["--manifest", "nowhere.yaml"], "cannot be used multiple times"),
    ] {
        let ended = site.run(more).await;
        assert!(ended.code.is_some_and(|code| code != 0) && ended.errors.contains(problem), "{more:?}: {ended:?}");
    }
    site.write("router.yaml", &site.manifest(", contextTokens: -3"));
    let ended = site.run(&[]).await;
    assert!(ended.code == Some(1) && ended.errors.contains("router.yaml: spec.experts[0].contextTokens"), "{ended:?}");
    assert_eq!(site.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_cannot_be_written_is_told_before_anybody_is_asked() {
    let site = Site::new(2, "", "").await;
    let queries = std::fs::read_to_string(site.path("queries.jsonl")).unwrap();
    std::fs::create_dir(site.path("outcomes.jsonl")).unwrap();
    let ended = site.run(&[]).await;
    assert!(ended.code == Some(1) && ended.errors.contains("--out outcomes.jsonl: a folder is there"), "{ended:?}");
    std::fs::remove_dir(site.path("outcomes.jsonl")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(site.path("outcomes.jsonl")).status().unwrap().success());
    let ended = site.run(&[]).await;
    assert!(ended.code == Some(1) && ended.errors.contains("no file that could be replaced"), "{ended:?}");
    std::fs::remove_file(site.path("outcomes.jsonl")).unwrap();
    std::os::unix::fs::symlink("queries.jsonl", site.path("outcomes.jsonl")).unwrap();
    let ended = site.run(&["--limit", "1"]).await;
    assert!(ended.code == Some(1) && ended.errors.contains("it would lose the others"), "{ended:?}");
    assert_eq!((site.requests(), std::fs::read_to_string(site.path("queries.jsonl")).unwrap()), (0, queries));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_that_cannot_be_written_hides_no_other_end() {
    let site = Site::new(2, "", "").await;
    let ended = site.run(&["--summary", "nowhere/summary.json", "--max-cost-usd", "0.021"]).await;
    assert!(ended.code == Some(3) && ended.errors.contains("stopped before --max-cost-usd"), "{ended:?}");
    let ended = site.run(&["--summary", "nowhere/summary.json"]).await;
    assert!(ended.code == Some(1) && ended.errors.contains("writing nowhere/summary.json") && site.has_outcomes(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_on_one_file_are_one_too_many() {
    let site = Site::new(6, "delay=200ms x*", "").await;
    let mut first = site.spawn(&["--concurrency", "1"]);
    while site.requests() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let second = site.run(&[]).await;
    assert!(second.code == Some(1) && second.errors.contains("another process is writing this journal"), "{second:?}");
    first.kill().unwrap();
    first.wait().unwrap();
}
