//! Where a training stands, to conditions and status. Pure; the clock is an argument.

use api::{
    model::PromotionMode,
    status::{Candidate, EvaluationRow, Progress, RouterModelStatus, Step, model_conditions as conditions},
    training::{Evaluated, PROMOTE_ANNOTATION, Prepared},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use routing::snapshot::Objective;

use super::{
    jobs::word,
    promote::Decision,
    steps::{Stand, Standing},
    valid::{Problem, ValidModel},
};
use crate::{
    apply::ApplyError,
    conditions::{Finding, Verdict, merge},
};

/// Reasons that right themselves by waiting, or that nobody has to mend.
pub const WAITS: [&str; 7] = ["Waiting", "Asking", "Fitting", "Evaluating", "Publishing", "AwaitsPromotion", "InShadow"];

/// The findings and the status of a model that makes no sense now. What was found before stays: so does the bundle in force.
#[must_use]
pub fn of_problem(
    problem: &Problem,
    before: &RouterModelStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> (Vec<Finding>, RouterModelStatus) {
    let mut findings = vec![Finding::no(conditions::DATA_PREPARED, problem.reason, &problem.message)];
    for kind in [conditions::TRAINED, conditions::EVALUATED, conditions::PUBLISHED] {
        let earlier = before.conditions.iter().find(|condition| condition.type_ == kind);
        findings.push(earlier.map_or_else(|| waiting(kind, "nothing is prepared"), |condition| again(kind, condition)));
    }
    findings.push(ready(&findings));
    let status = RouterModelStatus {
        conditions: merge(&before.conditions, &findings, generation, now),
        observed_generation: generation,
        ..before.clone()
    };
    (findings, status)
}

/// What to tell of a child that could not be written: what somebody has to mend. Of an API server that did not answer there is nothing to
/// tell, and nothing to tell it to.
#[must_use]
pub fn unwritten(error: &ApplyError) -> Option<Problem> {
    let reason = match error {
        ApplyError::Taken { .. } => "NameTaken",
        ApplyError::Write { source, .. } | ApplyError::Delete { source, .. } if matches!(**source, kube::Error::Api(_)) => "NotWritten",
        ApplyError::Write { .. } | ApplyError::Delete { .. } => return None,
    };
    Some(Problem { reason, message: error.to_string() })
}

/// The findings and the status of a model in training, or trained.
#[must_use]
pub fn of_standing(
    model: &ValidModel,
    standing: &Standing,
    before: &RouterModelStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> (Vec<Finding>, RouterModelStatus) {
    let mut findings = vec![data_prepared(model, standing), trained(standing), evaluated(model, standing), published(model, standing)];
    findings.push(ready(&findings));
    let (done, total) = standing.progress;
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let fitted = standing.fitted.done();
    let in_force = standing.bundle.as_ref().map(|bundle| bundle.digest.as_str());
    let status = RouterModelStatus {
        conditions: merge(&before.conditions, &findings, generation, now),
        observed_generation: generation,
        progress: total.map(|total| Progress { done: count(done), total: count(total) }),
        cost_usd: standing.prepared.done().map(|prepared| format!("{:.6}", prepared.spent_usd)).or_else(|| before.cost_usd.clone()),
        evaluation: standing.evaluated.done().map_or_else(|| before.evaluation.clone(), rows),
        bundle: standing.bundle.clone(),
        candidate: fitted
            .filter(|fitted| in_force != Some(fitted.digest.as_str()))
            .map(|fitted| Candidate { digest: fitted.digest.clone(), gain: standing.gain.map(|gain| format!("{gain:.4}")) }),
        steps: standing.steps.clone(),
    };
    (findings, status)
}

/// The table, as text. A name stands once.
fn rows(evaluated: &Evaluated) -> Vec<EvaluationRow> {
    let mut rows: Vec<EvaluationRow> = Vec::new();
    for (name, score, cost) in &evaluated.table {
        if rows.iter().all(|row| row.name != *name) {
            let cost_per_thousand_usd = cost.map(|cost| format!("{cost:.4}"));
            rows.push(EvaluationRow { name: name.clone(), score: format!("{score:.4}"), cost_per_thousand_usd });
        }
    }
    rows
}

fn waiting(kind: &'static str, why: &str) -> Finding {
    Finding::no(kind, "Waiting", why)
}

fn again(kind: &'static str, condition: &Condition) -> Finding {
    let verdict = match condition.status.as_str() {
        "True" => Verdict::True,
        "False" => Verdict::False,
        _ => Verdict::Unknown,
    };
    Finding { kind, verdict, reason: condition.reason.clone(), message: condition.message.clone() }
}

/// The first child that fails says why.
fn ready(findings: &[Finding]) -> Finding {
    match findings.iter().find(|finding| !finding.holds()) {
        Some(failing) => Finding::no(conditions::READY, &failing.reason, &failing.message),
        None => {
            let published = findings.last().map(|finding| finding.message.clone()).unwrap_or_default();
            Finding::yes(conditions::READY, "Published", published)
        }
    }
}

/// Of a step that is not done: what it waits for, what it does, or why it failed.
fn unfinished<T>(kind: &'static str, step: Step, stand: &Stand<T>, doing: (&str, String), waits_for: &str) -> Finding {
    match stand {
        Stand::Done(_) | Stand::NotYet => waiting(kind, waits_for),
        Stand::Running { trouble: None } => Finding::no(kind, doing.0, doing.1),
        Stand::Running { trouble: Some(trouble) } => Finding::no(kind, doing.0, format!("{}; held up: {trouble}", doing.1)),
        Stand::Failed { message, failures, retry_at } => {
            let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times") };
            let message = format!("the Job for {} failed {times}, and is tried again at {retry_at}: {message}", word(step));
            Finding::no(kind, "Failed", message)
        }
    }
}

fn data_prepared(model: &ValidModel, standing: &Standing) -> Finding {
    let kind = conditions::DATA_PREPARED;
    match &standing.prepared {
        Stand::Done(prepared) if prepared.out_of_money => Finding::no(kind, "BudgetSpent", budget_spent(model, prepared)),
        Stand::Done(Prepared { done, total, .. }) if done < total => {
            Finding::yes(kind, "Prepared", format!("{done} of {total} answers; the others were asked for and not given"))
        }
        Stand::Done(Prepared { done, .. }) => Finding::yes(kind, "Prepared", format!("{done} answers")),
        stand => {
            let (done, total) = standing.progress;
            let asked = match total {
                Some(total) => format!("{done} of {total} answers, counting parts that are done"),
                None => format!("{done} answers, counting parts that are done"),
            };
            unfinished(kind, Step::Prepare, stand, ("Asking", asked), "nothing is asked yet")
        }
    }
}

fn budget_spent(model: &ValidModel, prepared: &Prepared) -> String {
    let Prepared { done, total, spent_usd, .. } = prepared;
    let limit = model.spec.job.max_cost_usd.as_ref().map_or("none", api::Decimal::as_str);
    format!("{done} of {total} answers for USD {spent_usd:.6}: the next might pass spec.job.maxCostUsd ({limit}); raise it to go on")
}

fn trained(standing: &Standing) -> Finding {
    let kind = conditions::TRAINED;
    match &standing.fitted {
        Stand::Done(fitted) => Finding::yes(kind, "Fitted", format!("{} router {}", fitted.kind, fitted.digest)),
        stand => unfinished(kind, Step::Fit, stand, ("Fitting", "a router is being fitted".to_owned()), "the answers are not all there"),
    }
}

fn evaluated(model: &ValidModel, standing: &Standing) -> Finding {
    let kind = conditions::EVALUATED;
    let Stand::Done(evaluated) = &standing.evaluated else {
        let doing = ("Evaluating", "it is compared with each expert on held-out queries".to_owned());
        return unfinished(kind, Step::Evaluate, &standing.evaluated, doing, "there is no router to evaluate");
    };
    let Evaluated { router, best_single, rows, split, .. } = evaluated;
    let money = |cost: Option<f64>| cost.map_or(String::new(), |cost| format!(" at USD {cost:.4} per 1,000"));
    let compared = format!(
        "at {:?} score {:.4}{}, best single expert ({}) {:.4}{}, on {rows} {split} queries",
        model.objective,
        router.score,
        money(router.cost),
        best_single.name,
        best_single.score,
        money(best_single.cost),
    );
    if standing.gain.is_some_and(|gain| gain < -1e-9) {
        return Finding::no(kind, "NoBetter", format!("no better than an expert alone: {compared}"));
    }
    Finding::yes(kind, "Evaluated", compared)
}

fn published(model: &ValidModel, standing: &Standing) -> Finding {
    let kind = conditions::PUBLISHED;
    let gain = standing.gain.unwrap_or(0.0);
    let stays = standing.bundle.as_ref().map_or(String::new(), |bundle| format!("; the bundle {} stays in force", bundle.digest));
    let candidate = standing.fitted.done().map(|fitted| fitted.digest.as_str()).unwrap_or_default();
    let promote = format!("kubectl annotate --overwrite routermodel {} {PROMOTE_ANNOTATION}={candidate}", model.owner.key.name);
    match (&standing.published, standing.decision) {
        (Stand::Done(published), _) => Finding::yes(kind, "Published", model.output.bundle_uri(&published.digest)),
        (_, Some(Decision::AwaitsPromotion)) => Finding::no(kind, "AwaitsPromotion", format!("{promote}{stays}{}", misnamed(model))),
        (_, Some(Decision::GainTooSmall)) => {
            let (required, unit) =
                (model.required_gain, if model.objective == Objective::Cost { " of the cost saved" } else { " of score" });
            let message = format!(
                "a gain of {gain:.4}{unit} is less than promotion.requiredGain ({required}); to promote it all the same: {promote}"
            );
            Finding::no(kind, "GainTooSmall", message + &stays)
        }
        (_, Some(Decision::InShadow)) => {
            let until = standing.shadow_until.map_or_else(String::new, |until| until.to_string());
            let message = format!("{candidate} is in shadow until {until}, and is published then; to promote it at once: {promote}");
            Finding::no(kind, "InShadow", message + &stays)
        }
        (_, Some(Decision::OlderKept)) => Finding::yes(kind, "OlderKept", format!("{candidate} did no better on the same queries{stays}")),
        (stand, _) => {
            let doing = ("Publishing", format!("it is copied to {}", model.output.bundle_uri(candidate)));
            let mut finding = unfinished(kind, Step::Publish, stand, doing, "there is no evaluated router");
            finding.message.push_str(&stays);
            finding
        }
    }
}

/// A person named a bundle that is not this one: most likely an older one.
fn misnamed(model: &ValidModel) -> String {
    match &model.promoted {
        Some(promoted) if model.mode == PromotionMode::Manual => format!("; the annotation names another bundle now, {promoted}"),
        _ => String::new(),
    }
}
