//! One endpoint of a model, that is the predictor at one address: its health, latency, revision and requests in flight.
//! Decides when a request that it has not answered should also go to another endpoint.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::balance::clock::{millis, now};
use crate::balance::latency::{Ewma, is_small};
use crate::balance::outlier::{Availability, OutlierDetector};
use crate::balance::p2c::Load;
use crate::revision::Revision;
use crate::upstream::describe::DescribeFlight;
use crate::upstream::pool::ConnectionPool;

/// How long after a response the endpoint is assumed to serve the same revision.
const RECENT: Duration = Duration::from_secs(5);

/// A predictor of a model, at one address.
pub(crate) struct Endpoint {
    pub(crate) pool: Arc<ConnectionPool>,
    pub(crate) describe_flight: DescribeFlight,
    /// The revision in its last response.
    revision: ArcSwapOption<Revision>,
    /// When it last responded, by `clock`.
    pub(super) last_response: AtomicU64,
    pub(super) in_flight: AtomicU32,
    pub(super) outlier: OutlierDetector,
    pub(super) latency: Ewma,
}

impl Endpoint {
    /// An endpoint that has not been used yet. It is ejected for `base_ejection_time` after its first failure, and begins in
    /// slow start if it joins endpoints that are in use.
    pub(super) fn new(pool: Arc<ConnectionPool>, base_ejection_time: Duration, joins_others: bool) -> Self {
        Self {
            pool,
            describe_flight: DescribeFlight::default(),
            revision: ArcSwapOption::empty(),
            last_response: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            outlier: OutlierDetector::new(base_ejection_time, joins_others),
            latency: Ewma::default(),
        }
    }

    /// The revision in its last response.
    pub(crate) fn revision(&self) -> Option<Arc<Revision>> {
        self.revision.load_full()
    }

    /// Whether it responded as `revision` within the last seconds.
    pub(crate) fn was_recently(&self, revision: &Arc<Revision>) -> bool {
        let is_same = self.revision.load().as_ref().is_some_and(|own| Arc::ptr_eq(own, revision));
        is_same && now() < self.last_response.load(Ordering::Relaxed) + millis(RECENT)
    }

    /// Records a response of `revision`.
    pub(crate) fn answered(&self, revision: &Arc<Revision>, now: u64) {
        if !self.revision.load().as_ref().is_some_and(|own| Arc::ptr_eq(own, revision)) {
            self.revision.store(Some(revision.clone()));
        }
        self.last_response.store(now, Ordering::Relaxed);
        self.outlier.record_success(now);
    }

    /// Records the latency of a prediction for `rows` rows.
    pub(crate) fn record_latency(&self, rows: usize, took: Duration, now: u64) {
        self.latency.observe(rows, took, now);
    }

    pub(super) fn load(&self, now: u64) -> Load {
        Load {
            availability: self.outlier.availability(now, fastrand::f32),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            latency_rank: self.latency.rank(now),
        }
    }
}

/// What to do about a request without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HedgeDecision {
    /// Wait for this long, then decide again.
    Wait(Duration),
    /// Send the request to another endpoint as well.
    Hedge(HedgeReason),
}

/// Why a request is sent to another endpoint as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HedgeReason {
    /// The endpoint answers other requests, but this one has few rows and takes longer than the hedge delay.
    Slow,
    /// The endpoint answers no request.
    Unresponsive,
}

/// A request that an endpoint is working on. Dropping it ends the request.
pub(crate) struct InFlight {
    pub(super) endpoint: Arc<Endpoint>,
    /// When the endpoint was picked, by `clock`.
    pub(crate) at: u64,
    /// Whether this is the one request that an endpoint gets after its ejection.
    is_probe: bool,
}

impl InFlight {
    pub(super) fn new(endpoint: Arc<Endpoint>, availability: Availability, at: u64) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        let is_probe = availability == Availability::Probing && endpoint.outlier.begin_probe();
        Self { endpoint, at, is_probe }
    }

    /// Whether the endpoint has answered any request since this one was sent.
    pub(super) fn has_answered_since(&self) -> bool {
        self.last_response.load(Ordering::Relaxed) > self.at
    }

    /// What to do at `now` about this request of `rows` rows. An endpoint is unresponsive when it has answered no request for
    /// `hedge_delay`. A small request waits less, a multiple of the mean latency, if the endpoint has several requests in
    /// flight or failed before, since a single slow request does not explain the silence then.
    pub(crate) fn hedge_decision(&self, rows: usize, hedge_delay: Duration, now: u64) -> HedgeDecision {
        let since = self.at.max(self.last_response.load(Ordering::Relaxed));
        let mut unresponsive_at = since + millis(hedge_delay);
        let mut slow_at = u64::MAX;
        if is_small(rows) {
            slow_at = self.at + millis(hedge_delay);
            if let Some(after) = self.latency.unresponsive_after() {
                let may_be_unresponsive =
                    self.in_flight.load(Ordering::Relaxed) > 1 || self.outlier.is_failing();
                let since = if may_be_unresponsive { since } else { now };
                unresponsive_at = unresponsive_at.min(since + millis(after));
            }
        }
        match unresponsive_at.min(slow_at) {
            until if now < until => HedgeDecision::Wait(Duration::from_millis(until - now)),
            _ if now >= unresponsive_at => HedgeDecision::Hedge(HedgeReason::Unresponsive),
            _ => HedgeDecision::Hedge(HedgeReason::Slow),
        }
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> Arc<Endpoint> {
        self.endpoint.clone()
    }
}

impl Deref for InFlight {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_probe {
            self.endpoint.outlier.end_probe();
        }
    }
}
