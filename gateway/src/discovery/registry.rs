//! The models that DNS knows: looked up when they are first asked for, watched while they are used, then forgotten.
//!
//! Comes in: the name of a model. Goes out: the model with its pods, that there is none, or that DNS does not say.
//! Never: a look-up for a model that is watched, nor one of its own for each of many that ask at the same time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use canopy_contract::names::ModelRef;
use canopy_runtime::telemetry::log_limit::LogLimit;
use tokio::sync::{Notify, OnceCell};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::discovery::dns::{Cause, Dns, Look};
use crate::discovery::refresh::{Next, Standing};
use crate::metrics::Metrics;
use crate::model::Served;
use crate::settings::{Habits, Protection};
use crate::upstream::connection::{Deadline, Endpoint};

/// How many first look-ups are shared and remembered; beyond, each is made by who asks, for itself.
const FIRSTS_MAX: usize = 1024;
/// The least time between two look-ups that alarms bring about: while pods refuse connections every request rings.
const HUSH_MIN: Duration = Duration::from_millis(250);
/// That time doubles with each such look-up that tells nothing new, up to this.
const HUSH_MAX: Duration = Duration::from_secs(5);
/// Look-ups come earlier by up to this part of the time, by chance: else gateways that begin together ask together.
const JITTER: f64 = 0.1;

static LINES: LogLimit = LogLimit::per_second(10);

/// Why there is no model to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// There is none of that name.
    Unknown,
    /// DNS could not be asked.
    NotSaid(String),
}

/// The models that DNS knows.
pub(crate) struct Found {
    pub(crate) dns: Dns,
    habits: Habits,
    protection: Protection,
    metrics: Arc<Metrics>,
    watched: RwLock<HashMap<ModelRef, Arc<Served>>>,
    firsts: Mutex<Firsts>,
}

impl Found {
    /// The models that `dns` knows.
    pub(crate) fn new(
        dns: Dns,
        habits: &Habits,
        protection: Protection,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let firsts = Mutex::new(Firsts::new(habits.ask_again_for_nothing));
        Arc::new(Self {
            dns,
            habits: habits.clone(),
            protection,
            metrics: metrics.clone(),
            watched: RwLock::default(),
            firsts,
        })
    }

