//! The pods of a model that are in use, and which of them is asked next.
//!
//! Comes in: addresses, and how each call went. Goes out: the pod with the fewest requests in flight. Never: a
//! call, nor a second object for an address that is there already; its connections and counts outlive a look-up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use crate::failure::Trouble;
use crate::known::Known;
use crate::lesson::Lessons;
use crate::upstream::Endpoint;

/// How long a pod that failed is asked only where there is no other: it fails fast, and so would always be the
/// one with the fewest requests.
const PASSED_OVER: Duration = Duration::from_secs(1);
/// How many invalid answers in a row count as a failure of the pod: one may be due to the rows.
const INVALID_MAX: u32 = 3;
/// For how long a pod is believed to be what it said it was.
const LATELY: Duration = Duration::from_secs(5);

/// One predictor of a model.
pub(crate) struct Pod {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) lessons: Lessons,
    /// What it answered as when it last did.
    known: ArcSwapOption<Known>,
    /// When it last answered as that; see [`now`].
    heard: AtomicU64,
    in_flight: AtomicU32,
    /// See [`now`].
    passed_over_until: AtomicU64,
    invalid_in_a_row: AtomicU32,
    /// Whether the last attempt to reach it failed.
    is_gone: AtomicBool,
}

impl Pod {
    /// A pod of which nothing is known yet.
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            lessons: Lessons::default(),
            known: ArcSwapOption::empty(),
            heard: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            passed_over_until: AtomicU64::new(0),
            invalid_in_a_row: AtomicU32::new(0),
            is_gone: AtomicBool::new(false),
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
    pub(crate) fn answered(&self, known: &Arc<Known>) {
        if !self.known.load().as_ref().is_some_and(|own| Arc::ptr_eq(own, known)) {
            self.known.store(Some(known.clone()));
        }
        self.heard.store(now(), Ordering::Relaxed);
        self.is_gone.store(false, Ordering::Relaxed);
        self.invalid_in_a_row.store(0, Ordering::Relaxed);
        self.passed_over_until.store(0, Ordering::Relaxed);
    }

    /// It gave no answer.
    pub(crate) fn failed(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Unreachable(_) => {
                self.is_gone.store(true, Ordering::Relaxed);
                self.pass_over();
            }
            Trouble::NotReady(_) => self.pass_over(),
            Trouble::Failed(_) => {
                if self.invalid_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= INVALID_MAX {
                    self.pass_over();
                }
            }
            Trouble::NoneReady | Trouble::Late { .. } => {}
        }
    }

    fn pass_over(&self) {
        self.passed_over_until.store(now() + millis(PASSED_OVER), Ordering::Relaxed);
    }

    fn load(&self, now: u64) -> Load {
        Load {
            is_passed_over: now < self.passed_over_until.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }
}

/// Milliseconds since some moment.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(START.elapsed())
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// A pod that is being asked; it has one request fewer in flight when this is dropped.
pub(crate) struct Asked(Arc<Pod>);

impl Deref for Asked {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.0
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How busy a pod is; the less the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    is_passed_over: bool,
    in_flight: u32,
}

/// The place of the smallest of `loads`; of several that are equal, the one that `chance` picks, given how many
/// there are so far: it must say 0 once in so many times.
fn least(loads: impl Iterator<Item = (usize, Load)>, mut chance: impl FnMut(u32) -> u32) -> Option<usize> {
    let mut best: Option<(usize, Load, u32)> = None;
    for (place, load) in loads {
        best = match best {
            Some((kept, least, equals)) if load == least => {
                let equals = equals + 1;
                Some((if chance(equals) == 0 { place } else { kept }, least, equals))
            }
            Some(kept) if load > kept.1 => Some(kept),
            None | Some(_) => Some((place, load, 1)),
        };
    }
    best.map(|(place, ..)| place)
}

/// The pods of a model that are in use.
#[derive(Default)]
pub(crate) struct Pods {
    table: ArcSwap<Vec<Arc<Pod>>>,
}

impl Pods {
    /// The one pod at `endpoint`.
    pub(crate) fn one(endpoint: Arc<Endpoint>) -> Self {
        Self { table: ArcSwap::from_pointee(vec![Arc::new(Pod::new(endpoint))]) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.load().len()
    }

    /// The pod to ask now, if there is one that is not among those `tried`.
    pub(crate) fn pick(&self, tried: &[Asked]) -> Option<Asked> {
        let (table, now) = (self.table.load(), now());
        let is_tried = |pod: &Arc<Pod>| tried.iter().any(|Asked(tried)| Arc::ptr_eq(tried, pod));
        let others = table.iter().enumerate().filter(|(_, pod)| !is_tried(pod));
        let place =
            least(others.map(|(place, pod)| (place, pod.load(now))), |equals| fastrand::u32(..equals))?;
        let pod = table[place].clone();
        pod.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Asked(pod))
    }

