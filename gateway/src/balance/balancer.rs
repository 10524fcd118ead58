//! The endpoints of a model, and which of them gets the next request: the better of two random ones, by requests in flight
//! and latency. Two choices keep the load even without sending every request to the endpoint that is best at the moment
//! (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
//!
//! An endpoint whose address stays keeps its connections and statistics. Reachable endpoints are never all ejected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::balance::clock::now;
use crate::balance::endpoint::{Endpoint, InFlight};
use crate::balance::outlier::{Availability, max_ejected};
use crate::balance::p2c::{choose_two, less_loaded};
use crate::error::UpstreamError;
use crate::upstream::pool::ConnectionPool;

/// The latency recorded for a request that an overloaded endpoint refuses. Otherwise fast refusals would make the endpoint
/// look fast.
const OVERLOADED_LATENCY: Duration = Duration::from_secs(1);

/// The endpoints of a model.
pub(crate) struct Balancer {
    table: ArcSwap<Vec<Arc<Endpoint>>>,
    /// The ejection time after the first failure.
    base_ejection_time: Duration,
}

impl Balancer {
    /// A balancer without endpoints.
    pub(crate) fn none(base_ejection_time: Duration) -> Self {
        Self { table: ArcSwap::default(), base_ejection_time }
    }

    /// A balancer with one endpoint.
    pub(crate) fn one(pool: Arc<ConnectionPool>, base_ejection_time: Duration) -> Self {
        Self {
            table: ArcSwap::from_pointee(vec![Arc::new(Endpoint::new(pool, base_ejection_time, false))]),
            base_ejection_time,
        }
    }

    /// The number of endpoints.
    pub(crate) fn len(&self) -> usize {
        self.table.load().len()
    }

    /// Picks an endpoint that is not among those `tried`.
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

    /// Records that `endpoint` failed.
    pub(crate) fn failed(&self, endpoint: &InFlight, error: &UpstreamError) {
        let now = now();
        match error {
            UpstreamError::Unreachable { .. } => endpoint.outlier.record_unreachable(),
            // The request was slow, not the endpoint.
            UpstreamError::DeadlineExceeded { .. } if endpoint.has_answered_since() => {}
            UpstreamError::NotReady(_) | UpstreamError::DeadlineExceeded { .. } => self.eject(endpoint, now),
            UpstreamError::Failed(_) if endpoint.outlier.record_invalid_response() => {
                self.eject(endpoint, now);
            }
            // The endpoint refuses at once, so it would always have the fewest requests in flight.
            UpstreamError::Overloaded => endpoint.latency.observe(1, OVERLOADED_LATENCY, now),
            UpstreamError::Failed(_) | UpstreamError::NoneReady | UpstreamError::OutOfSockets { .. } => {}
        }
    }

    /// Records that `endpoint` answered no request for too long.
    pub(crate) fn record_unresponsive(&self, endpoint: &InFlight) {
        self.eject(endpoint, now());
    }

    /// Ejects `endpoint`, unless too many are ejected already. Unreachable endpoints are not counted, and any number of them may be
    /// ejected.
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

    /// Replaces the endpoints by those at `addresses`.
    pub(crate) fn replace(&self, addresses: impl Iterator<Item = SocketAddr>) {
        self.update(addresses, |_| false);
    }

    /// Adds the endpoints at `addresses`, and removes unreachable ones.
    pub(crate) fn add(&self, addresses: impl Iterator<Item = SocketAddr>) {
        self.update(addresses, |endpoint| !endpoint.outlier.is_unreachable());
    }

