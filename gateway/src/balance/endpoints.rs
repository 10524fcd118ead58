//! The pods of a model that are in use, and which of them is asked next.
//!
//! Comes in: addresses, and how each call went. Goes out: of two pods that chance has picked the better one, by requests
//! in flight and latency; how long an answer is waited for. Never: a call, nor a second object for an address that is there
//! already; its connections and counts outlive a look-up. Pods that can be reached are never all out at once.
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

use crate::balance::choice::{Load, better, two};
use crate::balance::clock::{millis, now};
use crate::balance::latency::{Speed, is_small};
use crate::balance::outlier::{Health, Standing, out_max};
use crate::error::Trouble;
use crate::revision::Known;
use crate::upstream::connection::Endpoint;
use crate::upstream::describe::Lessons;

/// For how long a pod is believed to be what it said it was.
const LATELY: Duration = Duration::from_secs(5);
/// As what a refusal counts among the times that answers take.
const OVERLOADED: Duration = Duration::from_secs(1);

/// One predictor of a model.
pub(crate) struct Pod {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) lessons: Lessons,
    /// What it answered as when it last did.
    known: ArcSwapOption<Known>,
    /// When it last answered as that; see `clock`.
    heard: AtomicU64,
    in_flight: AtomicU32,
    health: Health,
    speed: Speed,
}

impl Pod {
    /// A pod of which nothing is known yet; its first failure shuts it out for `time_out`.
    fn new(endpoint: Arc<Endpoint>, time_out: Duration, joins_others: bool) -> Self {
        Self {
            endpoint,
            lessons: Lessons::default(),
            known: ArcSwapOption::empty(),
            heard: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            health: Health::new(time_out, joins_others),
            speed: Speed::default(),
        }
    }

    /// The revision that it answered as when it last did.
    pub(crate) fn known(&self) -> Option<Arc<Known>> {
        self.known.load_full()
    }

    /// Whether it was `known` a moment ago.
    pub(crate) fn was_lately(&self, known: &Arc<Known>) -> bool {
        let is_same = self.known.load().as_ref().is_some_and(|own| Arc::ptr_eq(own, known));
        is_same && now() < self.heard.load(Ordering::Relaxed) + millis(LATELY)
    }

    /// It answered, as `known`.
    pub(crate) fn answered(&self, known: &Arc<Known>, now: u64) {
        if !self.known.load().as_ref().is_some_and(|own| Arc::ptr_eq(own, known)) {
            self.known.store(Some(known.clone()));
        }
        self.heard.store(now, Ordering::Relaxed);
        self.health.answered(now);
    }

    /// It predicted `rows` rows within `took`.
    pub(crate) fn predicted(&self, rows: usize, took: Duration, now: u64) {
        self.speed.observe(rows, took, now);
    }

    fn load(&self, now: u64) -> Load {
        Load {
            standing: self.health.standing(now, fastrand::f32),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            slowness: self.speed.rank(now),
        }
    }
}

/// What there is to do about a request whose answer has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// To wait for this long, then look again.
    For(Duration),
    /// To ask another pod as well.
    Over(Over),
}

/// Why another pod is asked as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The pod answers others, so it is well; but the request has few rows, and another pod may be faster.
    Slow,
    /// The pod answers no request.
    Silent,
}

/// A pod that is being asked; it has one request fewer in flight when this is dropped.
pub(crate) struct Asked {
    pod: Arc<Pod>,
    /// When it was picked; see `clock`.
    pub(crate) at: u64,
    /// Whether this request shows whether the pod answers again.
    is_trial: bool,
}

impl Asked {
    fn new(pod: Arc<Pod>, standing: Standing, at: u64) -> Self {
        pod.in_flight.fetch_add(1, Ordering::Relaxed);
        let is_trial = standing == Standing::OnTrial && pod.health.begin_trial();
        Self { pod, at, is_trial }
    }

    /// Whether the pod has answered any request since this one was sent to it.
    fn has_answered_since(&self) -> bool {
        self.heard.load(Ordering::Relaxed) > self.at
    }

