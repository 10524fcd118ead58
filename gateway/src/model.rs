//! A model that is served: its pods, and what they have said of it.
//!
//! Comes in: the wish to know what a pod serves, and how calls to it went. Goes out: the revision that it serves.
//! Never: one revision's description for another's answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use canopy_contract::describe::ModelDescription;
use canopy_contract::names::ModelRef;
use canopy_runtime::telemetry::log_limit::{LINES_PER_SECOND, LogLimit};
use canopy_runtime::trace::RequestSpan;
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Level;

use crate::balance::clock::{now, second};
use crate::balance::concurrency_limit::Share;
use crate::balance::endpoints::{Asked, Pod, Pods};
use crate::balance::latency::Patience;
use crate::balance::retry_budget::Retries;
use crate::error::{Failure, Trouble};
use crate::metrics::{Endpoints, Metrics, Series};
use crate::revision::Known;
use crate::settings::Protection;
use crate::upstream::connection::{Deadline, Endpoint, Question, Reply};
use crate::upstream::describe::Lesson;

/// How long the description of a model may be: thousands of features with long names.
const DESCRIPTION_MAX: usize = 4 << 20;
/// How many revisions are remembered: two are there while one replaces the other, and one may be taken back.
const REVISIONS_MAX: usize = 4;

static LINES: LogLimit = LogLimit::per_second(LINES_PER_SECOND);

/// A model, its pods, and what is known of it.
pub(crate) struct Served {
    pub(crate) model: ModelRef,
    pub(crate) pods: Pods,
    pub(crate) retries: Retries,
    pub(crate) patience: Patience,
    pub(crate) share: Share,
    /// Rung when a pod could not be reached: DNS may know better by now.
    pub(crate) alarm: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// For what happens while no version is known.
    series: Series,
    endpoints: Option<Endpoints>,
    /// What a pod said last: what a pod that has said nothing yet is taken for.
    latest: ArcSwapOption<Known>,
    /// The latest is at the back.
    revisions: Mutex<VecDeque<Arc<Known>>>,
    /// In which second somebody asked for it last.
    used: AtomicU64,
}

impl Served {
    /// A model whose predictor was named to the gateway.
    pub(crate) fn named(
        model: ModelRef,
        endpoint: Arc<Endpoint>,
        protection: Protection,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let pods = Pods::one(endpoint, protection.eject_time);
        Self { pods, endpoints: None, ..Self::found(model, protection, metrics) }
    }

    /// A model that DNS knows, without pods so far.
    pub(crate) fn found(model: ModelRef, protection: Protection, metrics: &Arc<Metrics>) -> Self {
        Self {
            pods: Pods::none(protection.eject_time),
            retries: Retries::new(protection.retry_percent),
            patience: Patience::default(),
            share: Share::default(),
            alarm: Arc::default(),
            metrics: metrics.clone(),
            series: metrics.of(&model, ""),
            endpoints: Some(metrics.endpoints(&model)),
            latest: ArcSwapOption::empty(),
            revisions: Mutex::default(),
            used: AtomicU64::new(second(now())),
            model,
        }
    }