    fn update(&self, addresses: impl Iterator<Item = SocketAddr>, stays: impl Fn(&Endpoint) -> bool) {
        let table = self.table.load();
        let before: BTreeMap<_, _> = table.iter().map(|endpoint| (endpoint.pool.url(), endpoint)).collect();
        let endpoints: Vec<_> = addresses.filter_map(|address| ConnectionPool::new(address.into())).collect();
        // If all endpoints are new, as after a rollout, none is in slow start.
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

    /// Removes unreachable endpoints.
    pub(crate) fn keep_reachable(&self) {
        let table = self.table.load();
        let is_reachable = |endpoint: &&Arc<Endpoint>| !endpoint.outlier.is_unreachable();
        self.table.store(Arc::new(table.iter().filter(is_reachable).cloned().collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::endpoint::HedgeDecision;
    use std::sync::atomic::Ordering;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 8001))
    }

    #[test]
    fn an_endpoint_keeps_its_state_while_its_address_stays() {
        let balancer = Balancer::none(Duration::from_secs(1));
        balancer.replace([at(1), at(2)].into_iter());
        let asked = [balancer.pick(&[]).unwrap(), balancer.pick(&[]).unwrap()];
        assert!(!Arc::ptr_eq(&asked[0].endpoint, &asked[1].endpoint), "each endpoint has one request");
        let (kept, gone) = if asked[0].pool.url().contains("0.1:") { (0, 1) } else { (1, 0) };
        balancer.replace([at(3), at(1)].into_iter());
        // The new endpoint is in slow start, so it is mostly not chosen although it has fewer requests.
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
    fn tried_endpoints_are_not_picked_again() {
        let balancer = Balancer::none(Duration::from_secs(1));
        assert!(balancer.pick(&[]).is_none());
        balancer.replace([at(1)].into_iter());
        let mut tried = vec![balancer.pick(&[]).unwrap().endpoint()];
        assert!(balancer.pick(&tried).is_none());
        balancer.replace([at(1), at(2)].into_iter());
        tried.push(balancer.pick(&tried).unwrap().endpoint());
        assert_eq!(tried[1].pool.url(), "http://127.0.0.2:8001");
        assert!(balancer.pick(&tried).is_none());
    }

    /// A balancer with `count` endpoints, each with a request in flight.
    fn all_asked(count: u8) -> (Balancer, Vec<InFlight>) {
        let balancer = Balancer::none(Duration::from_secs(1));
        balancer.replace((1..=count).map(at));
        let mut tried = Vec::new();
        let asked = (0..count).map(|_| {
            let asked = balancer.pick(&tried).unwrap();
            tried.push(asked.endpoint());
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
    fn an_endpoint_that_answers_none_of_several_requests_is_unresponsive_sooner() {
        let balancer =
            Balancer::one(Arc::new(ConnectionPool::new(at(1).into()).unwrap()), Duration::from_secs(1));
        let first = balancer.pick(&[]).unwrap();
        check_wait(&first, 1, 0, "2000 ms");
        check_wait(&first, 1, 1_900, "100 ms");
        first.record_latency(1, Duration::from_millis(100), first.at);
        check_wait(&first, 1, 0, "400 ms");
        check_wait(&first, 1, 400, "400 ms");
        check_wait(&first, 1, 1_900, "100 ms");
        let second = balancer.pick(&[]).unwrap();
        check_wait(&first, 1, 100, "300 ms");
        check_wait(&first, 1, 400, "Unresponsive");
        check_wait(&first, 100, 400, "1600 ms");
        first.last_response.store(first.at + 300, Ordering::Relaxed);
        check_wait(&first, 1, 400, "300 ms");
        check_wait(&first, 1, 700, "Unresponsive");
        drop(second);
        check_wait(&first, 1, 700, "400 ms");
        first.outlier.record_failure();
        check_wait(&first, 1, 700, "Unresponsive");
    }

    #[test]
    fn an_endpoint_that_answers_others_is_not_unresponsive_and_only_small_requests_are_hedged() {
        let (_pods, asked) = all_asked(1);
        check_wait(&asked[0], 1, 2_000, "Unresponsive");
        check_wait(&asked[0], 100, 2_000, "Unresponsive");
        asked[0].last_response.store(asked[0].at + 1_500, Ordering::Relaxed);
        check_wait(&asked[0], 1, 1_999, "1 ms");
        check_wait(&asked[0], 1, 2_000, "Slow");
        check_wait(&asked[0], 100, 2_000, "1500 ms");
        check_wait(&asked[0], 100, 3_500, "Unresponsive");
    }

    #[test]
    fn a_responding_endpoint_is_not_ejected_for_a_missed_deadline_nor_any_for_a_lack_of_sockets() {
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
    fn some_reachable_endpoints_are_never_ejected() {
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
            assert_eq!(out(), usize::from(count), "any number of unreachable endpoints may be ejected");
        }
    }

    #[test]
    fn unreachable_endpoints_reduce_the_number_that_may_be_ejected() {
        let (balancer, asked) = all_asked(3);
        balancer.failed(&asked[0], &unreachable());
        balancer.record_unresponsive(&asked[1]);
        balancer.record_unresponsive(&asked[2]);
        assert_eq!(out(&asked), [true, true, false]);
    }

    #[test]
    fn a_failed_endpoint_is_avoided_until_it_answers_and_removed_only_if_unreachable() {
        let balancer = Balancer::none(Duration::from_secs(1));
        balancer.replace([at(1), at(2)].into_iter());
        let first = balancer.pick(&[]).unwrap();
        let invalid = UpstreamError::Failed(String::new());
        balancer.failed(&first, &invalid);
        balancer.failed(&first, &invalid);
        assert_eq!(first.load(now()).availability, Availability::Healthy, "the rows may be the cause");
        balancer.failed(&first, &invalid);
        let tried = [first.endpoint()];
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
