//! The models discovered by DNS: looked up on the first request, refreshed while in use, then forgotten. Concurrent first requests
//! for a model share one look-up.

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

/// How many first look-ups are shared and cached; requests beyond make their own.
const PENDING_MAX: usize = 1024;
/// The shortest time between two forced look-ups, since every failed request forces one.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// The longest: the time doubles with each forced look-up that changes nothing.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Look-ups are made earlier by up to this share, at random, so that gateways do not query DNS in step.
const JITTER: f64 = 0.1;

static LINES: LogLimit = LogLimit::per_second(10);

/// Why a model was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// No such model.
    Unknown,
    /// The look-up failed.
    DnsFailed(String),
}

/// The models discovered by DNS.
pub(crate) struct ModelRegistry {
    pub(crate) dns: Dns,
    tuning: Tuning,
    resilience: Resilience,
    metrics: Arc<Metrics>,
    watched: RwLock<HashMap<ModelRef, Arc<Model>>>,
    pending: Mutex<PendingLookups>,
}

impl ModelRegistry {
    /// An empty registry.
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

    /// Finds the model called `id`. Waits for its first look-up, which concurrent requests share.
    pub(crate) async fn find(
        self: &Arc<Self>,
        id: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Model>, LookupError> {
        match self.watched(id) {
            Some(model) => Ok(model),
            // Rare, so it is boxed to keep the future of every request small.
            None => Box::pin(self.find_first(id, deadline)).await,
        }
    }

    async fn find_first(
        self: &Arc<Self>,
        id: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Model>, LookupError> {
        let lookup =
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).get_or_start(id, Instant::now());
        let outcome = lookup.outcome.get_or_init(|| self.resolve(id));
        let late = |_| {
            LookupError::DnsFailed(format!(
                "DNS did not respond about model {id} within {:?}",
                deadline.after
            ))
        };
        let (outcome, _) = timeout_at(deadline.at, outcome).await.map_err(late)?;
        outcome.clone()
    }

    /// Whether the endpoints of `id` are refreshed.
    pub(crate) fn is_watched(&self, id: &ModelRef) -> bool {
        self.watched(id).is_some()
    }

    /// Finds the model called `id` for a single call, without refreshing it afterwards.
    pub(crate) async fn find_once(
        &self,
        id: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Model>, LookupError> {
        if let Some(model) = self.watched(id) {
            return Ok(model);
        }
        let looked = timeout_at(deadline.at, self.dns.resolve(id, QueryOrigin::Client)).await;
        let late = |_| format!("DNS did not respond about model {id} within {:?}", deadline.after);
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
            // Later requests find it among the watched models.
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).forget(id);
        }
        (outcome, Instant::now())
    }

    /// Starts to refresh the endpoints of a model with a first `resolution`.
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
            model.update_endpoint_gauge();
            tokio::spawn(watch.run(next));
        }
        model
    }

    /// Removes `model`, unless another instance has replaced it.
    fn forget(&self, model: &Arc<Model>) {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        if watched.get(&model.id).is_some_and(|other| Arc::ptr_eq(other, model)) {
            watched.remove(&model.id);
            model.clear_endpoint_gauge();
        }
    }
}

/// The back-off of forced look-ups.
struct ResolveBackoff {
    until: Instant,
    next: Duration,
}

impl ResolveBackoff {
    fn new(now: Instant) -> Self {
        Self { until: now, next: BACKOFF_MIN }
    }

    /// Records a forced look-up at `now`; `part` is a random number from 0 to 1.
    fn record_attempt(&mut self, now: Instant, part: f64) {
        self.until = now + with_jitter(self.next, part);
        self.next = (self.next * 2).min(BACKOFF_MAX);
    }

    /// Resets the back-off, after a regular look-up or a change.
    fn reset(&mut self) {
        self.next = BACKOFF_MIN;
    }
}

/// `time` reduced by up to [`JITTER`]; `part` is a random number from 0 to 1.
fn with_jitter(time: Duration, part: f64) -> Duration {
    time.mul_f64(1.0 - JITTER * part)
}

/// The task that refreshes the endpoints of one model. It holds weak references only, so it ends with the gateway. When it ends,
/// even by a panic, the model is removed from the registry, and the next request looks it up again.
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
            let due = Instant::now() + with_jitter(next, fastrand::f64());
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
            model.update_endpoint_gauge();
            self.log_change(&model, &resolution, before);
        }
    }

    /// Logs a change.
    fn log_change(&mut self, model: &Model, resolution: &Result<Resolution, String>, before: usize) {
        let (was_failing, endpoints) = (self.is_failing, model.balancer.len());
        self.is_failing = resolution.is_err();
        if self.is_failing == was_failing && endpoints == before {
            return;
        }
        let (model_name, namespace) = (model.id.name.as_str(), model.id.namespace.as_str());
        if let Err(cause) = resolution {
            tracing::warn!(
                model = model_name,
                namespace,
                endpoints,
                cause,
                "DNS fails: the last endpoints stay in use"
            );
        } else if let Some(left_out) = LINES.admit() {
            tracing::info!(
                model = model_name,
                namespace,
                endpoints,
                before,
                left_out,
                "the endpoints changed"
            );
        }
    }
}

