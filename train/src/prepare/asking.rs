//! Asking everything that is not answered yet: experts side by side, each at its own pace, all out of one purse.

use std::{
    collections::HashSet,
    ops::ControlFlow,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, future::join_all, stream};
use reqwest::StatusCode;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use super::{
    PrepareOptions, Stopped,
    journal::{self, Journal},
    money::{Money, Spent},
    pace::Pace,
    plan::{Plan, Question, messages},
    progress::Progress,
    signals::Signals,
};
use crate::{
    ask::{Answer, AskError, Asker, Attempt},
    nll,
};

/// What asking came to.
#[derive(Debug)]
pub struct Asked {
    /// How it ended.
    pub ending: Ending,
    /// What was not answered, in words.
    pub failures: Vec<String>,
}

/// How asking ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
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

impl Ending {
    /// Anything but the completion is an error.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn into_result(self) -> Result<()> {
        match self {
            Self::Complete => Ok(()),
            Self::OutOfMoney { next_usd } => Err(Stopped::OutOfMoney { next_usd }.into()),
            Self::Interrupted => Err(Stopped::Interrupted.into()),
        }
    }
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
    /// Experts that have answered, now or in an earlier run: their address, key and model are right.
    answered: Mutex<HashSet<String>>,
    /// Why nothing new is sent any more; the first reason stays.
    reason: Mutex<Option<Reason>>,
    stop: watch::Sender<bool>,
}

/// Why nothing new is sent any more.
enum Reason {
    OutOfMoney(f64),
    Error(anyhow::Error),
    Signal,
}

/// What is under way when asking stops is paid for, and so is waited for; but not longer than those who end processes wait.
const DRAIN: Duration = Duration::from_secs(20);

/// Asks all. Whatever ends it early (money, an error, a signal): nothing new is sent then, and what is under way is waited for a little,
/// unless a signal says otherwise. The journal has all that was answered.
pub(super) async fn ask_all(plan: &Plan, journal: &Journal, options: &PrepareOptions, signals: &mut Signals) -> Result<Asked> {
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
        answered: Mutex::new(answers.found.keys().map(|key| key.expert.clone()).collect()),
        reason: Mutex::default(),
        stop: watch::Sender::new(false),
    };
    shared.ask(todo, signals).await;
    shared.progress.finish();
    let ending = match shared.reason.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ending::Complete,
        Some(Reason::OutOfMoney(next_usd)) => Ending::OutOfMoney { next_usd },
        Some(Reason::Signal) => Ending::Interrupted,
        Some(Reason::Error(error)) => return Err(error),
    };
    let failures = shared.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Asked { ending, failures })
}

