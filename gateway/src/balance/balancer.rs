//! The pods of a model that are in use, and which of them is asked next.
//!
//! Comes in: addresses, and how each call went. Goes out: of two pods that chance has picked the better one, by requests
//! in flight and latency; how long an answer is waited for. Never: a call, nor a second object for an address that is there
//! already; its connections and counts outlive a look-up. Balancer that can be reached are never all out at once.
//!
//! To look at two is enough to keep loads even, and does not send everybody to the one that is best at the moment
//! (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::balance::clock::{millis, now};
use crate::balance::latency::{Ewma, is_small};
use crate::balance::outlier::{Availability, OutlierDetector, max_ejected};
use crate::balance::p2c::{Load, choose_two, less_loaded};
use crate::error::UpstreamError;
use crate::revision::Revision;
use crate::upstream::describe::DescribeFlight;
use crate::upstream::pool::ConnectionPool;

/// For how long a pod is believed to be what it said it was.
const RECENT: Duration = Duration::from_secs(5);
/// As what a refusal counts among the times that answers take.
const OVERLOADED_LATENCY: Duration = Duration::from_secs(1);

/// One predictor of a model.
pub(crate) struct Endpoint {
    pub(crate) pool: Arc<ConnectionPool>,
    pub(crate) describe_flight: DescribeFlight,
    /// What it answered as when it last did.
    revision: ArcSwapOption<Revision>,
    /// When it last answered as that; see `clock`.
    last_response: AtomicU64,
    in_flight: AtomicU32,
    outlier: OutlierDetector,
    latency: Ewma,
}

impl Endpoint {
    /// A pod of which nothing is known yet; its first failure shuts it out for `time_out`.
    fn new(pool: Arc<ConnectionPool>, base_ejection_time: Duration, joins_others: bool) -> Self {
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

    /// The revision that it answered as when it last did.
    pub(crate) fn revision(&self) -> Option<Arc<Revision>> {
        self.revision.load_full()
    }

    /// Whether it was `known` a moment ago.
    pub(crate) fn was_recently(&self, revision: &Arc<Revision>) -> bool {
        let is_same = self.revision.load().as_ref().is_some_and(|own| Arc::ptr_eq(own, revision));
        is_same && now() < self.last_response.load(Ordering::Relaxed) + millis(RECENT)
    }

    /// It answered, as `known`.
    pub(crate) fn answered(&self, revision: &Arc<Revision>, now: u64) {
        if !self.revision.load().as_ref().is_some_and(|own| Arc::ptr_eq(own, revision)) {
            self.revision.store(Some(revision.clone()));
        }
        self.last_response.store(now, Ordering::Relaxed);
        self.outlier.record_success(now);
    }

    /// It predicted `rows` rows within `took`.
    pub(crate) fn predicted(&self, rows: usize, took: Duration, now: u64) {
        self.latency.observe(rows, took, now);
    }

    fn load(&self, now: u64) -> Load {
        Load {
            availability: self.outlier.availability(now, fastrand::f32),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            latency_rank: self.latency.rank(now),
        }
    }
}

/// What there is to do about a request whose answer has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HedgeDecision {
    /// To wait for this long, then look again.
    Wait(Duration),
    /// To ask another pod as well.
    Hedge(HedgeReason),
}

/// Why another pod is asked as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HedgeReason {
    /// The pod answers others, so it is well; but the request has few rows, and another pod may be faster.
    Slow,
    /// The pod answers no request.
    Unresponsive,
}

/// A pod that is being asked; it has one request fewer in flight when this is dropped.
pub(crate) struct InFlight {
    endpoint: Arc<Endpoint>,
    /// When it was picked; see `clock`.
    pub(crate) at: u64,
    /// Whether this request shows whether the pod answers again.
    is_probe: bool,
}

