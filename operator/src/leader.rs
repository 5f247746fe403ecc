//! Who leads, of several replicas: the holder of a Lease.
//!
//! The Lease is read, judged and written with its resource version, so that of two that try at once one is refused. Times of other
//! replicas are never compared with ours: what counts is how long we have seen the Lease unchanged, so clocks may differ.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio_util::sync::CancellationToken;

use crate::config;

/// How often those who wait look at the Lease.
const LOOK: Duration = Duration::from_secs(1);

/// One replica's view of the Lease.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    duration: Duration,
    seen: Option<(String, Instant)>,
}

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is ours: say that we are still here.
    Renew,
    /// It is nobody's, or its holder is gone.
    Take,
    /// Somebody else leads.
    Wait,
}

impl Election {
    /// Nothing known yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str, lease: &config::Lease, identity: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: lease.name.clone(), identity: identity.to_owned(), duration: lease.duration, seen: None }
    }

    /// Returns once this replica leads, or `false` when told to stop before.
    pub async fn win(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the Lease cannot be read or written"),
            }
            tokio::select! {
                // The later its silence is noticed, the later a leader that is gone is followed.
                () = tokio::time::sleep(LOOK.min(self.duration / 5)) => {}
                () = stop.cancelled() => return false,
            }
        }
    }

    /// Renews until told to stop, or until the Lease is lost; then returns.
    pub async fn hold(&mut self, stop: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.duration / 5) => {}
                () = stop.cancelled() => return,
            }
            // Longer than this without an answer, and another may lead before we know.
            let patience = (self.duration * 2 / 3).saturating_sub(renewed.elapsed());
            match tokio::time::timeout(patience, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return tracing::error!("somebody else holds the Lease"),
                Ok(Err(error)) if renewed.elapsed() < self.duration * 2 / 3 => tracing::warn!(%error, "the Lease cannot be renewed yet"),
                Ok(Err(_)) | Err(_) => return tracing::error!("the Lease could not be renewed in time"),
            }
        }
    }

    /// Gives the Lease back, so that another need not wait for it to run out.
    pub async fn release(&mut self) {
        let released = async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            self.api.replace(&self.name, &PostParams::default(), &lease).await.map(drop)
        };
        if let Err(error) = released.await {
            let error: kube::Error = error;
            tracing::warn!(%error, "the Lease could not be given back; it runs out by itself");
        }
    }

    /// Takes or renews the Lease, if that can be done. Returns whether it is ours now.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(self.name.clone());
            lease.spec = Some(self.spec(None, &now));
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        match step(lease.spec.as_ref(), &self.identity, unchanged) {
            Step::Wait => Ok(false),
            Step::Renew | Step::Take => {
                lease.spec = Some(self.spec(lease.spec.as_ref(), &now));
                won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
            }
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: &MicroTime) -> LeaseSpec {
        let ours = before.is_some_and(|before| before.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if ours { before.and_then(|before| before.acquire_time.clone()) } else { Some(now.clone()) },
            renew_time: Some(now.clone()),
            lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }
}

/// Refused for having been slower is an answer, not a failure.
fn won(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

fn step(lease: Option<&LeaseSpec>, identity: &str, unchanged: Duration) -> Step {
    let holder = lease.and_then(|lease| lease.holder_identity.as_deref()).unwrap_or_default();
    let seconds = lease.and_then(|lease| lease.lease_duration_seconds).unwrap_or(0);
    let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    match holder {
        "" => Step::Take,
        holder if holder == identity => Step::Renew,
        _ if unchanged > duration => Step::Take,
        _ => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(holder: Option<&str>, unchanged: u64, expect: Step) {
        let lease = LeaseSpec { holder_identity: holder.map(str::to_owned), lease_duration_seconds: Some(15), ..LeaseSpec::default() };
        assert_eq!(step(Some(&lease), "a", Duration::from_secs(unchanged)), expect);
    }

    #[test]
    fn a_lease_is_taken_only_when_its_holder_is_gone() {
        check(Some("a"), 0, Step::Renew);
        check(Some("b"), 0, Step::Wait);
        check(Some("b"), 15, Step::Wait);
        check(Some("b"), 16, Step::Take);
        check(None, 0, Step::Take);
        check(Some(""), 0, Step::Take);
        assert_eq!(step(None, "a", Duration::ZERO), Step::Take);
    }
}
