//! Killed, interrupted, in parts: it goes on where it was.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{Ended, Site, without_seconds};

const QUERIES: usize = 120;
const KILLS: usize = 10;

/// Requests under way at most: both experts, two each.
const UNDER_WAY: [&str; 2] = ["--concurrency", "2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_ten_times_at_random_moments_it_ends_as_if_undisturbed_and_pays_for_nothing_twice() {
    let undisturbed = Site::new(QUERIES, "", "").await;
    let ended = undisturbed.run(&UNDER_WAY).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let site = Site::new(QUERIES, "delay=12ms x*", "delay=9ms x*").await;
    let mut lost = 0;
    for kill in 0..KILLS {
        let mut child = site.spawn(&UNDER_WAY);
        // Some requests later, and then some moment: somewhere between sending, answering and writing.
        let some = site.requests() + 1 + rand::random_range(0..16);
        while site.requests() < some {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..15_000))).await;
        assert!(child.try_wait().unwrap().is_none(), "kill {kill}: it has ended before");
        child.kill().unwrap();
        child.wait().unwrap();
        lost += under_way(&site);
        assert!(!site.has_outcomes(), "kill {kill}: only a whole file is put in place");
    }
    let ended = site.run(&UNDER_WAY).await;
    assert_eq!((ended.code, ended.summary["ending"].as_str()), (Some(0), Some("complete")), "{ended:?}");

    assert_eq!(without_seconds(site.outcomes()), without_seconds(undisturbed.outcomes()));
    let wanted = 2 * QUERIES;
    assert_eq!((site.asked().len(), ended.summary["outcomes"].as_u64()), (wanted, Some(wanted as u64)));
    assert!(site.requests() <= wanted + lost, "{} requests for {wanted} answers, {lost} of them lost by kills", site.requests());
    assert!(lost <= 4 * KILLS, "{lost}");
    let answered = site.journal().iter().filter(|event| event["event"] == "answered").count();
    assert_eq!(answered, wanted, "each answer is kept once");
}

/// Requests whose answer the journal does not have, of those sent since the last kill.
fn under_way(site: &Site) -> usize {
    let journal = site.journal();
    let count = |kind: &str| journal.iter().filter(|event| event["event"] == kind).count();
    let before = journal.iter().filter(|event| event["event"] == "sent").map(|event| (&event["id"], &event["expert"]));
    let mut seen = std::collections::BTreeMap::new();
    before.for_each(|(id, expert)| *seen.entry((id.to_string(), expert.to_string())).or_insert(0_usize) += 1);
    let again: usize = seen.values().map(|times| times - 1).sum();
    // What was lost by earlier kills was sent again, or is still to be: count only what is open now.
    (count("sent") - count("answered")).saturating_sub(again)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_whole_lines_and_it_goes_on_when_there_is_room() {
    let site = Site::new(30, "", "").await;
    // A limit to the size of files fails writes as a full disk does: in the middle of a line.
    let whole = site.command(&UNDER_WAY);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""]).arg(whole.get_program()).args(whole.get_args());
    command.current_dir(site.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = Ended::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap());
    assert!(ended.code == Some(1) && ended.errors.contains("writing the journal"), "{ended:?}");
    assert!(!site.has_outcomes());
    let journal = std::fs::read_to_string(site.path("outcomes.jsonl.journal")).unwrap();
    assert!(journal.ends_with('\n') && journal.len() > 1000, "{journal}");
    let before = site.requests();
    let ended = site.run(&UNDER_WAY).await;
    assert_eq!((ended.code, ended.summary["outcomes"].as_u64()), (Some(0), Some(60)), "{ended:?}");
    let kept = journal.matches("\"event\":\"answered\"").count();
    assert_eq!(site.requests() - before, 60 - kept, "what was kept is not asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_waits_for_the_answers_under_way_and_loses_none() {
    let site = Site::new(40, "delay=30ms x*", "delay=30ms x*").await;
    let child = site.spawn(&["--concurrency", "3", "--summary", "summary.json"]);
    while site.requests() < 9 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = Ended::of(tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap());
    assert_eq!((ended.code, ended.summary["ending"].as_str()), (Some(130), Some("interrupted")), "{ended:?}");
    assert!(ended.errors.contains("the same command goes on from there"), "{}", ended.errors);
    assert_eq!(std::fs::read_to_string(site.path("summary.json")).unwrap().trim(), ended.output.trim());
    assert!(!site.has_outcomes() && site.requests() < 80);
    let ended = site.run(&["--concurrency", "3"]).await;
    assert_eq!((ended.code, site.requests(), site.asked().len()), (Some(0), 80, 80), "nothing is asked twice: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_ran_elsewhere_are_the_whole_together() {
    let site = Site::new(11, "", "").await;
    let mut joined = Vec::new();
    for part in 0..3 {
        let ended = site.run(&["--shard", &format!("{part}/3"), "--fresh"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        joined.extend(site.outcomes());
    }
    assert_eq!((site.requests(), site.asked().len()), (22, 22), "every part asks its own queries only");
    let ended = site.run(&["--fresh"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let by_id = |mut rows: Vec<serde_json::Value>| {
        rows.sort_by_key(|row| row["id"].to_string());
        without_seconds(rows)
    };
    assert_eq!(by_id(joined), by_id(site.outcomes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expert_that_joins_later_is_asked_alone_and_answers_that_are_there_stay() {
    let site = Site::new(6, "", "").await;
    assert_eq!(site.run(&["--experts", "birch"]).await.code, Some(0));
    let first = site.outcomes();
    std::fs::rename(site.path("outcomes.jsonl"), site.path("queries.jsonl")).unwrap();
    std::fs::remove_file(site.path("outcomes.jsonl.journal")).unwrap();
    assert_eq!(site.run(&[]).await.code, Some(0));
    assert_eq!((site.atlas.requests().len(), site.birch.requests().len()), (6, 6));
    for (row, before) in site.outcomes().iter().zip(&first) {
        let experts: Vec<&str> = row["outcomes"].as_array().unwrap().iter().map(|outcome| outcome["expert"].as_str().unwrap()).collect();
        assert_eq!(experts, ["atlas", "birch"]);
        assert_eq!(row["outcomes"][1], before["outcomes"][0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_instructions_are_other_questions() {
    let site = Site::new(3, "", "").await;
    assert_eq!(site.run(&[]).await.code, Some(0));
    site.write("router.yaml", &site.manifest(", prependMessages: [{role: system, content: \"Be brief.\"}]"));
    assert_eq!(site.run(&[]).await.code, Some(0));
    assert_eq!(site.requests(), 12, "answers to other words do not count");
}