    /// What there is to do at `now` about this request, of `rows` rows, to a model whose pods may take `patience` for so
    /// many. A pod is silent once it has answered nobody for that long. It is so sooner if it leaves several requests
    /// waiting, or has failed before: then it is not one answer that takes long, unless this one is large.
    pub(crate) fn wait(&self, rows: usize, patience: Duration, now: u64) -> Wait {
        let since = self.at.max(self.heard.load(Ordering::Relaxed));
        let mut silent_at = since + millis(patience);
        let mut slow_at = u64::MAX;
        if is_small(rows) {
            slow_at = self.at + millis(patience);
            if let Some(quiet) = self.speed.quiet() {
                let may_be_silent = self.in_flight.load(Ordering::Relaxed) > 1 || self.health.is_failing();
                let since = if may_be_silent { since } else { now };
                silent_at = silent_at.min(since + millis(quiet));
            }
        }
        match silent_at.min(slow_at) {
            until if now < until => Wait::For(Duration::from_millis(until - now)),
            _ if now >= silent_at => Wait::Over(Over::Silent),
            _ => Wait::Over(Over::Slow),
        }
    }

    /// The pod, to remember that it was asked.
    pub(crate) fn shared(&self) -> Arc<Pod> {
        self.pod.clone()
    }
}

impl Deref for Asked {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.pod
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.pod.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_trial {
            self.pod.health.end_trial();
        }
    }
}

/// The pods of a model that are in use.
pub(crate) struct Pods {
    table: ArcSwap<Vec<Arc<Pod>>>,
    /// How long the first failure of a pod shuts it out.
    time_out: Duration,
}

impl Pods {
    /// No pods so far.
    pub(crate) fn none(time_out: Duration) -> Self {
        Self { table: ArcSwap::default(), time_out }
    }

    /// The one pod at `endpoint`.
    pub(crate) fn one(endpoint: Arc<Endpoint>, time_out: Duration) -> Self {
        Self { table: ArcSwap::from_pointee(vec![Arc::new(Pod::new(endpoint, time_out, false))]), time_out }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.load().len()
    }

    /// The pod to ask now, if there is one that is not among those `tried`.
    pub(crate) fn pick(&self, tried: &[Arc<Pod>]) -> Option<Asked> {
        let (table, now) = (self.table.load(), now());
        let is_tried = |pod: &Arc<Pod>| tried.iter().any(|tried| Arc::ptr_eq(tried, pod));
        let others = || table.iter().filter(|pod| !is_tried(pod)).map(|pod| (pod, pod.load(now)));
        let chance = |below: usize| fastrand::usize(..below);
        let usable = two(others().filter(|(_, load)| load.standing != Standing::Out), chance);
        let (pod, load) = better(usable, chance).or_else(|| better(two(others(), chance), chance))?;
        Some(Asked::new(pod.clone(), load.standing, now))
    }

    /// `pod` gave no answer.
    pub(crate) fn failed(&self, pod: &Asked, trouble: &Trouble) {
        let now = now();
        match trouble {
            Trouble::Unreachable { .. } => pod.health.is_out_of_reach(),
            // What took too long was this request, not the pod.
            Trouble::Late { .. } if pod.has_answered_since() => {}
            Trouble::NotReady(_) | Trouble::Late { .. } => self.eject(pod, now),
            Trouble::Failed(_) if pod.health.was_invalid() => self.eject(pod, now),
            // It answers so at once: without this it would always be the one with the fewest requests.
            Trouble::Overloaded => pod.speed.observe(1, OVERLOADED, now),
            Trouble::Failed(_) | Trouble::NoneReady | Trouble::OutOfSockets { .. } => {}
        }
    }

    /// `pod` was silent for too long.
    pub(crate) fn was_silent(&self, pod: &Asked) {
        self.eject(pod, now());
    }

    /// Ejects `pod`, unless too many are out already. Pods that cannot be reached do not count as those that could serve,
    /// so any number of them may be out.
    fn eject(&self, pod: &Pod, now: u64) {
        let table = self.table.load();
        let (mut reachable, mut out) = (0_usize, 0_usize);
        for other in table.iter().filter(|other| !other.health.is_gone()) {
            reachable += 1;
            out += usize::from(!std::ptr::eq(&raw const **other, pod) && other.health.is_out(now));
        }
        if out < out_max(reachable) {
            pod.health.failed();
        }
    }

    /// From now on the pods are those at `addresses`.
    pub(crate) fn replace(&self, addresses: impl Iterator<Item = SocketAddr>) {
        self.renew(addresses, |_| false);
    }

    /// From now on pods at `addresses` are in use too, and those that cannot be reached are not.
    pub(crate) fn add(&self, addresses: impl Iterator<Item = SocketAddr>) {
        self.renew(addresses, |pod| !pod.health.is_gone());
    }