    /// The model called `model`. Awaits the first look-up, which all who come meanwhile share.
    pub(crate) async fn find(
        self: &Arc<Self>,
        model: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Served>, Missing> {
        match self.watched(model) {
            Some(served) => Ok(served),
            // Seldom made, so it takes no room in the future of every request.
            None => Box::pin(self.find_first(model, deadline)).await,
        }
    }

    async fn find_first(
        self: &Arc<Self>,
        model: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Served>, Missing> {
        let first = self.firsts.lock().unwrap_or_else(PoisonError::into_inner).of(model, Instant::now());
        let outcome = first.outcome.get_or_init(|| self.look(model));
        let late =
            |_| Missing::NotSaid(format!("no answer of DNS about model {model} within {:?}", deadline.after));
        let (outcome, _) = timeout_at(deadline.at, outcome).await.map_err(late)?;
        outcome.clone()
    }

    /// Whether `model` is looked up all the time.
    pub(crate) fn is_watched(&self, model: &ModelRef) -> bool {
        self.watched(model).is_some()
    }

    /// The model called `model` for one question: as it is watched, or as DNS knows it now. Nothing watches it for that.
    pub(crate) async fn glance(&self, model: &ModelRef, deadline: Deadline) -> Result<Arc<Served>, Missing> {
        if let Some(served) = self.watched(model) {
            return Ok(served);
        }
        let looked = timeout_at(deadline.at, self.dns.look(model, Cause::Client)).await;
        let late = |_| format!("no answer of DNS about model {model} within {:?}", deadline.after);
        let addresses = match looked.map_err(late).flatten().map_err(Missing::NotSaid)? {
            Look::Pods(addresses, _) | Look::SomePods(addresses, _) => addresses,
            Look::NoneReady => Vec::new(),
            Look::Unknown => return Err(Missing::Unknown),
        };
        let at = addresses.iter().map(|&ip| SocketAddr::new(ip, self.habits.predictor_port));
        let first = at.clone().next().and_then(|first| Endpoint::new(first.into()));
        let first = first.ok_or_else(|| Missing::NotSaid(format!("no pod of model {model} is ready")))?;
        let served = Served::named(model.clone(), Arc::new(first), self.protection, &self.metrics);
        served.pods.replace(at);
        Ok(Arc::new(served))
    }

    fn watched(&self, model: &ModelRef) -> Option<Arc<Served>> {
        self.watched.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    async fn look(self: &Arc<Self>, model: &ModelRef) -> (Result<Arc<Served>, Missing>, Instant) {
        let look = self.dns.look(model, Cause::Client).await;
        let outcome = match &look {
            Ok(Look::Pods(..) | Look::SomePods(..) | Look::NoneReady) => Ok(self.watch(model, &look)),
            Ok(Look::Unknown) => Err(Missing::Unknown),
            Err(why) => Err(Missing::NotSaid(why.clone())),
        };
        if outcome.is_ok() {
            // Whoever comes from now on finds it among those that are watched.
            self.firsts.lock().unwrap_or_else(PoisonError::into_inner).forget(model);
        }
        (outcome, Instant::now())
    }

    /// Begins to watch a model of which DNS said `look`.
    fn watch(self: &Arc<Self>, model: &ModelRef, look: &Result<Look, String>) -> Arc<Served> {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(served) = watched.get(model) {
            return served.clone();
        }
        let served = Arc::new(Served::found(model.clone(), self.protection, &self.metrics));
        watched.insert(model.clone(), served.clone());
        drop(watched);
        let mut watch = Watch {
            found: Arc::downgrade(self),
            served: Arc::downgrade(&served),
            alarm: served.alarm.clone(),
            standing: Standing::default(),
            is_failing: false,
        };
        if let Next::AskIn(next) = watch.standing.heard(look, &served.pods, &self.habits, Instant::now()) {
            served.count_endpoints();
            tokio::spawn(watch.go_on(next));
        }
        served
    }

    /// Forgets `served`, unless another one is in its place by now.
    fn forget(&self, served: &Arc<Served>) {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        if watched.get(&served.model).is_some_and(|other| Arc::ptr_eq(other, served)) {
            watched.remove(&served.model);
            served.count_no_endpoints();
        }
    }
}

/// How long alarms are not followed at once.
struct Hush {
    until: Instant,
    next: Duration,
}

impl Hush {
    fn new(now: Instant) -> Self {
        Self { until: now, next: HUSH_MIN }
    }

    /// An alarm was followed at `now`; `part` is a number from 0 to 1 by chance.
    fn rang(&mut self, now: Instant, part: f64) {
        self.until = now + earlier(self.next, part);
        self.next = (self.next * 2).min(HUSH_MAX);
    }

    /// Nothing is wrong any more, or DNS told something new.
    fn ends(&mut self) {
        self.next = HUSH_MIN;
    }
}

/// A time that is shorter than `time` by up to [`JITTER`] of it; `part` is a number from 0 to 1.
fn earlier(time: Duration, part: f64) -> Duration {
    time.mul_f64(1.0 - JITTER * part)
}

/// What keeps the pods of one model up to date. It holds on to nothing while it waits: who drops the gateway, or
/// forgets the model, has it end. When it ends, however that comes about, the model is forgotten: the next request looks it
/// up anew.
struct Watch {
    found: Weak<Found>,
    served: Weak<Served>,
    alarm: Arc<Notify>,
    standing: Standing,
    is_failing: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let (Some(found), Some(served)) = (self.found.upgrade(), self.served.upgrade()) {
            found.forget(&served);
        }
    }
}

impl Watch {
    async fn go_on(mut self, mut next: Duration) {
        let mut hush = Hush::new(Instant::now());
        loop {
            let due = Instant::now() + earlier(next, fastrand::f64());
            let has_rung = tokio::select! {
                () = sleep_until(due) => false,
                () = self.alarm.notified() => true,
            };
            if has_rung {
                sleep_until(hush.until.min(due)).await;
                hush.rang(Instant::now(), fastrand::f64());
            } else {
                hush.ends();
            }
            let (Some(found), Some(served)) = (self.found.upgrade(), self.served.upgrade()) else { return };
            if served.is_idle(found.habits.forget) {
                return;
            }
            let look = found.dns.look(&served.model, Cause::Watch).await;
            let before = served.pods.len();
            match self.standing.heard(&look, &served.pods, &found.habits, Instant::now()) {
                Next::Forget => return,
                Next::AskIn(time) => next = time,
            }
            if served.pods.len() != before {
                hush.ends();
            }
            served.count_endpoints();
            self.tell(&served, &look, before);
        }
    }

    /// One line where something changed.
    fn tell(&mut self, served: &Served, look: &Result<Look, String>, before: usize) {
        let (was_failing, endpoints) = (self.is_failing, served.pods.len());
        self.is_failing = look.is_err();
        if self.is_failing == was_failing && endpoints == before {
            return;
        }
        let (model, namespace) = (served.model.name.as_str(), served.model.namespace.as_str());
        if let Err(cause) = look {
            tracing::warn!(model, namespace, endpoints, cause, "DNS fails: the last endpoints stay");
        } else if let Some(left_out) = LINES.admit() {
            tracing::info!(model, namespace, endpoints, before, left_out, "looked up the endpoints");
        }
    }
}

/// A first look-up: under way, or over since a moment.
#[derive(Default)]
struct First {
    outcome: OnceCell<(Result<Arc<Served>, Missing>, Instant)>,
}

/// The first look-ups that are under way, and those that found nothing a moment ago.
struct Firsts {
    by_model: HashMap<ModelRef, Arc<First>>,
    /// How long it counts that nothing was found.
    keep: Duration,
}

impl Firsts {
    fn new(keep: Duration) -> Self {
        Self { by_model: HashMap::new(), keep }
    }

    /// The look-up of `model` that counts at `now`, or a new one.
    fn of(&mut self, model: &ModelRef, now: Instant) -> Arc<First> {
        let keep = self.keep;
        let counts = |first: &Arc<First>| match first.outcome.get() {
            Some(&(_, ended)) => now < ended + keep,
            // Callers hold on to the look-up they wait for: where all of them have left, nobody makes it.
            None => Arc::strong_count(first) > 1,
        };
        if let Some(first) = self.by_model.get(model).filter(|first| counts(first)) {
            return first.clone();
        }
        if self.by_model.len() >= FIRSTS_MAX {
            self.by_model.retain(|_, first| counts(first));
        }
        let first = Arc::new(First::default());
        if self.by_model.len() < FIRSTS_MAX || self.by_model.contains_key(model) {
            self.by_model.insert(model.clone(), first.clone());
        }
        first
    }

    fn forget(&mut self, model: &ModelRef) {
        self.by_model.remove(model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(number: usize) -> ModelRef {
        ModelRef::parse(&format!("model{number}"), "shop").unwrap()
    }

    fn found() -> Arc<Found> {
        let settings = crate::settings::Settings {
            cluster_domain: Some("cluster.test".to_owned()),
            dns_server: Some("127.0.0.1:1".parse().unwrap()),
            ..Default::default()
        };
        let dns = Dns::new(&settings).unwrap().unwrap();
        let metrics = Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap();
        Found::new(dns, &settings.habits, settings.protection, &Arc::new(metrics))
    }

    #[tokio::test]
    async fn a_model_whose_watch_ends_by_a_panic_is_forgotten() {
        let found = found();
        let served = found.watch(&model(0), &Ok(Look::NoneReady));
        assert!(found.watched(&model(0)).is_some());
        let watch = Watch {
            found: Arc::downgrade(&found),
            served: Arc::downgrade(&served),
            alarm: served.alarm.clone(),
            standing: Standing::default(),
            is_failing: false,
        };
        let ended = tokio::spawn(async move {
            let _watch = watch;
            panic!("as a fault in the watch would");
        });
        assert!(ended.await.unwrap_err().is_panic());
        assert!(found.watched(&model(0)).is_none());
        // Of a model that was found again by then, an older watch ends without effect.
        let again = found.watch(&model(0), &Ok(Look::NoneReady));
        found.forget(&served);
        assert!(found.watched(&model(0)).is_some_and(|watched| Arc::ptr_eq(&watched, &again)));
    }

    #[test]
    fn look_ups_that_alarms_bring_about_come_ever_less_often_until_something_is_new() {
        let now = Instant::now();
        let mut hush = Hush::new(now);
        assert_eq!(hush.until, now, "the first alarm is followed at once");
        let mut millis = |part: f64| {
            hush.rang(now, part);
            (hush.until - now).as_millis()
        };
        assert_eq!([0.0; 6].map(&mut millis), [250, 500, 1000, 2000, 4000, 5000]);
        assert_eq!(millis(1.0), 4500, "chance makes it less");
        hush.ends();
        hush.rang(now, 0.0);
        assert_eq!((hush.until - now).as_millis(), 250);
    }

    #[test]
    fn a_look_up_is_shared_while_it_is_under_way_and_for_a_moment_after_it_found_nothing() {
        let (mut firsts, now) = (Firsts::new(Duration::from_secs(1)), Instant::now());
        let first = firsts.of(&model(0), now);
        assert!(Arc::ptr_eq(&first, &firsts.of(&model(0), now + Duration::from_secs(100))));
        assert!(first.outcome.set((Err(Missing::Unknown), now)).is_ok());
        assert!(Arc::ptr_eq(&first, &firsts.of(&model(0), now + Duration::from_millis(999))));
        assert!(!Arc::ptr_eq(&first, &firsts.of(&model(0), now + Duration::from_secs(1))));
    }

    #[test]
    fn a_look_up_that_all_callers_left_makes_room() {
        let (mut firsts, now) = (Firsts::new(Duration::from_secs(1)), Instant::now());
        let waiting = firsts.of(&model(0), now);
        for number in 1..2 * FIRSTS_MAX {
            // As with a caller whose deadline was over before DNS answered.
            drop(firsts.of(&model(number), now));
        }
        let late = firsts.of(&model(2 * FIRSTS_MAX), now);
        assert!(Arc::ptr_eq(&late, &firsts.of(&model(2 * FIRSTS_MAX), now)), "it is shared");
        assert!(Arc::ptr_eq(&waiting, &firsts.of(&model(0), now)), "somebody waits for this one");
    }

    #[test]
    fn ten_thousand_names_take_the_memory_of_a_thousand() {
        let (mut firsts, now) = (Firsts::new(Duration::from_secs(1)), Instant::now());
        for number in 0..10_000 {
            let first = firsts.of(&model(number), now);
            assert!(first.outcome.set((Err(Missing::Unknown), now)).is_ok());
            assert!(firsts.by_model.len() <= FIRSTS_MAX);
        }
        firsts.of(&model(10_000), now + Duration::from_secs(1));
        assert_eq!(firsts.by_model.len(), 1, "those that count no more make room");
    }
}
