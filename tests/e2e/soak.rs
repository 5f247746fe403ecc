//! A long mixed load: what processes take does not grow, and nothing is said that is not explained.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;

use crate::{
    faults::sample,
    metering::Allowed,
    objects::{name_of, selector_of},
    report::{Report, Resources},
    stage::{ROUTER, Stage},
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// Memory may come to rest this far above where it was after a quarter of the time: caches fill, allocators keep what they had.
const SLACK_SHARE: f64 = 0.10;
const SLACK_BYTES: f64 = (4 << 20) as f64;
/// No process has more files or connections open under this load: a few dozen of either are in use.
const MOST: f64 = 400.0;

/// Goes on for as long as asked for.
pub(crate) async fn run(stage: &Stage<'_>, report: &mut Report) {
    let minutes = stage.options.soak_minutes;
    let name = format!("mixed load for {minutes} minutes");
    let (before, operator_before) = (stage.troubles(), stage.operator_logs.troubles());
    let mut taken = BTreeMap::new();
    let row = stage
        .phase(&name, Stage::usual(&name), Allowed::default(), look(stage, Duration::from_secs(60 * u64::from(minutes)), &mut taken))
        .await;
    report.fault(row);
    for resources in taken.into_values() {
        for problem in problems(&resources) {
            report.fail(format!("long load: {}: {problem}", resources.process));
        }
        report.resources(resources);
    }
    for (who, before, after) in [("proxies", before, stage.troubles()), ("operator", operator_before, stage.operator_logs.troubles())] {
        for (trouble, times) in new_troubles(&before, &after) {
            report.fail(format!("long load: the {who} said {times} times: {trouble}"));
        }
    }
}

async fn look(stage: &Stage<'_>, time: Duration, taken: &mut BTreeMap<String, Resources>) -> Result<String> {
    let began = Instant::now();
    while began.elapsed() < time {
        for pod in stage.data_plane(ROUTER).await? {
            note(taken, &name_of(&pod), &stage.admin(&pod, "metrics").await?);
        }
        let operator = stage.system.get("apps/v1/deployments", stage.installed.release).await?;
        for pod in stage.system.list("pods", &selector_of(&operator)).await? {
            note(
                taken,
                &name_of(&pod),
                &stage.cluster.pod_proxy_get(stage.installed.system, &name_of(&pod), admin_port(&pod), "metrics").await?,
            );
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(String::new())
}

fn admin_port(pod: &Value) -> u16 {
    let ports = pod["spec"]["containers"][0]["ports"].as_array();
    let admin = ports.into_iter().flatten().find(|port| port["name"] == "admin");
    admin.and_then(|port| port["containerPort"].as_u64()).and_then(|port| u16::try_from(port).ok()).unwrap_or(9090)
}

fn note(taken: &mut BTreeMap<String, Resources>, process: &str, page: &str) {
    let resources = taken.entry(process.to_owned()).or_insert_with(|| Resources { process: process.to_owned(), ..Resources::default() });
    resources.resident.extend(sample(page, "process_resident_memory_bytes"));
    resources.files.extend(sample(page, "process_open_fds"));
    resources.connections.extend(sample(page, "expert_router_connections"));
}

/// What a process took more and more of.
fn problems(resources: &Resources) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some((early, late)) = grown(&resources.resident) {
        problems.push(format!("resident memory grew from {:.1} to {:.1} MiB", early / f64::from(1 << 20), late / f64::from(1 << 20)));
    }
    for (what, values) in [("open files", &resources.files), ("connections", &resources.connections)] {
        if let Some(most) = values.iter().copied().reduce(f64::max).filter(|most| *most > MOST) {
            problems.push(format!("{most} {what}"));
        }
    }
    if resources.resident.is_empty() {
        problems.push("its memory is not told".into());
    }
    problems
}

/// The mean of the second quarter and that of the last one, where the last is too much more.
fn grown(values: &[f64]) -> Option<(f64, f64)> {
    let quarter = values.len() / 4;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    if quarter == 0 {
        return None;
    }
    let (early, late) = (mean(&values[quarter..2 * quarter]), mean(&values[values.len() - quarter..]));
    (late > early * (1.0 + SLACK_SHARE) + SLACK_BYTES).then_some((early, late))
}

/// What was said more often than before.
fn new_troubles(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(trouble, times): (&String, &u64)| {
        let more = times - before.get(trouble).copied().unwrap_or_default().min(*times);
        (more > 0).then(|| (trouble.clone(), more))
    };
    after.iter().filter_map(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: f64 = (1 << 20) as f64;

    #[test]
    fn memory_that_comes_to_rest_is_flat_and_one_that_climbs_is_not() {
        let check = |grows: bool, values: &[f64]| {
            let values: Vec<f64> = values.iter().map(|value| value * MEBIBYTE).collect();
            assert_eq!(grown(&values).is_some(), grows, "{values:?}");
        };
        check(false, &[10.0, 30.0, 40.0, 40.0, 41.0, 40.0, 42.0, 43.0]);
        check(true, &[40.0, 42.0, 44.0, 46.0, 50.0, 54.0, 58.0, 62.0]);
        check(false, &[40.0, 90.0]);
    }

    #[test]
    fn too_many_connections_are_a_problem() {
        let resources = Resources { resident: vec![1.0], connections: vec![10.0, 500.0], ..Resources::default() };
        assert_eq!(problems(&resources), ["500 connections"]);
        assert_eq!(problems(&Resources::default()), ["its memory is not told"]);
    }

    #[test]
    fn only_what_is_new_is_told() {
        let before = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let after = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 4), ("c".to_owned(), 1)]);
        assert_eq!(new_troubles(&before, &after), BTreeMap::from([("b".to_owned(), 3), ("c".to_owned(), 1)]));
    }
}
