//! How soon a change decides requests: seconds from the start of the call that makes it to the first request decided by it.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    load::{probe::Wanted, unix_milliseconds},
    report::{Alive, Report},
    stage::{APPLES, PATIENCE, ROUTER, Stage},
    trained::{BLUE_FIRST, RED_FIRST},
};

/// Beyond the API server's own time, nine times of ten. What is aimed for on an idle machine is a second; this one shares its two cores
/// with a whole cluster.
const AIM_SECONDS: f64 = 1.0;
/// Between two changes: every proxy shall have seen the last one.
const PAUSE: Duration = Duration::from_secs(1);

/// Prices and experts, while the router has no model: the cheapest expert answers.
pub(crate) async fn without_model(stage: &Stage<'_>, report: &mut Report) {
    let dear = (json!({"perRequest": "0.004"}), "beta");
    let cheap = (json!({"perRequest": "0.001"}), "alpha");
    measure(stage, report, "price", async |round| {
        let (pricing, expert) = if round % 2 == 0 { dear.clone() } else { cheap.clone() };
        (by(expert), edited(stage, |spec| spec["experts"][0]["pricing"] = pricing).await)
    })
    .await;
    if let Err(error) = stage.price(0, "0.001").await {
        report.fail(format!("the price before: {error:#}"));
    }
    let extra = json!({"name": "extra", "modelName": "extra", "pricing": {"perRequest": "0.0005"},
        "service": {"name": format!("{ROUTER}-expert-alpha"), "port": 8000}});
    measure(stage, report, "expert added, expert removed", async |round| {
        let added = round % 2 == 0;
        let change = edited(stage, |spec| {
            if let Some(experts) = spec["experts"].as_array_mut() {
                experts.retain(|expert| expert["name"] != "extra");
                experts.extend(added.then(|| extra.clone()));
            }
        });
        (by(if added { "extra" } else { "alpha" }), change.await)
    })
    .await;
    let gone = stage.edit(ROUTER, |spec| {
        if let Some(experts) = spec["experts"].as_array_mut() {
            experts.retain(|expert| expert["name"] != "extra");
        }
    });
    if let Err(error) = gone.await {
        report.fail(format!("the experts before: {error:#}"));
    }
}

/// Another model, while the router has one.
pub(crate) async fn with_model(stage: &Stage<'_>, report: &mut Report) {
    measure(stage, report, "model promoted", async |round| {
        let (model, expert) = if round % 2 == 0 { (BLUE_FIRST, "beta") } else { (RED_FIRST, "alpha") };
        let wanted = Wanted { reason: "quality".into(), ..by(expert) };
        (wanted, edited(stage, |spec| spec["model"]["routerModelRef"]["name"] = json!(model)).await)
    })
    .await;
    if let Err(error) = stage.edit(ROUTER, |spec| spec["model"]["routerModelRef"]["name"] = json!(RED_FIRST)).await {
        report.fail(format!("the model before: {error:#}"));
    }
}

fn by(expert: &str) -> Wanted {
    Wanted { expert: expert.into(), model: "auto".into(), prompt: APPLES.into(), every_ms: 10, ..Wanted::default() }
}

/// The spec as it will be: read before the clock starts.
async fn edited(stage: &Stage<'_>, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut object = stage.objects.get("expertrouters", ROUTER).await?;
    change(&mut object["spec"]);
    Ok(object["spec"].take())
}

async fn measure<F>(stage: &Stage<'_>, report: &mut Report, change: &str, mut make: impl FnMut(u32) -> F)
where
    F: Future<Output = (Wanted, Result<Value>)>,
{
    let through = |through: &str| Alive { change: change.into(), through: through.into(), seconds: Vec::new(), api_server: Vec::new() };
    let mut all = [through("gateway"), through("sidecar")];
    // One more, which is not counted: of Pods that have just started kubelets are slower to hear.
    for round in 0..=stage.options.live_times {
        let (wanted, spec) = make(round).await;
        let measured = match spec {
            Ok(spec) => once(stage, &wanted, &spec).await,
            Err(error) => Err(error),
        };
        match measured {
            Ok(_) if round == 0 => {}
            Ok((seconds, own)) => {
                for (alive, seconds) in all.iter_mut().zip(seconds) {
                    alive.seconds.push(seconds);
                    alive.api_server.push(own);
                }
            }
            Err(error) => report.fail(format!("time to live, {change}: {error:#}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
    for alive in all {
        println!("time to live, {change}, {}: {:.2?}, of which the API server {:.2?}", alive.through, alive.seconds, alive.api_server);
        if alive.beyond_p90() > AIM_SECONDS {
            report.fail(format!(
                "time to live, {change} through the {}: p90 {:.2} s beyond the API server's time",
                alive.through,
                alive.beyond_p90()
            ));
        }
        report.alive(alive);
    }
}

/// One change: seconds through gateway and sidecar, and of the API server.
async fn once(stage: &Stage<'_>, wanted: &Wanted, spec: &Value) -> Result<([f64; 2], f64)> {
    let mut ahead = [0.0; 2];
    for (client, ahead) in stage.clients().into_iter().zip(&mut ahead) {
        *ahead = client.clock_ahead().await?;
        client.probe(wanted).await?;
    }
    let (at, began) = (unix_milliseconds(), Instant::now());
    stage.objects.merge("expertrouters", ROUTER, &json!({"spec": spec})).await?;
    let own = began.elapsed().as_secs_f64();
    let mut seconds = [0.0; 2];
    for ((client, ahead), seconds) in stage.clients().into_iter().zip(ahead).zip(&mut seconds) {
        let seen = client.seen(PATIENCE).await.context("the change was never seen")?;
        *seconds = (seen as f64 - ahead - at as f64) / 1e3;
        anyhow::ensure!(*seconds > 0.0, "it was so before the change");
    }
    Ok((seconds, own))
}