/// A first look-up, in progress or finished.
#[derive(Default)]
struct PendingLookup {
    outcome: OnceCell<(Result<Arc<Model>, LookupError>, Instant)>,
}

/// First look-ups in progress, and recent ones without a result: single flight and a negative cache.
struct PendingLookups {
    by_model: HashMap<ModelRef, Arc<PendingLookup>>,
    /// How long a negative result is cached.
    keep: Duration,
}

impl PendingLookups {
    fn new(keep: Duration) -> Self {
        Self { by_model: HashMap::new(), keep }
    }

    /// The current look-up of `model` at `now`, or a new one.
    fn get_or_start(&mut self, id: &ModelRef, now: Instant) -> Arc<PendingLookup> {
        let keep = self.keep;
        let counts = |lookup: &Arc<PendingLookup>| match lookup.outcome.get() {
            Some(&(_, ended)) => now < ended + keep,
            // Waiting callers hold a reference. Without any, no task drives the look-up.
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
    async fn a_model_is_forgotten_when_its_refresh_task_panics() {
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
            panic!("a bug in the task");
        });
        assert!(ended.await.unwrap_err().is_panic());
        assert!(registry.watched(&id(0)).is_none());
        // An old task does not remove the model that replaced its own.
        let again = registry.watch(&id(0), &Ok(Resolution::NoneReady));
        registry.forget(&model);
        assert!(registry.watched(&id(0)).is_some_and(|watched| Arc::ptr_eq(&watched, &again)));
    }

    #[test]
    fn forced_look_ups_back_off_until_something_changes() {
        let now = Instant::now();
        let mut backoff = ResolveBackoff::new(now);
        assert_eq!(backoff.until, now, "the first one is not delayed");
        let mut millis = |part: f64| {
            backoff.record_attempt(now, part);
            (backoff.until - now).as_millis()
        };
        assert_eq!([0.0; 6].map(&mut millis), [250, 500, 1000, 2000, 4000, 5000]);
        assert_eq!(millis(1.0), 4500, "jitter shortens it");
        backoff.reset();
        backoff.record_attempt(now, 0.0);
        assert_eq!((backoff.until - now).as_millis(), 250);
    }

    #[test]
    fn a_look_up_is_shared_while_in_progress_and_its_negative_result_is_cached() {
        let (mut pending, now) = (PendingLookups::new(Duration::from_secs(1)), Instant::now());
        let lookup = pending.get_or_start(&id(0), now);
        assert!(Arc::ptr_eq(&lookup, &pending.get_or_start(&id(0), now + Duration::from_secs(100))));
        assert!(lookup.outcome.set((Err(LookupError::Unknown), now)).is_ok());
        assert!(Arc::ptr_eq(&lookup, &pending.get_or_start(&id(0), now + Duration::from_millis(999))));
        assert!(!Arc::ptr_eq(&lookup, &pending.get_or_start(&id(0), now + Duration::from_secs(1))));
    }

    #[test]
    fn a_look_up_without_waiting_callers_is_replaced() {
        let (mut pending, now) = (PendingLookups::new(Duration::from_secs(1)), Instant::now());
        let waiting = pending.get_or_start(&id(0), now);
        for number in 1..2 * PENDING_MAX {
            // As for a caller whose deadline passed before DNS responded.
            drop(pending.get_or_start(&id(number), now));
        }
        let late = pending.get_or_start(&id(2 * PENDING_MAX), now);
        assert!(
            Arc::ptr_eq(&late, &pending.get_or_start(&id(2 * PENDING_MAX), now)),
            "the look-up is shared"
        );
        assert!(
            Arc::ptr_eq(&waiting, &pending.get_or_start(&id(0), now)),
            "a caller still waits for this one"
        );
    }

    #[test]
    fn the_number_of_cached_look_ups_is_bounded() {
        let (mut pending, now) = (PendingLookups::new(Duration::from_secs(1)), Instant::now());
        for number in 0..10_000 {
            let lookup = pending.get_or_start(&id(number), now);
            assert!(lookup.outcome.set((Err(LookupError::Unknown), now)).is_ok());
            assert!(pending.by_model.len() <= PENDING_MAX);
        }
        pending.get_or_start(&id(10_000), now + Duration::from_secs(1));
        assert_eq!(pending.by_model.len(), 1, "expired look-ups are removed");
    }
}
