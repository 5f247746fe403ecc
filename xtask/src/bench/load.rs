//! The load: requests at times fixed beforehand (open loop), or as many as go through (closed loop).
//!
//! Coordinated omission: a latency counts from when the request was due, whether or not anything was free to send it then. Arrivals are
//! random (exponential gaps), the same for every case of a round.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::client::Connection;
use super::prompt::Prompts;

/// Requests under way at once in the open loop before a due one has to wait (which then counts).
const OPEN_THREADS: usize = 64;

/// Connections of the closed loop: enough to keep one proxy thread busy.
const CLOSED_THREADS: usize = 16;

/// Where requests go and what they are.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The `model` field.
    pub(super) model: &'static str,
    /// The prompt's length in tokens.
    pub(super) tokens: usize,
}

/// Latencies in milliseconds, each from its due time.
pub(super) fn open_loop(target: &Target, prompts: &Prompts, rate: f64, seconds: f64, seed: u64) -> Result<Vec<f64>> {
    let due = Arc::new(arrivals(rate, seconds, seed));
    let numbers = prompts.reserve(due.len() as u64);
    let requests: Arc<Vec<_>> = Arc::new((numbers..).take(due.len()).map(|number| prompts.request(target, number)).collect());
    let next = Arc::new(AtomicUsize::new(0));
    // Time for the threads to start and to connect.
    let start = Instant::now() + Duration::from_millis(50);
    let workers: Vec<_> = (0..OPEN_THREADS.min(due.len()))
        .map(|_| {
            let (due, requests, next, address) = (Arc::clone(&due), Arc::clone(&requests), Arc::clone(&next), target.address);
            thread::spawn(move || take_turns(address, start, &due, &requests, &next))
        })
        .collect();
    let mut latencies = Vec::with_capacity(due.len());
    for worker in workers {
        latencies.extend(worker.join().expect("a worker does not panic")?);
    }
    Ok(latencies)
}

fn take_turns(address: SocketAddr, start: Instant, due: &[Duration], requests: &[Vec<u8>], next: &AtomicUsize) -> Result<Vec<f64>> {
    let mut connection = Connection::open(address)?;
    let mut latencies = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(after) = due.get(index) else { return Ok(latencies) };
        let at = start + *after;
        thread::sleep(at.saturating_duration_since(Instant::now()));
        send(&mut connection, &requests[index])?;
        latencies.push(at.elapsed().as_secs_f64() * 1000.0);
    }
}

/// Requests a second that go through when each connection sends its next one at once.
pub(super) fn closed_loop(target: &Target, prompts: &Arc<Prompts>, seconds: f64) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let workers: Vec<_> = (0..CLOSED_THREADS)
        .map(|_| {
            let (target, prompts, done) = (target.clone(), Arc::clone(prompts), Arc::clone(&done));
            thread::spawn(move || -> Result<()> {
                let mut connection = Connection::open(target.address)?;
                while Instant::now() < end {
                    send(&mut connection, &prompts.request(&target, prompts.reserve(1)))?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker does not panic")?;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

/// The median of a few requests one after the other, in milliseconds.
pub(super) fn alone(target: &Target, prompts: &Prompts, count: u64) -> Result<f64> {
    let mut connection = Connection::open(target.address)?;
    let mut times = Vec::new();
    for number in 0..count {
        let request = prompts.request(target, prompts.reserve(1) + number);
        let start = Instant::now();
        send(&mut connection, &request)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn send(connection: &mut Connection, request: &[u8]) -> Result<()> {
    let (status, body) = connection.exchange(request)?;
    if status != 200 {
        bail!("answered {status}: {}", String::from_utf8_lossy(body));
    }
    Ok(())
}

/// Due times of so many seconds.
fn arrivals(rate: f64, seconds: f64, seed: u64) -> Vec<Duration> {
    let mut random = super::prompt::Random::new(seed);
    let mut at = 0.0;
    std::iter::from_fn(|| {
        at -= (1.0 - random.unit()).ln() / rate;
        (at < seconds).then(|| Duration::from_secs_f64(at))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_at_the_rate_and_the_same_for_a_seed() {
        let made = arrivals(100.0, 50.0, 7);
        assert!((4500..5500).contains(&made.len()), "{}", made.len());
        assert!(made.is_sorted() && *made.last().unwrap() < Duration::from_secs(50));
        assert_eq!(made, arrivals(100.0, 50.0, 7));
        assert_ne!(made, arrivals(100.0, 50.0, 8));
    }
}
