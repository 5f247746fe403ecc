//! Asking everything that is not answered yet: experts side by side, each at its own pace, all out of one purse.

use std::{
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, future::try_join_all, stream};
use tokio::sync::Semaphore;

use super::{
    PrepareOptions,
    journal::{self, Journal},
    money::{Money, Spent},
    pace::Pace,
    plan::{Plan, Question, messages},
    progress::Progress,
};
use crate::{
    ask::{AskError, Asker, Attempt},
    nll,
};

/// What asking came to.
#[derive(Debug)]
pub struct Asked {
    /// How it ended.
    pub ending: Ending,
    /// What was not answered, in words.
    pub failures: Vec<String>,
    /// By this run and earlier ones.
    pub spent_usd: f64,
}

/// How asking ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ending {
    /// All was asked.
    Complete,
    /// The next request might have passed the limit.
    OutOfMoney {
        /// Its worst case.
        next_usd: f64,
    },
    /// By a person, or whoever ends processes.
    Interrupted,
}

/// What all requests share.
struct Shared<'a> {
    plan: &'a Plan,
    journal: &'a Journal,
    options: &'a PrepareOptions,
    money: Money,
    at_once: Semaphore,
    progress: Progress,
    failures: Mutex<Vec<String>>,
}

/// Why no more is asked.
enum Stop {
    OutOfMoney(f64),
    Error(anyhow::Error),
}

/// Asks all. An interruption drops what is under way: the journal has the rest.
pub(super) async fn ask_all(plan: &Plan, journal: &Journal, options: &PrepareOptions) -> Result<Asked> {
    let answers = journal::read(journal.path())?;
    let open = |question: &&Question| !answers.found.contains_key(&question.key);
    let todo: Vec<Vec<(usize, &Question)>> = plan
        .questions
        .iter()
        .map(|questions| questions.iter().enumerate().filter_map(|(row, question)| Some((row, question.as_ref().filter(open)?))).collect())
        .collect();
    let shared = Shared {
        plan,
        journal,
        options,
        money: Money::new(options.max_cost_usd, answers.spent_usd),
        at_once: Semaphore::new(options.at_once.map_or(Semaphore::MAX_PERMITS, usize::from)),
        progress: Progress::new(todo.iter().map(Vec::len).sum()),
        failures: Mutex::default(),
    };
    let experts = plan.askers.iter().zip(todo).map(|(asker, todo)| ask_expert(&shared, asker, todo));
    let ending = tokio::select! {
        asked = try_join_all(experts) => match asked {
            Ok(_) => Ending::Complete,
            Err(Stop::OutOfMoney(next_usd)) => Ending::OutOfMoney { next_usd },
            Err(Stop::Error(error)) => return Err(error),
        },
        signal = interrupted() => { signal?; Ending::Interrupted }
    };
    shared.progress.finish();
    let failures = shared.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Asked { ending, failures, spent_usd: shared.money.spent_usd() })
}

async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("listening for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

async fn ask_expert(shared: &Shared<'_>, asker: &Asker, todo: Vec<(usize, &Question)>) -> Result<(), Stop> {
    let most = asker.expert().max_in_flight.unwrap_or(u32::MAX) as usize;
    let concurrency = usize::from(shared.options.concurrency).min(most).max(1);
    let pace = Pace::new(shared.options.rate);
    let mut answers = stream::iter(todo).map(|(row, question)| ask_one(shared, asker, &pace, row, question)).buffer_unordered(concurrency);
    while let Some(answer) = answers.next().await {
        match answer {
            // What is under way elsewhere is waited for, so that what was paid for is kept.
            Err(Stop::OutOfMoney(usd)) => {
                while let Some(rest) = answers.next().await {
                    if let Err(Stop::Error(error)) = rest {
                        return Err(Stop::Error(error));
                    }
                }
                return Err(Stop::OutOfMoney(usd));
            }
            other => other?,
        }
    }
    Ok(())
}

async fn ask_one(shared: &Shared<'_>, asker: &Asker, pace: &Pace, row: usize, question: &Question) -> Result<(), Stop> {
    let _permit = shared.at_once.acquire().await.expect("the semaphore is never closed");
    pace.turn().await;
    let most = asker.most_cost_usd(&question.body);
    shared.money.reserve(most).await.map_err(|Spent| Stop::OutOfMoney(most))?;
    let (_busy, busy) = pace.busy();
    let mut trouble = None;
    let asked = asker
        .ask(&question.body, busy, |attempt| {
            let (told, go_on) = match attempt {
                Attempt::Sent => (shared.journal.sent(&question.key, most), true),
                Attempt::Lost => (Ok(()), shared.money.lose(most)),
                Attempt::Failed { pause } => {
                    pause.into_iter().for_each(|pause| pace.pause(pause));
                    (shared.journal.failed(&question.key), true)
                }
            };
            trouble = told.err();
            if trouble.is_none() && go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .await;
    shared.money.settle(most, asked.as_ref().map_or(0.0, |answer| answer.cost_usd.unwrap_or(most)));
    if let Some(error) = trouble {
        return Err(Stop::Error(error));
    }
    let answered = asked.is_ok();
    match asked {
        Ok(answer) => {
            let mut outcome = answer.outcome(&question.key.expert);
            if shared.options.reference_nll {
                let likelihood = reference_nll(shared, asker, row).await.map_err(Stop::Error)?;
                outcome.other.extend(likelihood.map(|nll| ("reference_nll".to_owned(), nll.into())));
            }
            shared.journal.answered(&question.key, outcome).map_err(Stop::Error)?;
        }
        Err(AskError::Stopped) => return Err(Stop::OutOfMoney(most)),
        Err(error) => shared.failed(asker, question, &error).map_err(Stop::Error)?,
    }
    shared.progress.step(answered, shared.money.spent_usd());
    Ok(())
}

impl Shared<'_> {
    /// Counts a query without an answer. An error where more of them would follow.
    fn failed(&self, asker: &Asker, question: &Question, error: &AskError) -> Result<()> {
        let name = &asker.expert().name;
        if let AskError::Refused { .. } | AskError::Credentials { .. } = error {
            bail!("expert {name} at {}: {error}", asker.expert().base_url);
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(format!("{}, expert {name}: {error}", question.key.id));
        if failures.len() > self.options.max_failures {
            bail!("more than {} queries without an answer, the last: {}", self.options.max_failures, failures[failures.len() - 1]);
        }
        Ok(())
    }
}

/// How likely the expert's model finds the row's reference after the conversation the expert sees.
async fn reference_nll(shared: &Shared<'_>, asker: &Asker, row: usize) -> Result<Option<f64>> {
    let row = &shared.plan.rows[row];
    let Some(reference) = row.reference.as_deref().filter(|reference| !reference.is_empty()) else { return Ok(None) };
    let conversation: Vec<_> = asker.expert().prepend_messages.iter().cloned().chain(messages(row)).collect();
    let server = asker.expert().base_url.trim_end_matches("/v1");
    let likelihood = nll::of_text(asker.client(), server, &conversation, reference).await;
    Ok(Some(likelihood.with_context(|| format!("{}: likelihood of the reference by {}", row.id, asker.expert().name))?.mean_nll()))
}