    /// Somebody asks for the model.
    pub(crate) fn is_used(&self) {
        let now = second(now());
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// Whether nobody asked for the model for `time`.
    pub(crate) fn is_idle(&self, time: Duration) -> bool {
        // A request may have read a later clock than this.
        second(now()).saturating_sub(self.used.load(Ordering::Relaxed)) > time.as_secs()
    }

    /// The pod to ask now, or another one than were tried.
    pub(crate) fn pick(&self, tried: &[Arc<Pod>]) -> Option<Asked> {
        self.pods.pick(tried)
    }

    /// What is known without asking.
    pub(crate) fn known_so_far(&self) -> Option<Arc<Known>> {
        self.latest.load_full()
    }

    /// The series to count under while no version is known.
    pub(crate) fn series(&self) -> &Series {
        &self.series
    }

    /// The failure to answer for this model, because of what happened at `pod`.
    pub(crate) fn failure(&self, pod: &Pod, trouble: Trouble) -> Failure {
        let endpoint = Some(pod.endpoint.url().to_owned());
        Failure::Predictor { model: self.model.clone(), endpoint, trouble }
    }

    /// The failure where there is no pod to ask.
    pub(crate) fn none_ready(&self) -> Failure {
        Failure::Predictor { model: self.model.clone(), endpoint: None, trouble: Trouble::NoneReady }
    }

    /// The failure where there is more to do than can be done in time.
    pub(crate) fn overloaded(&self) -> Failure {
        Failure::Predictor { model: self.model.clone(), endpoint: None, trouble: Trouble::Overloaded }
    }

    /// A call to `pod` failed.
    pub(crate) fn went_wrong(&self, pod: &Asked, trouble: &Trouble) {
        self.pods.failed(pod, trouble);
        match trouble {
            Trouble::Unreachable { .. } | Trouble::NotReady(_) => self.alarm.notify_one(),
            Trouble::Overloaded => self.share.refused(now()),
            Trouble::NoneReady | Trouble::OutOfSockets { .. } | Trouble::Failed(_) | Trouble::Late { .. } => {
            }
        }
    }

    /// `pod` predicted `rows` rows within `took`, as `known`.
    pub(crate) fn predicted(&self, pod: &Pod, known: &Arc<Known>, rows: usize, took: Duration) {
        let now = now();
        pod.answered(known, now);
        pod.predicted(rows, took, now);
        self.patience.observe(rows, took);
        self.share.answered(now);
    }

    /// `pod` has not answered about `rows` rows for `waited`, nor anybody else.
    pub(crate) fn was_silent(&self, pod: &Asked, rows: usize, waited: Duration) {
        self.pods.was_silent(pod);
        self.patience.observe(rows, waited);
        self.alarm.notify_one();
        tracing::warn!(
            model = self.model.name.as_str(),
            namespace = self.model.namespace,
            endpoint = pod.endpoint.url(),
            rows,
            duration_ms = waited.as_secs_f64() * 1000.0,
            "a predictor is silent",
        );
    }

    /// `pod`, which answers others, has not answered about `rows` rows for `waited`.
    pub(crate) fn was_slow(&self, pod: &Asked, rows: usize, waited: Duration) {
        self.patience.observe(rows, waited);
        tracing::debug!(
            model = self.model.name.as_str(),
            namespace = self.model.namespace,
            endpoint = pod.endpoint.url(),
            rows,
            duration_ms = waited.as_secs_f64() * 1000.0,
            "a predictor takes long for one request: another one is asked too",
        );
    }

    /// What `pod` serves, as far as that is known: as it said itself, or as another pod said last.
    pub(crate) fn known_of(&self, pod: &Pod) -> Option<Arc<Known>> {
        pod.known().or_else(|| self.known_so_far())
    }

    /// `pod` has answered as `revision`; what that is, if any pod has told.
    pub(crate) fn recall(&self, pod: &Pod, revision: &HeaderValue) -> Option<Arc<Known>> {
        let revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = revisions.iter().rev().find(|known| known.revision == *revision)?.clone();
        drop(revisions);
        pod.answered(&known, now());
        Some(known)
    }

    /// Asks `pod` what it serves now. Whoever comes while that call is under way shares its outcome.
    pub(crate) async fn learn(
        &self,
        pod: &Asked,
        span: &RequestSpan,
        deadline: Deadline,
    ) -> Result<Arc<Known>, Failure> {
        // Seldom made, so it takes no room in the future of every request.
        let lesson = Box::pin(pod.lessons.share(deadline, self.lesson(pod, span, deadline))).await;
        lesson.map_err(|trouble| self.failure(pod, trouble))
    }

    /// Asks any pod what the model is now, and another if that one cannot say.
    pub(crate) async fn describe(
        &self,
        span: &RequestSpan,
        deadline: Deadline,
    ) -> Result<Arc<Known>, Failure> {
        let pod = self.pick(&[]).ok_or_else(|| self.none_ready())?;
        match self.learn(&pod, span, deadline).await {
            Err(failure) if failure.is_of_one_pod() => match self.pick(&[pod.shared()]) {
                Some(other) => self.learn(&other, span, deadline).await,
                None => Err(failure),
            },
            told => told,
        }
    }

    async fn lesson(&self, pod: &Asked, span: &RequestSpan, deadline: Deadline) -> Lesson {
        let started = Instant::now();
        let span = span.client(&Method::GET, "/model", pod.endpoint.url());
        let question = Question {
            method: Method::GET,
            path: "/model",
            body: Bytes::new(),
            trace: span.context(),
            answer_max: DESCRIPTION_MAX,
        };
        let read = pod.endpoint.ask(&question, deadline).await.and_then(|reply| self.read(pod, &reply));
        match &read {
            Ok(_) => span.finish(200, None),
            Err(trouble) => {
                self.went_wrong(pod, trouble);
                span.finish(None, Some(trouble.code().as_str()));
            }
        }
        let known = read?;
        let ModelDescription { version, revision, .. } = &known.description;
        if tracing::enabled!(Level::INFO)
            && let Some(left_out) = LINES.admit()
        {
            tracing::info!(
                trace_id = %span.context(), model = self.model.name.as_str(), namespace = self.model.namespace,
                version, revision, endpoint = pod.endpoint.url(),
                duration_ms = started.elapsed().as_secs_f64() * 1000.0, left_out, "learned what the model is",
            );
        }
        Ok(known)
    }

    /// What `pod` says it is, in `reply`, which is the latest that any pod has said.
    fn read(&self, pod: &Pod, reply: &Reply) -> Lesson {
        let url = pod.endpoint.url();
        match reply.status {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE if reply.is_overloaded => return Err(Trouble::Overloaded),
            StatusCode::SERVICE_UNAVAILABLE => {
                return Err(Trouble::NotReady(format!("{url} has no model to describe yet")));
            }
            other => return Err(Trouble::Failed(format!("{url}/model answered {other}"))),
        }
        let known = Known::read(&reply.body, &self.model, &self.metrics)
            .map_err(|why| Trouble::Failed(format!("{url} is no predictor of the model: {why}")))?;
        let known = self.remember(known);
        pod.answered(&known, now());
        self.latest.store(Some(known.clone()));
        self.count_endpoints();
        Ok(known)
    }

    /// `known`, or the object that is the same: what is the same stays so, with its series.
    fn remember(&self, known: Known) -> Arc<Known> {
        let mut revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        let same = revisions.iter().position(|before| before.description == known.description);
        let known = match same.and_then(|place| revisions.remove(place)) {
            Some(before) => before,
            None => Arc::new(known),
        };
        // Another description of the same revision replaces it.
        revisions.retain(|before| before.revision != known.revision);
        if revisions.len() == REVISIONS_MAX {
            revisions.pop_front();
        }
        revisions.push_back(known.clone());
        known
    }

    /// Tells how many pods there are, if DNS told of them.
    pub(crate) fn count_endpoints(&self) {
        if let Some(endpoints) = &self.endpoints {
            let known = self.known_so_far();
            endpoints.set(known.as_ref().map_or("", |known| &known.description.version), self.pods.len());
        }
    }

    /// Tells of no pods any more.
    pub(crate) fn count_no_endpoints(&self) {
        if let Some(endpoints) = &self.endpoints {
            endpoints.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_idle_only_after_the_time_even_where_a_request_read_a_later_clock() {
        let metrics = Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap();
        let model = ModelRef::parse("iris", "shop").unwrap();
        let served = Served::found(model, Protection::default(), &Arc::new(metrics));
        let now = second(now());
        served.used.store(now + 2, Ordering::Relaxed);
        assert!(!served.is_idle(Duration::ZERO));
        served.used.store(now - 1, Ordering::Relaxed);
        assert!(served.is_idle(Duration::ZERO) && !served.is_idle(Duration::from_mins(5)));
    }
}
