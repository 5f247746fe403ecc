//! A model in shadow: it is asked about a share of the requests, and what it would have chosen is counted.
//!
//! In: what a decision was made from. Out: counters. The model runs on a thread of its own, after the request's answer, and on nobody's
//! time: a full queue drops the request and says so. It has no say in anything.

use std::sync::{
    Arc, OnceLock,
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use bytes::Bytes;
use routing::{ExpertState, Request, choose, needs_scores, table::ExpertIndex};
use wire::{Endpoint, Inbound};

use super::give_way;
use crate::{
    metrics::Metrics,
    score,
    state::{BoundModel, State},
};

/// Requests that may wait.
const WAITING: usize = 256;

/// A model on trial, loaded.
#[derive(Debug)]
pub struct ShadowModel {
    /// Bound to the table's experts.
    pub bound: BoundModel,
    /// Of the requests.
    pub percent: u8,
}

/// A request that was decided.
#[derive(Debug)]
pub struct Job {
    /// What it was decided by; the model in shadow is in it.
    pub state: Arc<State>,
    /// The request's.
    pub body: Bytes,
    /// What it was sent to.
    pub endpoint: Endpoint,
    /// Its facts.
    pub request: Request,
    /// How the experts were.
    pub states: Vec<ExpertState>,
    /// Who was chosen.
    pub chosen: ExpertIndex,
}

/// The thread, once there is something for it to do. It ends with the process, or once nobody can ask it any more.
#[derive(Debug, Default)]
pub struct Shadow {
    jobs: OnceLock<Option<SyncSender<Box<Job>>>>,
}

impl Shadow {
    /// Has the model asked, some time.
    pub fn ask(&self, job: Box<Job>, metrics: &Arc<Metrics>) {
        let sender = self.jobs.get_or_init(|| {
            let (sender, receiver) = sync_channel(WAITING);
            let metrics = metrics.clone();
            let started = std::thread::Builder::new().name("shadow".into()).spawn(move || work(&receiver, &metrics));
            started.map(|_| sender).inspect_err(|error| tracing::warn!(%error, "no thread for the model in shadow")).ok()
        });
        let sent = sender.as_ref().map(|sender| sender.try_send(job));
        if !matches!(sent, Some(Ok(()))) {
            debug_assert!(!matches!(sent, Some(Err(TrySendError::Disconnected(_)))), "the thread does not end before its askers");
            metrics.shadow.skipped(Skipped::QueueFull);
        }
    }
}

fn work(jobs: &Receiver<Box<Job>>, metrics: &Metrics) {
    give_way();
    for job in jobs {
        match job.run() {
            Ok(Some(seen)) => metrics.shadow.seen(&job.state.table.experts()[seen.expert].name, &seen),
            Ok(None) => {}
            Err(why) => metrics.shadow.skipped(why),
        }
    }
}

/// Why a request that was to be looked at was not. A closed set: these are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// Too many wait.
    QueueFull,
    /// The model failed on it.
    NoScore,
    /// Nobody could be chosen by these scores.
    Refused,
}

impl Skipped {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::NoScore, Self::Refused];

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NoScore => "no_score",
            Self::Refused => "refused",
        }
    }
}

/// What would have been.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Whom the model in shadow would have chosen.
    pub expert: ExpertIndex,
    /// The same as was chosen.
    pub agreed: bool,
    /// Predicted score of its choice less that of the choice made, by its own prediction.
    pub gain: Option<f64>,
    /// Predicted cost of its choice and of the choice made, by its own prediction; where both are known.
    pub cost_usd: Option<(f64, f64)>,
}

impl Job {
    /// Asks; nothing where no score could change the decision.
    fn run(&self) -> Result<Option<Seen>, Skipped> {
        let (table, request, states) = (&self.state.table, &self.request, self.states.as_slice());
        let Some(shadow) = &self.state.shadow else { return Ok(None) };
        if !needs_scores(table, request, states) {
            return Ok(None);
        }
        // It parsed before.
        let inbound = Inbound::parse(self.endpoint, self.body.clone()).map_err(|_| Skipped::NoScore)?;
        let text = shadow.bound.engine.bundle().manifest.text.apply(&inbound.prompt());
        let predictions = shadow.bound.engine.score_all(&[text]).map_err(|error| {
            tracing::debug!(%error, "the model in shadow failed on a prompt");
            Skipped::NoScore
        })?;
        let prediction = predictions.first().ok_or(Skipped::NoScore)?;
        let scores = score::bind(&shadow.bound, prediction).map_err(|_| Skipped::NoScore)?;
        let decision = choose(table, request, states, Ok(&scores)).map_err(|_| Skipped::Refused)?;
        let as_it_was = Request { pin: Some(self.chosen), ..request.clone() };
        // Nobody is refused a place that is only thought of.
        let made = choose(table, &as_it_was, &[], Ok(&scores)).ok();
        let of = |expert: ExpertIndex| scores.quality.get(expert).copied().filter(|score| score.is_finite()).map(f64::from);
        Ok(Some(Seen {
            expert: decision.expert,
            agreed: decision.expert == self.chosen,
            gain: of(decision.expert).zip(of(self.chosen)).map(|(shadow, made)| shadow - made),
            cost_usd: decision.predicted_cost_usd.zip(made.and_then(|made| made.predicted_cost_usd)),
        }))
    }
}