impl InFlight {
    fn new(endpoint: Arc<Endpoint>, availability: Availability, at: u64) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        let is_probe = availability == Availability::Probing && endpoint.outlier.begin_probe();
        Self { endpoint, at, is_probe }
    }

    /// Whether the pod has answered any request since this one was sent to it.
    fn has_answered_since(&self) -> bool {
        self.last_response.load(Ordering::Relaxed) > self.at
    }

    /// What there is to do at `now` about this request, of `rows` rows, to a model whose pods may take `patience` for so
    /// many. A pod is silent once it has answered nobody for that long. It is so sooner if it leaves several requests
    /// waiting, or has failed before: then it is not one answer that takes long, unless this one is large.
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

    /// The pod, to remember that it was asked.
    pub(crate) fn shared(&self) -> Arc<Endpoint> {
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

/// The pods of a model that are in use.
pub(crate) struct Balancer {
    table: ArcSwap<Vec<Arc<Endpoint>>>,
    /// How long the first failure of a pod shuts it out.
    base_ejection_time: Duration,
}

impl Balancer {
    /// No pods so far.
    pub(crate) fn none(base_ejection_time: Duration) -> Self {
        Self { table: ArcSwap::default(), base_ejection_time }
    }

    /// The one pod at `endpoint`.
    pub(crate) fn one(pool: Arc<ConnectionPool>, base_ejection_time: Duration) -> Self {
        Self {
            table: ArcSwap::from_pointee(vec![Arc::new(Endpoint::new(pool, base_ejection_time, false))]),
            base_ejection_time,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.load().len()
    }

    /// The pod to ask now, if there is one that is not among those `tried`.
    pub(crate) fn pick(&self, tried: &[Arc<Endpoint>]) -> Option<InFlight> {
        let (table, now) = (self.table.load(), now());
        let is_probed = |endpoint: &Arc<Endpoint>| tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint));
        let others = || {
            table
                .iter()
                .filter(|endpoint| !is_probed(endpoint))
                .map(|endpoint| (endpoint, endpoint.load(now)))
        };
        let chance = |below: usize| fastrand::usize(..below);
        let usable =
            choose_two(others().filter(|(_, load)| load.availability != Availability::Ejected), chance);
        let (endpoint, load) =
            less_loaded(usable, chance).or_else(|| less_loaded(choose_two(others(), chance), chance))?;
        Some(InFlight::new(endpoint.clone(), load.availability, now))
    }

    /// `pod` gave no answer.
    pub(crate) fn failed(&self, endpoint: &InFlight, error: &UpstreamError) {
        let now = now();
        match error {
            UpstreamError::Unreachable { .. } => endpoint.outlier.record_unreachable(),
            // What took too long was this request, not the pod.
            UpstreamError::DeadlineExceeded { .. } if endpoint.has_answered_since() => {}
            UpstreamError::NotReady(_) | UpstreamError::DeadlineExceeded { .. } => self.eject(endpoint, now),
            UpstreamError::Failed(_) if endpoint.outlier.record_invalid_response() => {
                self.eject(endpoint, now)
            }
            // It answers so at once: without this it would always be the one with the fewest requests.
            UpstreamError::Overloaded => endpoint.latency.observe(1, OVERLOADED_LATENCY, now),
            UpstreamError::Failed(_) | UpstreamError::NoneReady | UpstreamError::OutOfSockets { .. } => {}
        }
    }

    /// `pod` was silent for too long.
    pub(crate) fn record_unresponsive(&self, endpoint: &InFlight) {
        self.eject(endpoint, now());
    }

    /// Ejects `pod`, unless too many are out already. Balancer that cannot be reached do not count as those that could serve,
    /// so any number of them may be out.
    fn eject(&self, endpoint: &Endpoint, now: u64) {
        let table = self.table.load();
        let (mut reachable, mut out) = (0_usize, 0_usize);
        for other in table.iter().filter(|other| !other.outlier.is_unreachable()) {
            reachable += 1;
            out += usize::from(!std::ptr::eq(&raw const **other, endpoint) && other.outlier.is_ejected(now));
        }
        if out < max_ejected(reachable) {
            endpoint.outlier.record_failure();
        }
    }

    /// From now on the pods are those at `addresses`.
    pub(crate) fn replace(&self, addresses: impl Iterator<Item = SocketAddr>) {
        self.renew(addresses, |_| false);
    }

    /// From now on pods at `addresses` are in use too, and those that cannot be reached are not.
    pub(crate) fn add(&self, addresses: impl Iterator<Item = SocketAddr>) {
        self.renew(addresses, |endpoint| !endpoint.outlier.is_unreachable());
    }

    fn renew(&self, addresses: impl Iterator<Item = SocketAddr>, stays: impl Fn(&Endpoint) -> bool) {
        let table = self.table.load();
        let before: BTreeMap<_, _> = table.iter().map(|endpoint| (endpoint.pool.url(), endpoint)).collect();
        let endpoints: Vec<_> = addresses.filter_map(|address| ConnectionPool::new(address.into())).collect();
        // Of pods that are all new, as after a change of revision, none can have less than the others.
        let joins_others = endpoints.iter().any(|pool| before.contains_key(pool.url()));
        let endpoint = |pool: ConnectionPool| {
            let kept = before.get(pool.url()).map(|&endpoint| endpoint.clone());
            kept.unwrap_or_else(|| {
                Arc::new(Endpoint::new(Arc::new(pool), self.base_ejection_time, joins_others))
            })
        };
        let named: BTreeSet<_> = endpoints.iter().map(|pool| pool.url().to_owned()).collect();
        let unnamed =
            table.iter().filter(|endpoint| !named.contains(endpoint.pool.url()) && stays(endpoint)).cloned();
        self.table.store(Arc::new(endpoints.into_iter().map(endpoint).chain(unnamed).collect()));
    }

    /// From now on the pods are those of them that could be reached when they were last asked.
    pub(crate) fn keep_reachable(&self) {
        let table = self.table.load();
        let is_reachable = |endpoint: &&Arc<Endpoint>| !endpoint.outlier.is_unreachable();
        self.table.store(Arc::new(table.iter().filter(is_reachable).cloned().collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 8001))
    }

    #[test]
    fn a_pod_outlives_a_look_up_that_still_has_its_address() {
        let balancer = Balancer::none(Duration::from_secs(1));
        balancer.replace([at(1), at(2)].into_iter());
        let asked = [balancer.pick(&[]).unwrap(), balancer.pick(&[]).unwrap()];
        assert!(!Arc::ptr_eq(&asked[0].endpoint, &asked[1].endpoint), "each has one request");
        let (kept, gone) = if asked[0].pool.url().contains("0.1:") { (0, 1) } else { (1, 0) };
        balancer.replace([at(3), at(1)].into_iter());
        // The one that joins is held back most of the time; when it is not, it has one request fewer.
        let joins = |asked: InFlight| asked.pool.url() == "http://127.0.0.3:8001";
        let times = (0..1000).filter(|_| joins(balancer.pick(&[]).unwrap())).count();
        assert!((50..200).contains(&times), "{times}");
        assert_eq!(
            Arc::strong_count(&asked[gone].endpoint),
            1,
            "only its request keeps the one that vanished"
        );
        assert_eq!(asked[kept].in_flight.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn another_pod_is_one_that_was_not_tried() {
        let balancer = Balancer::none(Duration::from_secs(1));
        assert!(balancer.pick(&[]).is_none());
        balancer.replace([at(1)].into_iter());
        let mut tried = vec![balancer.pick(&[]).unwrap().shared()];
        assert!(balancer.pick(&tried).is_none());
        balancer.replace([at(1), at(2)].into_iter());
        tried.push(balancer.pick(&tried).unwrap().shared());
        assert_eq!(tried[1].pool.url(), "http://127.0.0.2:8001");
        assert!(balancer.pick(&tried).is_none());
    }

    /// Balancer at so many addresses, each with a request.
    fn all_asked(count: u8) -> (Balancer, Vec<InFlight>) {
        let balancer = Balancer::none(Duration::from_secs(1));
        balancer.replace((1..=count).map(at));
        let mut tried = Vec::new();
        let asked = (0..count).map(|_| {
            let asked = balancer.pick(&tried).unwrap();
            tried.push(asked.shared());
            asked
        });
        let asked = asked.collect();
        (balancer, asked)
    }

    fn unreachable() -> UpstreamError {
        UpstreamError::Unreachable { why: String::new(), delivered: false }
    }

    fn out(asked: &[InFlight]) -> Vec<bool> {
        asked.iter().map(|asked| asked.outlier.is_ejected(now())).collect()
    }

    const HEDGE_DELAY: Duration = Duration::from_secs(2);

    #[track_caller]
    fn check_wait(asked: &InFlight, rows: usize, after: u64, expected: &str) {
        let wait = match asked.hedge_decision(rows, HEDGE_DELAY, asked.at + after) {
            HedgeDecision::Wait(time) => format!("{} ms", time.as_millis()),
            HedgeDecision::Hedge(reason) => format!("{reason:?}"),
        };
        assert_eq!(wait, expected, "{rows} rows after {after} ms");
    }

    #[test]
    fn a_pod_that_answers_none_of_several_requests_is_silent_before_one_that_takes_long_is() {
        let balancer =
            Balancer::one(Arc::new(ConnectionPool::new(at(1).into()).unwrap()), Duration::from_secs(1));
        let first = balancer.pick(&[]).unwrap();
        check_wait(&first, 1, 0, "2000 ms");
        check_wait(&first, 1, 1_900, "100 ms");
        first.predicted(1, Duration::from_millis(100), first.at);
        check_wait(&first, 1, 0, "400 ms");
        check_wait(&first, 1, 400, "400 ms");
        check_wait(&first, 1, 1_900, "100 ms");
        let second = balancer.pick(&[]).unwrap();
        check_wait(&first, 1, 100, "300 ms");
        check_wait(&first, 1, 400, "Silent");
        check_wait(&first, 100, 400, "1600 ms");
        first.last_response.store(first.at + 300, Ordering::Relaxed);
        check_wait(&first, 1, 400, "300 ms");
        check_wait(&first, 1, 700, "Silent");
        drop(second);
        check_wait(&first, 1, 700, "400 ms");
        first.outlier.record_failure();
        check_wait(&first, 1, 700, "Silent");
    }

    #[test]
    fn a_pod_that_answers_others_is_not_silent_and_only_a_small_request_goes_to_another() {
        let (_pods, asked) = all_asked(1);
        check_wait(&asked[0], 1, 2_000, "Silent");
        check_wait(&asked[0], 100, 2_000, "Silent");
        asked[0].last_response.store(asked[0].at + 1_500, Ordering::Relaxed);
        check_wait(&asked[0], 1, 1_999, "1 ms");
        check_wait(&asked[0], 1, 2_000, "Slow");
        check_wait(&asked[0], 100, 2_000, "1500 ms");
        check_wait(&asked[0], 100, 3_500, "Silent");
    }

    #[test]
    fn a_pod_that_answers_others_is_not_blamed_for_a_deadline_nor_any_for_a_lack_of_sockets() {
        let (balancer, asked) = all_asked(2);
        let late = UpstreamError::DeadlineExceeded { after: HEDGE_DELAY };
        (0..10).for_each(|_| {
            balancer.failed(&asked[1], &UpstreamError::OutOfSockets { why: String::new(), delivered: false });
        });
        assert_eq!((out(&asked), asked[1].outlier.is_unreachable()), (vec![false, false], false));
        asked[0].last_response.store(asked[0].at + 1, Ordering::Relaxed);
        balancer.failed(&asked[0], &late);
        balancer.failed(&asked[1], &late);
        assert_eq!(out(&asked), [false, true]);
    }

    #[test]
    fn of_pods_that_can_be_reached_some_always_stay_in_use() {
        for (count, most) in [(1, 0), (2, 1), (3, 2), (4, 2), (6, 4), (10, 6)] {
            let (balancer, asked) = all_asked(count);
            let out = || out(&asked).iter().filter(|&&is_ejected| is_ejected).count();
            for asked in &asked {
                balancer.record_unresponsive(asked);
                balancer.failed(asked, &UpstreamError::NotReady(String::new()));
                (0..3).for_each(|_| balancer.failed(asked, &UpstreamError::Failed(String::new())));
            }
            assert_eq!(out(), most, "of {count}");
            for asked in &asked {
                balancer.failed(asked, &unreachable());
            }
            assert_eq!(out(), usize::from(count), "any number is out that cannot be reached");
        }
    }

    #[test]
    fn pods_that_cannot_be_reached_leave_fewer_that_may_be_out() {
        let (balancer, asked) = all_asked(3);
        balancer.failed(&asked[0], &unreachable());
        balancer.record_unresponsive(&asked[1]);
        balancer.record_unresponsive(&asked[2]);
        assert_eq!(out(&asked), [true, true, false]);
    }

    #[test]
    fn a_pod_that_failed_is_passed_over_until_it_answers_and_is_dropped_only_if_it_was_out_of_reach() {
        let balancer = Balancer::none(Duration::from_secs(1));
        balancer.replace([at(1), at(2)].into_iter());
        let first = balancer.pick(&[]).unwrap();
        let invalid = UpstreamError::Failed(String::new());
        balancer.failed(&first, &invalid);
        balancer.failed(&first, &invalid);
        assert_eq!(first.load(now()).availability, Availability::Healthy, "that may have been the rows");
        balancer.failed(&first, &invalid);
        let tried = [first.shared()];
        let is_other = || !Arc::ptr_eq(&balancer.pick(&[]).unwrap().endpoint, &tried[0]);
        let busy: Vec<_> = (0..5).map(|_| balancer.pick(&tried).unwrap()).collect();
        assert!(is_other());
        balancer.keep_reachable();
        assert_eq!(balancer.len(), 2);
        balancer.failed(&first, &unreachable());
        assert!(is_other());
        balancer.keep_reachable();
        assert_eq!((balancer.len(), busy.len()), (1, 5));
    }
}
