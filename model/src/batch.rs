//! Which waiting requests run together: a pure rule, apart from the threads that use it.
//!
//! In: what waits, with lengths and deadlines; a clock's time passed in. Out: what to run now. The oldest goes first, and takes with it
//! those whose length is near its own, so that little of a batch is padding.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Rows.
    pub rows: usize,
    /// Rows times the longest of them. One row alone may be longer.
    pub cells: usize,
    /// The share of the cells, in hundredths, that may be padding.
    pub padding_percent: usize,
}

/// Something that waits to be run.
pub trait Waiting {
    /// About how long its row is.
    fn length(&self) -> usize;
    /// Nobody wants its answer any more.
    fn is_gone(&self) -> bool;
    /// When its answer comes too late.
    fn deadline(&self) -> Instant;
}

/// What [`take`] took.
#[derive(Debug)]
pub struct Taken<W> {
    /// To run together, the oldest first.
    pub batch: Vec<W>,
    /// Too late; to be told so. Those whose caller has gone are simply dropped.
    pub expired: Vec<W>,
}

/// Takes out of the queue what is to run now, what is too late, and what nobody waits for.
pub fn take<W: Waiting>(waiting: &mut VecDeque<W>, limits: &Limits, now: Instant) -> Taken<W> {
    let expired = sweep(waiting, now);
    let lengths: Vec<usize> = waiting.iter().map(Waiting::length).collect();
    let mut chosen = vec![false; waiting.len()];
    for index in group(&lengths, limits) {
        chosen[index] = true;
    }
    let mut batch = Vec::new();
    let mut left = VecDeque::with_capacity(waiting.len());
    for (entry, chosen) in waiting.drain(..).zip(chosen) {
        if chosen { batch.push(entry) } else { left.push_back(entry) }
    }
    *waiting = left;
    Taken { batch, expired }
}

/// Drops what nobody waits for, and takes out what is too late.
pub fn sweep<W: Waiting>(waiting: &mut VecDeque<W>, now: Instant) -> Vec<W> {
    if waiting.iter().all(|entry| !entry.is_gone() && entry.deadline() > now) {
        return Vec::new();
    }
    let (mut expired, mut left) = (Vec::new(), VecDeque::with_capacity(waiting.len()));
    for entry in waiting.drain(..).filter(|entry| !entry.is_gone()) {
        if entry.deadline() > now { left.push_back(entry) } else { expired.push(entry) }
    }
    *waiting = left;
    expired
}

/// The first and those that may run with it: its neighbours by length are added, the nearest first, while the limits hold. Indices
/// ascend.
#[must_use]
pub fn group(lengths: &[usize], limits: &Limits) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Of equal length the older comes first.
    order.sort_by_key(|index| (lengths[*index], *index));
    let Some(first) = order.iter().position(|index| *index == 0) else { return Vec::new() };
    let (mut from, mut to, mut sum) = (first, first + 1, lengths[0]);
    loop {
        let own = lengths[0];
        let shorter = from.checked_sub(1).map(|at| (own - lengths[order[at]], order[at], from - 1, to));
        let longer = order.get(to).map(|index| (lengths[*index] - own, *index, from, to + 1));
        let mut neighbours: Vec<_> = shorter.into_iter().chain(longer).collect();
        neighbours.sort_unstable();
        let grown =
            |(_, index, from, to): &(usize, usize, usize, usize)| fits(to - from, lengths[order[to - 1]], sum + lengths[*index], limits);
        let Some((_, index, next_from, next_to)) = neighbours.into_iter().find(grown) else { break };
        sum += lengths[index];
        (from, to) = (next_from, next_to);
    }
    let mut group = order[from..to].to_vec();
    group.sort_unstable();
    group
}

/// All, in groups that may each run together, shortest first.
#[must_use]
pub fn groups(lengths: &[usize], limits: &Limits) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|index| (lengths[*index], *index));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut sum = 0;
    for index in order {
        let joins = groups.last().is_some_and(|group| fits(group.len() + 1, lengths[index], sum + lengths[index], limits));
        match groups.last_mut().filter(|_| joins) {
            Some(group) => group.push(index),
            None => {
                groups.push(vec![index]);
                sum = 0;
            }
        }
        sum += lengths[index];
    }
    groups
}

/// Whether so many rows, the longest of them and their sum being this, may run together.
fn fits(rows: usize, longest: usize, sum: usize, limits: &Limits) -> bool {
    let cells = rows * longest;
    rows <= limits.rows && cells <= limits.cells && (cells - sum) * 100 <= limits.padding_percent * cells
}

/// How much longer the oldest may wait for company. An idle engine never waits: company would come too late to help it, and it is
/// only when others run already that a fuller batch makes the queue shorter.
#[must_use]
pub fn wait_for_company(oldest: Instant, waiting: usize, running: usize, rows: usize, window: Duration, now: Instant) -> Option<Duration> {
    if running == 0 || waiting >= rows {
        return None;
    }
    (oldest + window).checked_duration_since(now).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests;
