//! What it may spend.

use serde_json::Value;

use crate::support::{PRICES, Site};

/// What reached the experts, at their prices.
fn paid(site: &Site) -> f64 {
    site.atlas.requests().len() as f64 * PRICES[0] + site.birch.requests().len() as f64 * PRICES[1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_before_the_limit_is_passed_and_goes_on_when_there_is_more() {
    let site = Site::new(20, "delay=2ms x*", "delay=2ms x*").await;
    let limit = 0.119;
    let ended = site.run(&["--max-cost-usd", &limit.to_string()]).await;
    assert_eq!((ended.code, ended.summary["ending"].as_str()), (Some(3), Some("out_of_money")), "{ended:?}");
    let spent = ended.summary["spent_usd"].as_f64().unwrap();
    assert!(paid(&site) <= limit && (spent - paid(&site)).abs() < 1e-9, "{spent} {}", paid(&site));
    assert!(limit - spent < PRICES[0], "it stops where the dearest next request does not fit, not long before: {spent}");
    let known: usize = site.outcomes().iter().map(|row| row["outcomes"].as_array().unwrap().len()).sum();
    assert_eq!(known, site.requests(), "what was paid for is in the file");

    let again = site.run(&["--max-cost-usd", &limit.to_string()]).await;
    assert_eq!((again.code, known), (Some(3), site.requests()), "what earlier runs spent counts: {again:?}");

    let whole = 20.0 * (PRICES[0] + PRICES[1]);
    let ended = site.run(&["--max-cost-usd", &(whole + 1e-9).to_string()]).await;
    assert_eq!((ended.code, site.requests()), (Some(0), 40), "{ended:?}");
    assert!((ended.summary["spent_usd"].as_f64().unwrap() - whole).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_broke_off_counts_as_paid_for() {
    let site = Site::new(1, "close x2; ok", "").await;
    // Three attempts at atlas would be three prices; there is money for two and the cheap expert.
    let ended = site.run(&["--max-cost-usd", "0.046"]).await;
    assert_eq!((ended.code, ended.summary["ending"].as_str()), (Some(3), Some("out_of_money")), "{ended:?}");
    assert!(paid(&site) <= 0.046, "{}", paid(&site));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_costs_nothing_the_next_time_either() {
    let site = Site::new(3, "status=400 x2", "status=413").await;
    let ended = site.run(&[]).await;
    let paid = PRICES[0] + 2.0 * PRICES[1];
    let is_paid = |ended: &Value| (ended["spent_usd"].as_f64().unwrap() - paid).abs() < 1e-9;
    assert!(ended.code == Some(0) && ended.summary["failures"] == 3 && is_paid(&ended.summary), "{ended:?}");
    let ended = site.run(&["--dry-run"]).await;
    assert!(ended.output.contains(&format!("spent so far: USD {paid:.6}")), "{}", ended.output);
    let ended = site.run(&["--dry-run", "--fresh"]).await;
    assert!(ended.output.contains("spent so far: USD 0.000000"), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_limit_does_not_count_is_told() {
    let site = Site::new(1, "", "").await;
    let manifest = site.manifest("").replace(&format!(", pricing: {{perRequest: \"{}\"}}", PRICES[0]), "");
    site.write("router.yaml", &manifest);
    let ended = site.run(&["--max-cost-usd", "1"]).await;
    assert!(ended.code == Some(0) && ended.errors.contains("warning: expert atlas has no price"), "{ended:?}");
    assert!(!ended.errors.contains("expert birch"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_the_price_and_asks_nobody() {
    let site = Site::new(20, "", "").await;
    assert_eq!(site.run(&["--limit", "5"]).await.code, Some(0));
    let ended = site.run(&["--dry-run"]).await;
    assert_eq!((ended.code, site.requests()), (Some(0), 10), "{ended:?}");
    let line = |name: &str| {
        ended.output.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("atlas")[..5], ["atlas", "5", "15", "0.300000", "0.300000"]);
    assert_eq!(line("birch")[..5], ["birch", "5", "15", "0.075000", "0.075000"]);
    assert!(ended.output.contains("spent so far: USD 0.125000"), "{}", ended.output);
}