    fn renew(&self, addresses: impl Iterator<Item = SocketAddr>, stays: impl Fn(&Pod) -> bool) {
        let table = self.table.load();
        let before: BTreeMap<_, _> = table.iter().map(|pod| (pod.endpoint.url(), pod)).collect();
        let endpoints: Vec<_> = addresses.filter_map(|address| Endpoint::new(address.into())).collect();
        // Of pods that are all new, as after a change of revision, none can have less than the others.
        let joins_others = endpoints.iter().any(|endpoint| before.contains_key(endpoint.url()));
        let pod = |endpoint: Endpoint| {
            let kept = before.get(endpoint.url()).map(|&pod| pod.clone());
            kept.unwrap_or_else(|| Arc::new(Pod::new(Arc::new(endpoint), self.time_out, joins_others)))
        };
        let named: BTreeSet<_> = endpoints.iter().map(|endpoint| endpoint.url().to_owned()).collect();
        let unnamed = table.iter().filter(|pod| !named.contains(pod.endpoint.url()) && stays(pod)).cloned();
        self.table.store(Arc::new(endpoints.into_iter().map(pod).chain(unnamed).collect()));
    }

    /// From now on the pods are those of them that could be reached when they were last asked.
    pub(crate) fn keep_reachable(&self) {
        let table = self.table.load();
        let is_reachable = |pod: &&Arc<Pod>| !pod.health.is_gone();
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
        let pods = Pods::none(Duration::from_secs(1));
        pods.replace([at(1), at(2)].into_iter());
        let asked = [pods.pick(&[]).unwrap(), pods.pick(&[]).unwrap()];
        assert!(!Arc::ptr_eq(&asked[0].pod, &asked[1].pod), "each has one request");
        let (kept, gone) = if asked[0].endpoint.url().contains("0.1:") { (0, 1) } else { (1, 0) };
        pods.replace([at(3), at(1)].into_iter());
        // The one that joins is held back most of the time; when it is not, it has one request fewer.
        let joins = |asked: Asked| asked.endpoint.url() == "http://127.0.0.3:8001";
        let times = (0..1000).filter(|_| joins(pods.pick(&[]).unwrap())).count();
        assert!((50..200).contains(&times), "{times}");
        assert_eq!(Arc::strong_count(&asked[gone].pod), 1, "only its request keeps the one that vanished");
        assert_eq!(asked[kept].in_flight.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn another_pod_is_one_that_was_not_tried() {
        let pods = Pods::none(Duration::from_secs(1));
        assert!(pods.pick(&[]).is_none());
        pods.replace([at(1)].into_iter());
        let mut tried = vec![pods.pick(&[]).unwrap().shared()];
        assert!(pods.pick(&tried).is_none());
        pods.replace([at(1), at(2)].into_iter());
        tried.push(pods.pick(&tried).unwrap().shared());
        assert_eq!(tried[1].endpoint.url(), "http://127.0.0.2:8001");
        assert!(pods.pick(&tried).is_none());
    }

    /// Pods at so many addresses, each with a request.
    fn all_asked(count: u8) -> (Pods, Vec<Asked>) {
        let pods = Pods::none(Duration::from_secs(1));
        pods.replace((1..=count).map(at));
        let mut tried = Vec::new();
        let asked = (0..count).map(|_| {
            let asked = pods.pick(&tried).unwrap();
            tried.push(asked.shared());
            asked
        });
        let asked = asked.collect();
        (pods, asked)
    }

    fn unreachable() -> Trouble {
        Trouble::Unreachable { why: String::new(), delivered: false }
    }

    fn out(asked: &[Asked]) -> Vec<bool> {
        asked.iter().map(|asked| asked.health.is_out(now())).collect()
    }

    const PATIENCE: Duration = Duration::from_secs(2);

    #[track_caller]
    fn check_wait(asked: &Asked, rows: usize, after: u64, expected: &str) {
        let wait = match asked.wait(rows, PATIENCE, asked.at + after) {
            Wait::For(time) => format!("{} ms", time.as_millis()),
            Wait::Over(over) => format!("{over:?}"),
        };
        assert_eq!(wait, expected, "{rows} rows after {after} ms");
    }

    #[test]
    fn a_pod_that_answers_none_of_several_requests_is_silent_before_one_that_takes_long_is() {
        let pods = Pods::one(Arc::new(Endpoint::new(at(1).into()).unwrap()), Duration::from_secs(1));
        let first = pods.pick(&[]).unwrap();
        check_wait(&first, 1, 0, "2000 ms");
        check_wait(&first, 1, 1_900, "100 ms");
        first.predicted(1, Duration::from_millis(100), first.at);
        check_wait(&first, 1, 0, "400 ms");
        check_wait(&first, 1, 400, "400 ms");
        check_wait(&first, 1, 1_900, "100 ms");
        let second = pods.pick(&[]).unwrap();
        check_wait(&first, 1, 100, "300 ms");
        check_wait(&first, 1, 400, "Silent");
        check_wait(&first, 100, 400, "1600 ms");
        first.heard.store(first.at + 300, Ordering::Relaxed);
        check_wait(&first, 1, 400, "300 ms");
        check_wait(&first, 1, 700, "Silent");
        drop(second);
        check_wait(&first, 1, 700, "400 ms");
        first.health.failed();
        check_wait(&first, 1, 700, "Silent");
    }

    #[test]
    fn a_pod_that_answers_others_is_not_silent_and_only_a_small_request_goes_to_another() {
        let (_pods, asked) = all_asked(1);
        check_wait(&asked[0], 1, 2_000, "Silent");
        check_wait(&asked[0], 100, 2_000, "Silent");
        asked[0].heard.store(asked[0].at + 1_500, Ordering::Relaxed);
        check_wait(&asked[0], 1, 1_999, "1 ms");
        check_wait(&asked[0], 1, 2_000, "Slow");
        check_wait(&asked[0], 100, 2_000, "1500 ms");
        check_wait(&asked[0], 100, 3_500, "Silent");
    }

    #[test]
    fn a_pod_that_answers_others_is_not_blamed_for_a_deadline_nor_any_for_a_lack_of_sockets() {
        let (pods, asked) = all_asked(2);
        let late = Trouble::Late { after: PATIENCE };
        (0..10).for_each(|_| {
            pods.failed(&asked[1], &Trouble::OutOfSockets { why: String::new(), delivered: false });
        });
        assert_eq!((out(&asked), asked[1].health.is_gone()), (vec![false, false], false));
        asked[0].heard.store(asked[0].at + 1, Ordering::Relaxed);
        pods.failed(&asked[0], &late);
        pods.failed(&asked[1], &late);
        assert_eq!(out(&asked), [false, true]);
    }

    #[test]
    fn of_pods_that_can_be_reached_some_always_stay_in_use() {
        for (count, most) in [(1, 0), (2, 1), (3, 2), (4, 2), (6, 4), (10, 6)] {
            let (pods, asked) = all_asked(count);
            let out = || out(&asked).iter().filter(|&&is_out| is_out).count();
            for asked in &asked {
                pods.was_silent(asked);
                pods.failed(asked, &Trouble::NotReady(String::new()));
                (0..3).for_each(|_| pods.failed(asked, &Trouble::Failed(String::new())));
            }
            assert_eq!(out(), most, "of {count}");
            for asked in &asked {
                pods.failed(asked, &unreachable());
            }
            assert_eq!(out(), usize::from(count), "any number is out that cannot be reached");
        }
    }

    #[test]
    fn pods_that_cannot_be_reached_leave_fewer_that_may_be_out() {
        let (pods, asked) = all_asked(3);
        pods.failed(&asked[0], &unreachable());
        pods.was_silent(&asked[1]);
        pods.was_silent(&asked[2]);
        assert_eq!(out(&asked), [true, true, false]);
    }

    #[test]
    fn a_pod_that_failed_is_passed_over_until_it_answers_and_is_dropped_only_if_it_was_out_of_reach() {
        let pods = Pods::none(Duration::from_secs(1));
        pods.replace([at(1), at(2)].into_iter());
        let first = pods.pick(&[]).unwrap();
        let invalid = Trouble::Failed(String::new());
        pods.failed(&first, &invalid);
        pods.failed(&first, &invalid);
        assert_eq!(first.load(now()).standing, Standing::InUse, "that may have been the rows");
        pods.failed(&first, &invalid);
        let tried = [first.shared()];
        let is_other = || !Arc::ptr_eq(&pods.pick(&[]).unwrap().pod, &tried[0]);
        let busy: Vec<_> = (0..5).map(|_| pods.pick(&tried).unwrap()).collect();
        assert!(is_other());
        pods.keep_reachable();
        assert_eq!(pods.len(), 2);
        pods.failed(&first, &unreachable());
        assert!(is_other());
        pods.keep_reachable();
        assert_eq!((pods.len(), busy.len()), (1, 5));
    }
}
