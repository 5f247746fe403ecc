//! What clients make up becomes no label.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{Router, client};

use super::{
    EXPERT_ROUTER,
    traffic::{Experts, beta},
};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_make_no_series() -> Result<()> {
    let experts = Experts::start().await?;
    let router = Router::start(EXPERT_ROUTER, &beta(&experts))?;
    let client = client()?;
    let series = async || -> Result<usize> {
        let page = client.get(format!("http://{}/metrics", router.admin())).send().await?.text().await?;
        Ok(page.lines().filter(|line| !line.starts_with('#')).count())
    };
    let mut seen = Vec::new();
    for half in 0..2 {
        let mut requests = tokio::task::JoinSet::new();
        for worker in 0..8 {
            let (client, base) = (client.clone(), router.base_url());
            requests.spawn(async move {
                for number in 0..625 {
                    hostile(&client, &base, half * 5000 + worker * 625 + number).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = requests.join_next().await {
            done??;
        }
        seen.push(series().await?);
    }
    let total = router.metrics().await?.sum("expert_router_requests_total", &[]);
    ensure!(total == 10_000.0, "{total} requests were counted");
    ensure!(seen[0] == seen[1], "series went from {} to {} with nothing new but what clients made up", seen[0], seen[1]);
    ensure!(seen[1] < 1500, "{} series of four experts", seen[1]);
    Ok(())
}

/// Nothing of it may become a label.
async fn hostile(client: &reqwest::Client, base: &str, number: u64) -> Result<()> {
    let text = format!("x{number}\\\"}} 1\n# {}", "\u{1F600}".repeat((number % 7) as usize));
    let path = match number % 5 {
        0 => format!("{base}/chat/completions"),
        1 => format!("{base}/completions"),
        2 => format!("{base}/responses"),
        3 => format!("{base}/{number}/chat/completions"),
        _ => format!("{base}/models/m{number}"),
    };
    let body = json!({"model": text, "messages": [{"role": text, "content": text}], "prompt": text, "input": text, "user": text});
    let request = if number % 5 == 4 { client.get(path) } else { client.post(path).body(body.to_string()) };
    let value = format!("{number}={{}}\"");
    let request = request
        .header("x-expert-router-session", &value)
        .header("x-expert-router-objective", &value)
        .header("x-request-id", &value)
        .header("x-expert-router-key", &value)
        .header("traceparent", &value)
        .header("user-agent", &value);
    request.send().await?.bytes().await?;
    Ok(())
}
