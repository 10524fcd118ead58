//! Leader election by one Lease per cluster, as in client-go.
//!
//! The holder opens the fence for all writes, for a shorter time than others wait. Invariant: clocks of different
//! machines are never compared. Each process measures how long the Lease has not changed, and counts its own hold
//! from before it sent the write.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use canopy_runtime::readiness::ReadinessGate;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, sleep, timeout};

use crate::api::fence::Fence;
use crate::labels::INSTALLATION;

/// Name of the Lease.
pub const NAME: &str = "canopy-operator";

/// Lease duration: a Lease that has not changed for this long can be taken.
const DURATION: Duration = Duration::from_secs(15);
/// Renew deadline: a holder that could not renew for this long stops, well before another takes over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Interval of renewals.
const RENEW_PERIOD: Duration = Duration::from_secs(3);
/// Interval of attempts to acquire the Lease, and of retries.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// A candidate for leadership.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its identity: the name of its pod.
    pub identity: String,
    /// Its installation.
    pub installation: String,
}

/// The leader election from the view of one process.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    candidate: Candidate,
    /// The Lease as last observed, and since when it has not changed.
    seen: Option<(Lease, Instant)>,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Renew,
    Wait,
}

/// Result of an attempt to acquire or renew the Lease.
#[derive(Debug)]
enum LeaseState {
    /// This process holds the Lease. The write was sent at this time.
    Held(Instant),
    /// The Lease has no holder, or another write came first.
    Free,
    /// Another process holds the Lease.
    HeldByOther(Holder),
}

/// The holder of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    identity: String,
    /// Its installation, if it differs from that of the candidate.
    other_installation: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, other_installation } = self;
        match other_installation {
            None => write!(f, "{identity} is the leader"),
            Some(installation) => write!(
                f,
                "another installation of Canopy, {installation}, leads in this cluster (holder {identity}), so this \
                 one is inactive; uninstall one of them"
            ),
        }
    }
}

impl Election {
    /// The election for the Lease in `namespace`.
    pub fn new(client: Client, namespace: &str, candidate: Candidate) -> Self {
        Self { api: Api::namespaced(client, namespace), candidate, seen: None }
    }

    /// Waits until this process holds the Lease and the fence is open, or until `stop`. Returns whether it holds the Lease.
    /// An attempt in progress ends before `stop` does, so that a Lease that it takes can be released. The readiness gate opens
    /// if this process leads or could lead next; for a second installation it stays closed.
    pub async fn acquire(
        &mut self,
        gate: &ReadinessGate,
        fence: &Fence,
        stop: impl Future<Output = ()>,
    ) -> bool {
        let (mut reported, mut stop) = (None, pin!(stop));
        loop {
            match timeout(RENEW_DEADLINE, self.attempt()).await {
                Ok(Ok(LeaseState::Held(since))) => {
                    fence.open_until(since + RENEW_DEADLINE);
                    if fence.remaining().is_zero() {
                        // The response was so late that the Lease may already belong to another.
                        continue;
                    }
                    gate.open();
                    return true;
                }
                Ok(Ok(LeaseState::Free)) => {}
                Ok(Ok(LeaseState::HeldByOther(holder))) => {
                    if reported.as_ref() != Some(&holder) {
                        report_holder(&holder, gate);
                    }
                    reported = Some(holder);
                }
                Ok(Err(error)) => tracing::warn!(%error, lease = NAME, "failed to acquire the Lease"),
                Err(_) => {
                    tracing::warn!(
                        lease = NAME,
                        "failed to acquire the Lease: {}",
                        no_answer_within(RENEW_DEADLINE)
                    );
                }
            }
            tokio::select! {
                biased;
                () = &mut stop => return false,
                () = sleep(RETRY_PERIOD) => {}
            }
        }
    }

