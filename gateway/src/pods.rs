//! The pods of a model that are in use, and which of them is asked next.
//!
//! Comes in: addresses, and how each call went. Goes out: of two pods that chance has picked the better one, by requests
//! in flight and latency; how long an answer is waited for. Never: a call, nor a second object for an address that is there already; its connections and
//! counts outlive a look-up.
//!
//! To look at two is enough to keep loads even, and does not send everybody to the one that is best at the moment
//! (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::clock::{millis, now};
use crate::failure::Trouble;
use crate::health::{Health, Standing};
use crate::known::Known;
use crate::lesson::Lessons;
use crate::speed::Speed;
use crate::upstream::Endpoint;

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

    /// It predicted within `took`.
    pub(crate) fn predicted(&self, took: Duration, now: u64) {
        self.speed.observe(took, now);
    }

    /// It gave no answer.
    pub(crate) fn failed(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Unreachable(_) => self.health.is_out_of_reach(),
            Trouble::NotReady(_) | Trouble::Late { .. } => self.health.failed(),
            Trouble::Failed(_) => self.health.was_invalid(),
            // It answers so at once: without this it would always be the one with the fewest requests.
            Trouble::Overloaded => self.speed.observe(OVERLOADED, now()),
            Trouble::NoneReady => {}
        }
    }

    /// It was silent for too long.
    pub(crate) fn was_silent(&self) {
        self.health.failed();
    }

    /// For how much longer its answer to a request of the moment `asked` is waited for, where a model's pods may take
    /// `patience`; nothing once it is silent. So it is before that time is over if it leaves several requests waiting and
    /// answers none of them, or has failed before: then it is not one answer that takes long.
    pub(crate) fn patience_left(&self, patience: Duration, asked: u64, now: u64) -> Duration {
        let mut until = asked + millis(patience);
        if let Some(quiet) = self.speed.quiet() {
            let may_be_silent = self.in_flight.load(Ordering::Relaxed) > 1 || self.health.is_failing();
            let since = if may_be_silent { asked.max(self.heard.load(Ordering::Relaxed)) } else { now };
            until = until.min(since + millis(quiet));
        }
        Duration::from_millis(until.saturating_sub(now))
    }

    fn load(&self, now: u64) -> Load {
        Load {
            standing: self.health.standing(now, fastrand::f32),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            slowness: self.speed.rank(now),
        }
    }
}

/// A pod that is being asked; it has one request fewer in flight when this is dropped.
pub(crate) struct Asked {
    pod: Arc<Pod>,
    /// Whether this request shows whether the pod answers again.
    is_trial: bool,
}

