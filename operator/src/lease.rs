//! Which of several operators acts: the one that holds the Lease.
//!
//! Comes in: a client and a name. Goes out: the moment this process leads, and the moment it no longer does.
//! Never: a comparison of two machines' clocks; how long a Lease was left alone is measured here.

use std::time::Duration;

use canopy_runtime::readiness::Gate;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

/// The name of the Lease.
pub const NAME: &str = "canopy-operator";

/// A Lease that was left alone for so long may be taken.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long no longer acts: well before another may.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often a holder renews.
const RENEW_PERIOD: Duration = Duration::from_secs(5);
/// How often one that waits looks, and one that failed tries again.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// The Lease, as one process sees it.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    identity: String,
    /// What was seen last, and since when it has not changed.
    seen: Option<(Lease, Instant)>,
}

/// What to do with a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Renew,
    Wait,
}

impl Election {
    /// The Lease in `namespace`, for which this process stands as `identity`.
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), identity: identity.to_owned(), seen: None }
    }

    /// Returns when this process holds the Lease. Who has been told of it at all can do its work, and opens the gate.
    pub async fn won(&mut self, gate: &Gate) {
        loop {
            let attempt = self.attempt().await;
            if attempt.is_ok() {
                gate.open();
            }
            match attempt {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, lease = NAME, "failed to ask for the Lease"),
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the Lease, and returns when this process no longer holds it.
    pub async fn lost(&mut self) {
        let mut renewed = Instant::now();
        let mut period = RENEW_PERIOD;
        while renewed.elapsed() + period < RENEW_DEADLINE + RETRY_PERIOD {
            tokio::time::sleep(period).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            period = match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    RENEW_PERIOD
                }
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = NAME, "failed to renew the Lease");
                    RETRY_PERIOD
                }
            };
        }
    }

    /// Lets another take the Lease at once.
    pub async fn release(mut self) {
        let Some((mut lease, _)) = self.seen.take() else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = Some(String::new());
            if let Err(error) = self.api.replace(NAME, &PostParams::default(), &lease).await {
                tracing::warn!(%error, lease = NAME, "failed to release the Lease");
            }
        }
    }

    /// Looks at the Lease and does what there is to do. Whether this process holds it now.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let lease = self.api.get_opt(NAME).await?;
        let left_alone = self.look(lease.as_ref());
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let written = match step(lease.is_some(), spec, left_alone, &self.identity) {
            Step::Wait => return Ok(false),
            Step::Create => self.api.create(&PostParams::default(), &self.claimed(None)).await,
            Step::Take | Step::Renew => {
                self.api.replace(NAME, &PostParams::default(), &self.claimed(lease)).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(true)
            }
            // Another was faster: what it wrote is looked at next time.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How long the Lease has been as it is.
    fn look(&mut self, lease: Option<&Lease>) -> Duration {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let same = self.seen.as_ref().filter(|(seen, _)| lease.map(version) == Some(version(seen)));
        let since = same.map_or_else(Instant::now, |(_, since)| *since);
        self.seen = lease.map(|lease| (lease.clone(), since));
        since.elapsed()
    }

    /// The Lease in this process's hand.
    fn claimed(&self, lease: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let Lease { metadata, spec } = lease.unwrap_or_default();
        let before = spec.unwrap_or_default();
        let changes_hands = before.holder_identity.as_ref() != Some(&self.identity);
        Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if changes_hands { Some(now.clone()) } else { before.acquire_time },
                renew_time: Some(now),
                lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(changes_hands)),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn step(exists: bool, spec: Option<&LeaseSpec>, left_alone: Duration, identity: &str) -> Step {
    if !exists {
        return Step::Create;
    }
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    if holder == identity {
        Step::Renew
    } else if holder.is_empty() || left_alone >= duration {
        Step::Take
    } else {
        Step::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lease: Option<(&str, i32)>, left_alone: u64, expected: Step) {
        let spec = lease.map(|(holder, seconds)| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        });
        assert_eq!(step(lease.is_some(), spec.as_ref(), Duration::from_secs(left_alone), "me"), expected);
    }

    #[test]
    fn a_lease_is_taken_where_nobody_holds_it_or_its_holder_is_silent() {
        check(None, 0, Step::Create);
        check(Some(("", 15)), 0, Step::Take);
        check(Some(("other", 15)), 14, Step::Wait);
        check(Some(("other", 15)), 15, Step::Take);
        check(Some(("me", 15)), 0, Step::Renew);
        check(Some(("me", 15)), 60, Step::Renew);
    }

    #[test]
    fn a_holder_stops_acting_before_another_may_begin() {
        assert!(RENEW_DEADLINE + RETRY_PERIOD < DURATION);
        assert!(RENEW_PERIOD + RETRY_PERIOD < RENEW_DEADLINE);
    }
}
