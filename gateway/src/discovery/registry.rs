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

use crate::discovery::dns::{Dns, QueryOrigin, Resolution};
use crate::discovery::refresh::{EndpointRefresh, NextStep};
use crate::metrics::Metrics;
use crate::model::Model;
use crate::settings::{Resilience, Tuning};
use crate::upstream::pool::{ConnectionPool, Deadline};

/// How many first look-ups are shared and remembered; beyond, each is made by who asks, for itself.
const PENDING_MAX: usize = 1024;
/// The least time between two look-ups that alarms bring about: while pods refuse connections every request rings.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// That time doubles with each such look-up that tells nothing new, up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Resolution-ups come earlier by up to this part of the time, by chance: else gateways that begin together ask together.
const JITTER: f64 = 0.1;

static LINES: LogLimit = LogLimit::per_second(10);

/// Why there is no model to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// There is none of that name.
    Unknown,
    /// DNS could not be asked.
    DnsFailed(String),
}

/// The models that DNS knows.
pub(crate) struct ModelRegistry {
    pub(crate) dns: Dns,
    tuning: Tuning,
    resilience: Resilience,
    metrics: Arc<Metrics>,
    watched: RwLock<HashMap<ModelRef, Arc<Model>>>,
    pending: Mutex<PendingLookups>,
}

impl ModelRegistry {
    /// The models that `dns` knows.
    pub(crate) fn new(
        dns: Dns,
        tuning: &Tuning,
        resilience: Resilience,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let pending = Mutex::new(PendingLookups::new(tuning.negative_ttl));
        Arc::new(Self {
            dns,
            tuning: tuning.clone(),
            resilience,
            metrics: metrics.clone(),
            watched: RwLock::default(),
            pending,
        })
    }