    /// From now on the pods are those at `addresses`.
    pub(crate) fn replace(&self, addresses: impl Iterator<Item = SocketAddr>) {
        let before = self.table.load();
        let before: BTreeMap<_, _> = before.iter().map(|pod| (pod.endpoint.url(), pod)).collect();
        let pod = |address: SocketAddr| {
            let endpoint = Endpoint::new(address.into())?;
            let kept = before.get(endpoint.url()).map(|&pod| pod.clone());
            Some(kept.unwrap_or_else(|| Arc::new(Pod::new(Arc::new(endpoint)))))
        };
        self.table.store(Arc::new(addresses.filter_map(pod).collect()));
    }

    /// From now on the pods are those of them that could be reached when they were last asked.
    pub(crate) fn keep_reachable(&self) {
        let table = self.table.load();
        let is_reachable = |pod: &&Arc<Pod>| !pod.is_gone.load(Ordering::Relaxed);
        self.table.store(Arc::new(table.iter().filter(is_reachable).cloned().collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(in_flight: u32) -> Load {
        Load { is_passed_over: false, in_flight }
    }

    #[test]
    fn the_pod_with_the_fewest_requests_in_flight_is_chosen() {
        let first = |loads: &[Load]| least(loads.iter().copied().enumerate(), |_| 1);
        assert_eq!(first(&[]), None);
        assert_eq!(first(&[load(7)]), Some(0));
        assert_eq!(first(&[load(3), load(1), load(2)]), Some(1));
        let failed = Load { is_passed_over: true, in_flight: 0 };
        assert_eq!(first(&[failed, load(100)]), Some(1), "one that failed is the last resort");
        assert_eq!(first(&[failed, Load { in_flight: 1, ..failed }]), Some(0));
    }

    #[test]
    fn ties_are_broken_by_chance_and_each_is_as_likely() {
        let mut chance = fastrand::Rng::with_seed(1);
        let mut times = [0; 4];
        for _ in 0..30_000 {
            let loads = [load(1), load(0), load(0), load(0)];
            times[least(loads.into_iter().enumerate(), |equals| chance.u32(..equals)).unwrap()] += 1;
        }
        assert_eq!(times[0], 0);
        assert!(times[1..].iter().all(|times| (9_500..10_500).contains(times)), "{times:?}");
    }

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 8001))
    }

    #[test]
    fn a_pod_outlives_a_look_up_that_still_has_its_address() {
        let pods = Pods::default();
        pods.replace([at(1), at(2)].into_iter());
        let asked = [pods.pick(&[]).unwrap(), pods.pick(&[]).unwrap()];
        assert!(!Arc::ptr_eq(&asked[0].0, &asked[1].0), "each has one request");
        let (kept, gone) = if asked[0].endpoint.url().contains("0.1:") { (0, 1) } else { (1, 0) };
        pods.replace([at(3), at(1)].into_iter());
        let next = pods.pick(&[]).unwrap();
        assert_eq!(
            next.endpoint.url(),
            "http://127.0.0.3:8001",
            "the one that is kept still has its request"
        );
        assert_eq!(Arc::strong_count(&asked[gone].0), 1, "only its request keeps the one that vanished");
        assert_eq!(asked[kept].in_flight.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn another_pod_is_one_that_was_not_tried() {
        let pods = Pods::default();
        assert!(pods.pick(&[]).is_none());
        pods.replace([at(1)].into_iter());
        let mut tried = vec![pods.pick(&[]).unwrap()];
        assert!(pods.pick(&tried).is_none());
        pods.replace([at(1), at(2)].into_iter());
        tried.push(pods.pick(&tried).unwrap());
        assert_eq!(tried[1].endpoint.url(), "http://127.0.0.2:8001");
        assert!(pods.pick(&tried).is_none());
    }

    #[test]
    fn a_pod_that_failed_is_passed_over_until_it_answers_and_is_dropped_only_if_it_was_out_of_reach() {
        let pods = Pods::default();
        pods.replace([at(1), at(2)].into_iter());
        let first = pods.pick(&[]).unwrap();
        let invalid = Trouble::Failed(String::new());
        first.failed(&invalid);
        first.failed(&invalid);
        assert!(!first.load(now()).is_passed_over, "that may have been the rows");
        first.failed(&invalid);
        let tried = [first];
        let is_other = || !Arc::ptr_eq(&pods.pick(&[]).unwrap().0, &tried[0].0);
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