impl Asked {
    fn new(pod: Arc<Pod>, standing: Standing) -> Self {
        pod.in_flight.fetch_add(1, Ordering::Relaxed);
        let is_trial = standing == Standing::OnTrial && pod.health.begin_trial();
        Self { pod, is_trial }
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

/// How busy a pod is.
#[derive(Clone, Copy, Debug)]
struct Load {
    standing: Standing,
    in_flight: u32,
    slowness: Option<f32>,
}

impl Load {
    /// Whether one more request does better at this pod than at `other`; nothing where it is the same.
    fn is_better_than(&self, other: &Self) -> Option<bool> {
        if self.standing != other.standing {
            return Some(self.standing < other.standing);
        }
        // A pod that has not answered yet is taken to be as fast as the other one.
        let slowness = |of: &Self, or: &Self| of.slowness.or(or.slowness).unwrap_or(1.0);
        let cost = |of: &Self, or: &Self| (of.in_flight + 1) as f32 * slowness(of, or);
        let (own, others) = (cost(self, other), cost(other, self));
        match own.total_cmp(&others) {
            Less => Some(true),
            Equal => None,
            Greater => Some(false),
        }
    }
}

/// Two of `all`, each as likely as any other, or the one that there is. `chance` gives a number below the one that it
/// is given.
fn two<T>(all: impl Iterator<Item = T>, mut chance: impl FnMut(usize) -> usize) -> [Option<T>; 2] {
    let [mut first, mut second] = [None, None];
    for (seen, one) in all.enumerate() {
        match seen {
            0 => first = Some(one),
            1 => second = Some(one),
            _ => match chance(seen + 1) {
                0 => first = Some(one),
                1 => second = Some(one),
                _ => {}
            },
        }
    }
    [first, second]
}

/// The better of two, or the one that there is.
fn better<T>(pair: [Option<(T, Load)>; 2], mut chance: impl FnMut(usize) -> usize) -> Option<(T, Load)> {
    match pair {
        [Some(first), Some(second)] => {
            let is_first = first.1.is_better_than(&second.1).unwrap_or_else(|| chance(2) == 0);
            Some(if is_first { first } else { second })
        }
        [only, _] => only,
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
        Some(Asked::new(pod.clone(), load.standing))
    }

    /// From now on the pods are those at `addresses`.
    pub(crate) fn replace(&self, addresses: impl Iterator<Item = SocketAddr>) {
        let before = self.table.load();
        let before: BTreeMap<_, _> = before.iter().map(|pod| (pod.endpoint.url(), pod)).collect();
        let endpoints: Vec<_> = addresses.filter_map(|address| Endpoint::new(address.into())).collect();
        // Of pods that are all new, as after a change of revision, none can have less than the others.
        let joins_others = endpoints.iter().any(|endpoint| before.contains_key(endpoint.url()));
        let pod = |endpoint: Endpoint| {
            let kept = before.get(endpoint.url()).map(|&pod| pod.clone());
            kept.unwrap_or_else(|| Arc::new(Pod::new(Arc::new(endpoint), self.time_out, joins_others)))
        };
        self.table.store(Arc::new(endpoints.into_iter().map(pod).collect()));
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

    const LOAD: Load = Load { standing: Standing::InUse, in_flight: 0, slowness: None };

    #[track_caller]
    fn check(one: Load, other: Load, expected: Option<bool>) {
        assert_eq!(one.is_better_than(&other), expected, "{one:?} {other:?}");
        assert_eq!(other.is_better_than(&one), expected.map(|is| !is), "{other:?} {one:?}");
    }

    #[test]
    fn fewer_requests_in_flight_are_better_and_so_are_faster_answers() {
        let busy = |in_flight: u32| Load { in_flight, ..LOAD };
        check(LOAD, LOAD, None);
        check(busy(1), busy(2), Some(true));
        let takes = |slowness: f32, in_flight: u32| Load { slowness: Some(slowness), in_flight, ..LOAD };
        check(takes(1.0, 0), takes(2.0, 0), Some(true));
        check(takes(1.0, 6), takes(8.0, 0), Some(true));
        check(takes(1.0, 7), takes(8.0, 0), None);
        check(takes(8.0, 0), busy(1), Some(true));
    }

    #[test]
    fn a_trial_comes_first_and_who_is_out_comes_last() {
        let stands = |standing: Standing, in_flight: u32| Load { standing, in_flight, ..LOAD };
        check(stands(Standing::OnTrial, 9), LOAD, Some(true));
        check(stands(Standing::HeldBack, 0), stands(Standing::InUse, 9), Some(false));
        check(stands(Standing::HeldBack, 0), stands(Standing::HeldBack, 1), Some(true));
        check(stands(Standing::Out, 0), stands(Standing::InUse, 100), Some(false));
        check(stands(Standing::Out, 0), stands(Standing::Out, 1), Some(true));
    }

    #[test]
    fn any_two_of_all_are_as_likely() {
        let mut chance = fastrand::Rng::with_seed(1);
        let mut times = BTreeMap::new();
        for _ in 0..30_000 {
            let [Some(first), Some(second)] = two(0..4, |below| chance.usize(..below)) else {
                unreachable!()
            };
            *times.entry((first.min(second), first.max(second))).or_insert(0) += 1;
        }
        assert_eq!(times.len(), 6);
        assert!(times.values().all(|times| (4_700..5_300).contains(times)), "{times:?}");
        assert_eq!(two(0..0, |_| 0), [None, None]);
        assert_eq!(two(0..1, |_| 0), [Some(0), None]);
    }

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

    #[test]
    fn a_pod_that_answers_none_of_several_requests_is_silent_before_one_that_takes_long_is() {
        let pods = Pods::one(Arc::new(Endpoint::new(at(1).into()).unwrap()), Duration::from_secs(1));
        let (patience, asked) = (Duration::from_secs(2), now());
        let first = pods.pick(&[]).unwrap();
        let left = |after: u64| first.patience_left(patience, asked, asked + after).as_millis();
        assert_eq!((left(0), left(1_900)), (2_000, 100), "of a pod that never answered nothing is known");
        first.predicted(Duration::from_millis(100), asked);
        assert_eq!((left(0), left(400), left(1_900)), (400, 400, 100), "it is looked at again");
        let second = pods.pick(&[]).unwrap();
        assert_eq!((left(100), left(400)), (300, 0), "nobody has an answer");
        first.heard.store(asked + 300, Ordering::Relaxed);
        assert_eq!((left(400), left(700)), (300, 0), "somebody had one");
        drop(second);
        assert_eq!(left(700), 400, "alone again");
        first.failed(&Trouble::NotReady(String::new()));
        assert_eq!(left(700), 0, "alone, but it has failed");
    }

    #[test]
    fn a_pod_that_failed_is_passed_over_until_it_answers_and_is_dropped_only_if_it_was_out_of_reach() {
        let pods = Pods::none(Duration::from_secs(1));
        pods.replace([at(1), at(2)].into_iter());
        let first = pods.pick(&[]).unwrap().shared();
        let invalid = Trouble::Failed(String::new());
        first.failed(&invalid);
        first.failed(&invalid);
        assert_eq!(first.load(now()).standing, Standing::InUse, "that may have been the rows");
        first.failed(&invalid);
        let tried = [first];
        let is_other = || !Arc::ptr_eq(&pods.pick(&[]).unwrap().pod, &tried[0]);
        let busy: Vec<_> = (0..5).map(|_| pods.pick(&tried).unwrap()).collect();
        assert!(is_other());
        pods.keep_reachable();
        assert_eq!(pods.len(), 2);
        tried[0].failed(&Trouble::Unreachable(String::new()));
        assert!(is_other());
        pods.keep_reachable();
        assert_eq!((pods.len(), busy.len()), (1, 5));
    }
}