impl Shared<'_> {
    async fn ask(&self, todo: Vec<Vec<(usize, &Question)>>, signals: &mut Signals) {
        let mut experts = pin!(join_all(self.plan.askers.iter().zip(todo).map(|(asker, todo)| self.ask_expert(asker, todo))));
        let finished = tokio::select! {
            _ = &mut experts => true,
            () = signals.next() => { self.end(Reason::Signal); false }
            () = self.stopped() => false,
        };
        if !finished {
            self.progress.say("stopping: waiting for the answers under way (Ctrl-C drops them)");
            tokio::select! {
                _ = &mut experts => {}
                () = signals.next() => {}
                () = tokio::time::sleep(DRAIN) => {}
            }
        }
    }

    fn end(&self, reason: Reason) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.stop.send_replace(true);
    }

    fn stops(&self) -> bool {
        *self.stop.borrow()
    }

    async fn stopped(&self) {
        // It fails only where there is no sender any more, and `self` has it.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    async fn ask_expert(&self, asker: &Asker, todo: Vec<(usize, &Question)>) {
        let most = asker.expert().max_in_flight.unwrap_or(u32::MAX) as usize;
        let concurrency = usize::from(self.options.concurrency).min(most).max(1);
        let pace = Pace::new(self.options.rate);
        let ask = |(row, question)| self.ask_in_turn(asker, &pace, row, question);
        stream::iter(todo).for_each_concurrent(concurrency, ask).await;
    }

    async fn ask_in_turn(&self, asker: &Asker, pace: &Pace, row: usize, question: &Question) {
        let _permit = self.at_once.acquire().await.expect("the semaphore is never closed");
        let turn = async {
            pace.turn().await;
            let most = asker.most_cost_usd(&question.body);
            self.money.reserve(most).await.map_err(|Spent| Reason::OutOfMoney(most)).map(|()| most)
        };
        let reserved = tokio::select! {
            biased;
            () = self.stopped() => return,
            reserved = turn => reserved,
        };
        let asked = match reserved {
            Ok(most) => self.ask_one(asker, pace, (row, question), most).await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = asked {
            self.end(reason);
        }
    }

    /// Asks one question for which `most` is set aside.
    async fn ask_one(&self, asker: &Asker, pace: &Pace, (row, question): (usize, &Question), most: f64) -> Result<(), Reason> {
        let (_busy, busy) = pace.busy();
        let (mut trouble, mut out_of_money) = (None, false);
        let tell = |attempt| {
            let told = match attempt {
                Attempt::Sent if self.stops() => return ControlFlow::Break(()),
                Attempt::Sent => self.journal.sent(&question.key, most),
                Attempt::Lost => {
                    out_of_money = !self.money.lose(most);
                    Ok(())
                }
                Attempt::Failed { pause } => {
                    pause.into_iter().for_each(|pause| pace.pause(pause));
                    self.journal.failed(&question.key)
                }
            };
            trouble = told.err();
            if trouble.is_none() && !out_of_money { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        // Whoever waits has nothing under way: when all stops, it stops at once.
        let wait = async |wait| {
            let turn = async {
                tokio::time::sleep(wait).await;
                pace.turn().await;
            };
            tokio::select! {
                biased;
                () = self.stopped() => ControlFlow::Break(()),
                () = turn => ControlFlow::Continue(()),
            }
        };
        let asked = asker.ask(&question.body, busy, tell, wait).await;
        self.money.settle(most, asked.as_ref().map_or(0.0, |answer| answer.cost_usd.unwrap_or(most)));
        if let Some(error) = trouble {
            return Err(Reason::Error(error));
        }
        if out_of_money {
            return Err(Reason::OutOfMoney(most));
        }
        let answered = asked.is_ok();
        match asked {
            Ok(answer) => self.keep(asker, (row, question), &answer).await.map_err(Reason::Error)?,
            // Others had a reason.
            Err(AskError::Stopped) => return Ok(()),
            Err(error) => self.failed(asker, question, &error).map_err(Reason::Error)?,
        }
        self.progress.step(answered, self.money.spent_usd());
        Ok(())
    }

    async fn keep(&self, asker: &Asker, (row, question): (usize, &Question), answer: &Answer) -> Result<()> {
        let mut outcome = answer.outcome(&question.key.expert);
        let likelihood = if self.options.reference_nll { reference_nll(self, asker, row).await } else { Ok(None) };
        if let Ok(nll) = &likelihood {
            outcome.other.extend(nll.map(|nll| ("reference_nll".to_owned(), nll.into())));
        }
        // It is paid for, whatever became of the rest.
        self.journal.answered(&question.key, outcome)?;
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(question.key.expert.clone());
        likelihood.map(drop).or_else(|error| self.missed(format!("{error:#}")))
    }

    /// Counts a query without an answer. An error where more of them would follow.
    fn failed(&self, asker: &Asker, question: &Question, error: &AskError) -> Result<()> {
        let name = &asker.expert().name;
        let follows = match error {
            // Moderation answers so too, and then it is about this query alone.
            AskError::Refused { status: StatusCode::FORBIDDEN, .. } => {
                !self.answered.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
            }
            AskError::Refused { .. } | AskError::Credentials { .. } => true,
            _ => false,
        };
        if follows {
            bail!("expert {name} at {}: {error}", asker.expert().base_url);
        }
        self.missed(format!("{}, expert {name}: {error}", question.key.id))
    }

    fn missed(&self, what: String) -> Result<()> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(what);
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
    Ok(Some(likelihood.with_context(|| format!("{}, expert {}: the reference's likelihood", row.id, asker.expert().name))?.mean_nll()))
}