    /// The model called `model`. Awaits the first look-up, which all who come meanwhile share.
    pub(crate) async fn find(
        self: &Arc<Self>,
        id: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Model>, LookupError> {
        match self.watched(id) {
            Some(model) => Ok(model),
            // Seldom made, so it takes no room in the future of every request.
            None => Box::pin(self.find_first(id, deadline)).await,
        }
    }

    async fn find_first(
        self: &Arc<Self>,
        id: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Model>, LookupError> {
        let lookup = self.pending.lock().unwrap_or_else(PoisonError::into_inner).of(id, Instant::now());
        let outcome = lookup.outcome.get_or_init(|| self.resolve(id));
        let late = |_| {
            LookupError::DnsFailed(format!("no answer of DNS about model {id} within {:?}", deadline.after))
        };
        let (outcome, _) = timeout_at(deadline.at, outcome).await.map_err(late)?;
        outcome.clone()
    }

    /// Whether `model` is looked up all the time.
    pub(crate) fn is_watched(&self, id: &ModelRef) -> bool {
        self.watched(id).is_some()
    }

    /// The model called `model` for one question: as it is watched, or as DNS knows it now. Nothing watches it for that.
    pub(crate) async fn find_once(
        &self,
        id: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Model>, LookupError> {
        if let Some(model) = self.watched(id) {
            return Ok(model);
        }
        let looked = timeout_at(deadline.at, self.dns.resolve(id, QueryOrigin::Client)).await;
        let late = |_| format!("no answer of DNS about model {id} within {:?}", deadline.after);
        let addresses = match looked.map_err(late).flatten().map_err(LookupError::DnsFailed)? {
            Resolution::Endpoints(addresses, _) | Resolution::SomeEndpoints(addresses, _) => addresses,
            Resolution::NoneReady => Vec::new(),
            Resolution::Unknown => return Err(LookupError::Unknown),
        };
        let at = addresses.iter().map(|&ip| SocketAddr::new(ip, self.tuning.predictor_port));
        let lookup = at.clone().next().and_then(|lookup| ConnectionPool::new(lookup.into()));
        let lookup =
            lookup.ok_or_else(|| LookupError::DnsFailed(format!("no pod of model {id} is ready")))?;
        let model = Model::fixed(id.clone(), Arc::new(lookup), self.resilience, &self.metrics);
        model.balancer.replace(at);
        Ok(Arc::new(model))
    }

    fn watched(&self, id: &ModelRef) -> Option<Arc<Model>> {
        self.watched.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    async fn resolve(self: &Arc<Self>, id: &ModelRef) -> (Result<Arc<Model>, LookupError>, Instant) {
        let resolution = self.dns.resolve(id, QueryOrigin::Client).await;
        let outcome = match &resolution {
            Ok(Resolution::Endpoints(..) | Resolution::SomeEndpoints(..) | Resolution::NoneReady) => {
                Ok(self.watch(id, &resolution))
            }
            Ok(Resolution::Unknown) => Err(LookupError::Unknown),
            Err(why) => Err(LookupError::DnsFailed(why.clone())),
        };
        if outcome.is_ok() {
            // Whoever comes from now on finds it among those that are watched.
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).forget(id);
        }
        (outcome, Instant::now())
    }

    /// Begins to watch a model of which DNS said `look`.
    fn watch(self: &Arc<Self>, id: &ModelRef, resolution: &Result<Resolution, String>) -> Arc<Model> {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = watched.get(id) {
            return model.clone();
        }
        let model = Arc::new(Model::discovered(id.clone(), self.resilience, &self.metrics));
        watched.insert(id.clone(), model.clone());
        drop(watched);
        let mut watch = EndpointWatch {
            registry: Arc::downgrade(self),
            model: Arc::downgrade(&model),
            re_resolve: model.re_resolve.clone(),
            refresh: EndpointRefresh::default(),
            is_failing: false,
        };
        if let NextStep::ResolveIn(next) =
            watch.refresh.apply(resolution, &model.balancer, &self.tuning, Instant::now())
        {
            model.count_endpoints();
            tokio::spawn(watch.run(next));
        }
        model
    }

    /// Forgets `served`, unless another one is in its place by now.
    fn forget(&self, model: &Arc<Model>) {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        if watched.get(&model.id).is_some_and(|other| Arc::ptr_eq(other, model)) {
            watched.remove(&model.id);
            model.count_no_endpoints();
        }
    }
}

/// How long alarms are not followed at once.
struct ResolveBackoff {
    until: Instant,
    next: Duration,
}

impl ResolveBackoff {
    fn new(now: Instant) -> Self {
        Self { until: now, next: BACKOFF_MIN }
    }

    /// An alarm was followed at `now`; `part` is a number from 0 to 1 by chance.
    fn record_attempt(&mut self, now: Instant, part: f64) {
        self.until = now + earlier(self.next, part);
        self.next = (self.next * 2).min(BACKOFF_MAX);
    }

    /// Nothing is wrong any more, or DNS told something new.
    fn reset(&mut self) {
        self.next = BACKOFF_MIN;
    }
}

/// A time that is shorter than `time` by up to [`JITTER`] of it; `part` is a number from 0 to 1.
fn earlier(time: Duration, part: f64) -> Duration {
    time.mul_f64(1.0 - JITTER * part)
}

/// What keeps the pods of one model up to date. It holds on to nothing while it waits: who drops the gateway, or
/// forgets the model, has it end. When it ends, however that comes about, the model is forgotten: the next request looks it
/// up anew.
struct EndpointWatch {
    registry: Weak<ModelRegistry>,
    model: Weak<Model>,
    re_resolve: Arc<Notify>,
    refresh: EndpointRefresh,
    is_failing: bool,
}

impl Drop for EndpointWatch {
    fn drop(&mut self) {
        if let (Some(registry), Some(model)) = (self.registry.upgrade(), self.model.upgrade()) {
            registry.forget(&model);
        }
    }
}

impl EndpointWatch {
    async fn run(mut self, mut next: Duration) {
        let mut backoff = ResolveBackoff::new(Instant::now());
        loop {
            let due = Instant::now() + earlier(next, fastrand::f64());
            let is_forced = tokio::select! {
                () = sleep_until(due) => false,
                () = self.re_resolve.notified() => true,
            };
            if is_forced {
                sleep_until(backoff.until.min(due)).await;
                backoff.record_attempt(Instant::now(), fastrand::f64());
            } else {
                backoff.reset();
            }
            let (Some(registry), Some(model)) = (self.registry.upgrade(), self.model.upgrade()) else {
                return;
            };
            if model.is_idle(registry.tuning.idle_ttl) {
                return;
            }
            let resolution = registry.dns.resolve(&model.id, QueryOrigin::Refresh).await;
            let before = model.balancer.len();
            match self.refresh.apply(&resolution, &model.balancer, &registry.tuning, Instant::now()) {
                NextStep::Forget => return,
                NextStep::ResolveIn(time) => next = time,
            }
            if model.balancer.len() != before {
                backoff.reset();
            }
            model.count_endpoints();
            self.log_change(&model, &resolution, before);
        }
    }

    /// One line where something changed.
    fn log_change(&mut self, model: &Model, resolution: &Result<Resolution, String>, before: usize) {
        let (was_failing, endpoints) = (self.is_failing, model.balancer.len());
        self.is_failing = resolution.is_err();
        if self.is_failing == was_failing && endpoints == before {
            return;
        }
        let (id, namespace) = (model.id.name.as_str(), model.id.namespace.as_str());
        if let Err(cause) = resolution {
            tracing::warn!(id, namespace, endpoints, cause, "DNS fails: the last endpoints stay");
        } else if let Some(left_out) = LINES.admit() {
            tracing::info!(id, namespace, endpoints, before, left_out, "looked up the endpoints");
        }
    }
}

/// A first look-up: under way, or over since a moment.
#[derive(Default)]
struct PendingLookup {
    outcome: OnceCell<(Result<Arc<Model>, LookupError>, Instant)>,
}

/// The first look-ups that are under way, and those that found nothing a moment ago.
struct PendingLookups {
    by_model: HashMap<ModelRef, Arc<PendingLookup>>,
    /// How long it counts that nothing was found.
    keep: Duration,
}

impl PendingLookups {
    fn new(keep: Duration) -> Self {
        Self { by_model: HashMap::new(), keep }
    }

    /// The look-up of `model` that counts at `now`, or a new one.
    fn of(&mut self, id: &ModelRef, now: Instant) -> Arc<PendingLookup> {
        let keep = self.keep;
        let counts = |lookup: &Arc<PendingLookup>| match lookup.outcome.get() {
            Some(&(_, ended)) => now < ended + keep,
            // Callers hold on to the look-up they wait for: where all of them have left, nobody makes it.
            None => Arc::strong_count(lookup) > 1,
        };
        if let Some(lookup) = self.by_model.get(id).filter(|lookup| counts(lookup)) {
            return lookup.clone();
        }
        if self.by_model.len() >= PENDING_MAX {
            self.by_model.retain(|_, lookup| counts(lookup));
        }
        let lookup = Arc::new(PendingLookup::default());
        if self.by_model.len() < PENDING_MAX || self.by_model.contains_key(id) {
            self.by_model.insert(id.clone(), lookup.clone());
        }
        lookup
    }

    fn forget(&mut self, id: &ModelRef) {
        self.by_model.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ModelRef {
        ModelRef::parse(&format!("model{number}"), "shop").unwrap()
    }

    fn registry() -> Arc<ModelRegistry> {
        let settings = crate::settings::Settings {
            cluster_domain: Some("cluster.test".to_owned()),
            dns_server: Some("127.0.0.1:1".parse().unwrap()),
            ..Default::default()
        };
        let dns = Dns::new(&settings).unwrap().unwrap();
        let metrics = Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap();
        ModelRegistry::new(dns, &settings.tuning, settings.resilience, &Arc::new(metrics))
    }

    #[tokio::test]
    async fn a_model_whose_watch_ends_by_a_panic_is_forgotten() {
        let registry = registry();
        let model = registry.watch(&id(0), &Ok(Resolution::NoneReady));
        assert!(registry.watched(&id(0)).is_some());
        let watch = EndpointWatch {
            registry: Arc::downgrade(&registry),
            model: Arc::downgrade(&model),
            re_resolve: model.re_resolve.clone(),
            refresh: EndpointRefresh::default(),
            is_failing: false,
        };
        let ended = tokio::spawn(async move {
            let _watch = watch;
            panic!("as a fault in the watch would");
        });
        assert!(ended.await.unwrap_err().is_panic());
        assert!(registry.watched(&id(0)).is_none());
        // Of a model that was found again by then, an older watch ends without effect.
        let again = registry.watch(&id(0), &Ok(Resolution::NoneReady));
        registry.forget(&model);
        assert!(registry.watched(&id(0)).is_some_and(|watched| Arc::ptr_eq(&watched, &again)));
    }

    #[test]
    fn look_ups_that_alarms_bring_about_come_ever_less_often_until_something_is_new() {
        let now = Instant::now();
        let mut backoff = ResolveBackoff::new(now);
        assert_eq!(backoff.until, now, "the first alarm is followed at once");
        let mut millis = |part: f64| {
            backoff.record_attempt(now, part);
            (backoff.until - now).as_millis()
        };
        assert_eq!([0.0; 6].map(&mut millis), [250, 500, 1000, 2000, 4000, 5000]);
        assert_eq!(millis(1.0), 4500, "chance makes it less");
        backoff.reset();
        backoff.record_attempt(now, 0.0);
        assert_eq!((backoff.until - now).as_millis(), 250);
    }

    #[test]
    fn a_look_up_is_shared_while_it_is_under_way_and_for_a_moment_after_it_found_nothing() {
        let (mut pending, now) = (PendingLookups::new(Duration::from_secs(1)), Instant::now());
        let lookup = pending.of(&id(0), now);
        assert!(Arc::ptr_eq(&lookup, &pending.of(&id(0), now + Duration::from_secs(100))));
        assert!(lookup.outcome.set((Err(LookupError::Unknown), now)).is_ok());
        assert!(Arc::ptr_eq(&lookup, &pending.of(&id(0), now + Duration::from_millis(999))));
        assert!(!Arc::ptr_eq(&lookup, &pending.of(&id(0), now + Duration::from_secs(1))));
    }

    #[test]
    fn a_look_up_that_all_callers_left_makes_room() {
        let (mut pending, now) = (PendingLookups::new(Duration::from_secs(1)), Instant::now());
        let waiting = pending.of(&id(0), now);
        for number in 1..2 * PENDING_MAX {
            // As with a caller whose deadline was over before DNS answered.
            drop(pending.of(&id(number), now));
        }
        let late = pending.of(&id(2 * PENDING_MAX), now);
        assert!(Arc::ptr_eq(&late, &pending.of(&id(2 * PENDING_MAX), now)), "it is shared");
        assert!(Arc::ptr_eq(&waiting, &pending.of(&id(0), now)), "somebody waits for this one");
    }

    #[test]
    fn ten_thousand_names_take_the_memory_of_a_thousand() {
        let (mut pending, now) = (PendingLookups::new(Duration::from_secs(1)), Instant::now());
        for number in 0..10_000 {
            let lookup = pending.of(&id(number), now);
            assert!(lookup.outcome.set((Err(LookupError::Unknown), now)).is_ok());
            assert!(pending.by_model.len() <= PENDING_MAX);
        }
        pending.of(&id(10_000), now + Duration::from_secs(1));
        assert_eq!(pending.by_model.len(), 1, "those that count no more make room");
    }
}