    /// Renews the Lease and extends the fence until `stop`. Returns `None`, with a closed fence, if the Lease is
    /// lost.
    pub async fn renew_until(mut self, fence: Fence, stop: impl Future<Output = ()>) -> Option<Self> {
        let mut stop = pin!(stop);
        let mut wait = RENEW_PERIOD;
        loop {
            tokio::select! {
                biased;
                () = fence.closed() => {
                    tracing::error!(lease = NAME, "failed to renew the Lease before the deadline");
                    return None;
                }
                () = &mut stop => return Some(self),
                () = sleep(wait) => {}
            }
            // A hanging call leaves time for another.
            let remaining = fence.remaining();
            let limit = if remaining > RENEW_DEADLINE / 2 { remaining / 2 } else { remaining };
            wait = match timeout(limit, self.renew()).await {
                Ok(Ok(LeaseState::Held(since))) => {
                    fence.open_until(since + RENEW_DEADLINE);
                    RENEW_PERIOD
                }
                Ok(Ok(LeaseState::HeldByOther(holder))) => {
                    fence.close();
                    tracing::error!(lease = NAME, "lost the Lease: {holder}");
                    return None;
                }
                Ok(Ok(LeaseState::Free)) => RETRY_PERIOD,
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = NAME, "failed to renew the Lease");
                    RETRY_PERIOD
                }
                Err(_) => {
                    tracing::warn!(lease = NAME, "failed to renew the Lease: {}", no_answer_within(limit));
                    Duration::ZERO
                }
            };
        }
    }

    /// Releases the Lease, so that another process can acquire it at once.
    pub async fn release(mut self) {
        let Some((mut lease, _)) = self.seen.take() else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.candidate.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        match timeout(RETRY_PERIOD, self.api.replace(NAME, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, lease = NAME, "failed to release the Lease"),
            Err(_) => tracing::warn!(
                lease = NAME,
                "failed to release the Lease: {}",
                no_answer_within(RETRY_PERIOD)
            ),
        }
    }

    /// Renews the Lease as last observed. After a conflict it is read again before it counts as lost.
    async fn renew(&mut self) -> kube::Result<LeaseState> {
        let held = self.seen.as_ref().map(|(lease, _)| lease.clone());
        let held = held.filter(|lease| holder(lease.spec.as_ref()) == self.candidate.identity);
        if let Some(lease) = held {
            match self.write(Some(lease)).await {
                Ok(LeaseState::Free) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                ended => return ended,
            }
        }
        self.attempt().await
    }

    /// Reads the Lease and takes the next step.
    async fn attempt(&mut self) -> kube::Result<LeaseState> {
        let lease = self.api.get_opt(NAME).await?;
        let unchanged_for = self.observe(lease.as_ref());
        match self.next_step(lease.as_ref(), unchanged_for) {
            Step::Create | Step::Take | Step::Renew => self.write(lease).await,
            Step::Wait => Ok(self.not_acquired(lease.as_ref())),
        }
    }

    async fn write(&mut self, lease: Option<Lease>) -> kube::Result<LeaseState> {
        let (exists, parameters) = (lease.is_some(), PostParams::default());
        let held_by_self = self.held_by_self(lease);
        // Other processes count from the time of the write, which is later than this.
        let since = Instant::now();
        let written = if exists {
            self.api.replace(NAME, &parameters, &held_by_self).await
        } else {
            self.api.create(&parameters, &held_by_self).await
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(LeaseState::Held(since))
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(LeaseState::Free)
            }
            Err(error) => Err(error),
        }
    }

    /// Records the Lease and returns how long it has not changed.
    fn observe(&mut self, lease: Option<&Lease>) -> Duration {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let same = self.seen.as_ref().filter(|(seen, _)| lease.map(version) == Some(version(seen)));
        let since = same.map_or_else(Instant::now, |(_, since)| *since);
        self.seen = lease.map(|lease| (lease.clone(), since));
        since.elapsed()
    }

    fn next_step(&self, lease: Option<&Lease>, unchanged_for: Duration) -> Step {
        let Some(lease) = lease else { return Step::Create };
        let holder = holder(lease.spec.as_ref());
        if holder == self.candidate.identity {
            return Step::Renew;
        }
        // When the pods of an installation are replaced, the next of them should lead, not a second installation.
        let is_free = holder.is_empty() && self.other_installation(lease).is_none();
        // The duration in the Lease is ignored: anyone who may write the Lease could shorten it.
        if is_free || unchanged_for >= DURATION { Step::Take } else { Step::Wait }
    }

    fn not_acquired(&self, lease: Option<&Lease>) -> LeaseState {
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        match holder(spec) {
            "" => LeaseState::Free,
            holder => LeaseState::HeldByOther(Holder {
                identity: holder.to_owned(),
                other_installation: lease.and_then(|lease| self.other_installation(lease)),
            }),
        }
    }

    fn other_installation(&self, lease: &Lease) -> Option<String> {
        let installation = lease.annotations().get(INSTALLATION);
        installation.filter(|installation| **installation != self.candidate.installation).cloned()
    }

    /// The Lease with this process as its holder, renewed now.
    fn held_by_self(&self, lease: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let Lease { metadata, spec } = lease.unwrap_or_default();
        let before = spec.unwrap_or_default();
        let Candidate { identity, installation } = &self.candidate;
        let changes_hands = before.holder_identity.as_ref() != Some(identity);
        let mut annotations = metadata.annotations.clone().unwrap_or_default();
        annotations.insert(INSTALLATION.to_owned(), installation.clone());
        Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), annotations: Some(annotations), ..metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if changes_hands { Some(now.clone()) } else { before.acquire_time },
                renew_time: Some(now),
                lease_transitions: Some(
                    before.lease_transitions.unwrap_or(0).saturating_add(i32::from(changes_hands)),
                ),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(spec: Option<&LeaseSpec>) -> &str {
    spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn no_answer_within(limit: Duration) -> String {
    format!("no response within {:.1} s", limit.as_secs_f64())
}

fn report_holder(holder: &Holder, gate: &ReadinessGate) {
    if holder.other_installation.is_some() {
        tracing::warn!(lease = NAME, "{holder}");
        gate.close(holder.to_string());
    } else {
        tracing::info!(lease = NAME, "{holder}; this operator is on standby");
        gate.open();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_renew_deadline_is_shorter_than_the_lease_duration() {
        assert!(RENEW_DEADLINE + RETRY_PERIOD < DURATION);
        // One renewal that takes half of the remaining time does not lose the Lease.
        assert!(
            RENEW_PERIOD + RENEW_DEADLINE.saturating_sub(RENEW_PERIOD) / 2 + RETRY_PERIOD < RENEW_DEADLINE
        );
    }
}
