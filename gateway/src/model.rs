//! A model: its endpoints, limits, and the revisions that its endpoints serve. A response is always interpreted with the
//! description of the revision that gave it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use canopy_contract::names::ModelRef;
use canopy_runtime::telemetry::log_limit::{LINES_PER_SECOND, LogLimit};
use canopy_runtime::trace::RequestSpan;
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Level;

use crate::balance::balancer::Balancer;
use crate::balance::clock::{now, second};
use crate::balance::concurrency_limit::ConcurrencyLimit;
use crate::balance::endpoint::{Endpoint, InFlight};
use crate::balance::latency::HedgeDelay;
use crate::balance::retry_budget::RetryBudget;
use crate::error::{ApiError, UpstreamError};
use crate::metrics::{EndpointGauge, Metrics, Series};
use crate::revision::Revision;
use crate::settings::Resilience;
use crate::upstream::describe::DescribeResult;
use crate::upstream::pool::{ConnectionPool, Deadline, UpstreamRequest, UpstreamResponse};

/// The longest description of a model, in bytes: room for thousands of features with long names.
const DESCRIPTION_MAX: usize = 4 << 20;
/// How many revisions are kept: two during a rollout, and more after a rollback.
const REVISIONS_MAX: usize = 4;

static LINES: LogLimit = LogLimit::per_second(LINES_PER_SECOND);

/// A model, its endpoints and revisions.
pub(crate) struct Model {
    pub(crate) id: ModelRef,
    pub(crate) balancer: Balancer,
    pub(crate) retry_budget: RetryBudget,
    pub(crate) hedge_delay: HedgeDelay,
    pub(crate) concurrency: ConcurrencyLimit,
    /// Notified when an endpoint is unreachable or unresponsive: DNS may have a newer list.
    pub(crate) re_resolve: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// The series while no version is known.
    series: Series,
    endpoints: Option<EndpointGauge>,
    /// The revision described last, assumed for endpoints that have not responded yet.
    latest_revision: ArcSwapOption<Revision>,
    /// The latest is at the back.
    revisions: Mutex<VecDeque<Arc<Revision>>>,
    /// The second of the last request.
    last_used: AtomicU64,
}

impl Model {
    /// A model of the settings, with a fixed endpoint.
    pub(crate) fn fixed(
        id: ModelRef,
        endpoint: Arc<ConnectionPool>,
        resilience: Resilience,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let balancer = Balancer::one(endpoint, resilience.eject_time);
        Self { balancer, endpoints: None, ..Self::discovered(id, resilience, metrics) }
    }

    /// A model discovered by DNS, without endpoints so far.
    pub(crate) fn discovered(id: ModelRef, resilience: Resilience, metrics: &Arc<Metrics>) -> Self {
        Self {
            balancer: Balancer::none(resilience.eject_time),
            retry_budget: RetryBudget::new(resilience.retry_percent),
            hedge_delay: HedgeDelay::default(),
            concurrency: ConcurrencyLimit::default(),
            re_resolve: Arc::default(),
            metrics: metrics.clone(),
            series: metrics.series_of(&id, ""),
            endpoints: Some(metrics.endpoints(&id)),
            latest_revision: ArcSwapOption::empty(),
            revisions: Mutex::default(),
            last_used: AtomicU64::new(second(now())),
            id,
        }
    }

    /// Records a request for the model.
    pub(crate) fn touch(&self) {
        let now = second(now());
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    /// Whether the model had no request for `time`.
    pub(crate) fn is_idle(&self, time: Duration) -> bool {
        // A request may have read a later time than this thread.
        second(now()).saturating_sub(self.last_used.load(Ordering::Relaxed)) > time.as_secs()
    }

    /// Picks an endpoint that is not among those `tried`.
    pub(crate) fn pick(&self, tried: &[Arc<Endpoint>]) -> Option<InFlight> {
        self.balancer.pick(tried)
    }

    /// The revision described last, if any.
    pub(crate) fn latest_revision(&self) -> Option<Arc<Revision>> {
        self.latest_revision.load_full()
    }

    /// The series while no version is known.
    pub(crate) fn series(&self) -> &Series {
        &self.series
    }

    /// The error of a request that failed at `endpoint`.
    pub(crate) fn error_at(&self, endpoint: &Endpoint, error: UpstreamError) -> ApiError {
        let endpoint = Some(endpoint.pool.url().to_owned());
        ApiError::Upstream { model: self.id.clone(), endpoint, error }
    }

    /// The error if the model has no endpoint.
    pub(crate) fn not_ready_error(&self) -> ApiError {
        ApiError::Upstream { model: self.id.clone(), endpoint: None, error: UpstreamError::NoneReady }
    }

    /// The error if the model is overloaded.
    pub(crate) fn overloaded_error(&self) -> ApiError {
        ApiError::Upstream { model: self.id.clone(), endpoint: None, error: UpstreamError::Overloaded }
    }

    /// Records a failed call to `endpoint`.
    pub(crate) fn record_failure(&self, endpoint: &InFlight, error: &UpstreamError) {
        self.balancer.failed(endpoint, error);
        match error {
            UpstreamError::Unreachable { .. } | UpstreamError::NotReady(_) => self.re_resolve.notify_one(),
            UpstreamError::Overloaded => self.concurrency.record_overload(now()),
            UpstreamError::NoneReady
            | UpstreamError::OutOfSockets { .. }
            | UpstreamError::Failed(_)
            | UpstreamError::DeadlineExceeded { .. } => {}
        }
    }

    /// Records a prediction of `endpoint` as `revision`.
    pub(crate) fn record_prediction(
        &self,
        endpoint: &Endpoint,
        revision: &Arc<Revision>,
        rows: usize,
        took: Duration,
    ) {
        let now = now();
        endpoint.answered(revision, now);
        endpoint.record_latency(rows, took, now);
        self.hedge_delay.observe(rows, took);
        self.concurrency.record_response(now);
    }

    /// Records that `endpoint` has answered no request for `waited`.
    pub(crate) fn record_unresponsive(&self, endpoint: &InFlight, rows: usize, waited: Duration) {
        self.balancer.record_unresponsive(endpoint);
        self.hedge_delay.observe(rows, waited);
        self.re_resolve.notify_one();
        tracing::warn!(
            model = self.id.name.as_str(),
            namespace = self.id.namespace,
            endpoint = endpoint.pool.url(),
            rows,
            duration_ms = waited.as_secs_f64() * 1000.0,
            "a predictor does not respond",
        );
    }

    /// Records that `endpoint` has not answered this request for `waited`, though it answered others.
    pub(crate) fn record_slow(&self, endpoint: &InFlight, rows: usize, waited: Duration) {
        self.hedge_delay.observe(rows, waited);
        tracing::debug!(
            model = self.id.name.as_str(),
            namespace = self.id.namespace,
            endpoint = endpoint.pool.url(),
            rows,
            duration_ms = waited.as_secs_f64() * 1000.0,
            "a request is slow: it is sent to another predictor as well",
        );
    }

    /// The revision of `endpoint` by its last response, or else the one described last.
    pub(crate) fn revision_of(&self, endpoint: &Endpoint) -> Option<Arc<Revision>> {
        endpoint.revision().or_else(|| self.latest_revision())
    }

    /// Finds the revision with this header, which `endpoint` responded with.
    pub(crate) fn find_revision(&self, endpoint: &Endpoint, header: &HeaderValue) -> Option<Arc<Revision>> {
        let revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = revisions.iter().rev().find(|revision| revision.header == *header)?.clone();
        drop(revisions);
        endpoint.answered(&revision, now());
        Some(revision)
    }

    /// Calls `GET /model` of `endpoint`. Concurrent callers share the result.
    pub(crate) async fn describe_endpoint(
        &self,
        endpoint: &InFlight,
        span: &RequestSpan,
        deadline: Deadline,
    ) -> Result<Arc<Revision>, ApiError> {
        // Rare, so it is boxed to keep the future of every request small.
        let described = Box::pin(
            endpoint.describe_flight.share(deadline, self.fetch_description(endpoint, span, deadline)),
        )
        .await;
        described.map_err(|error| self.error_at(endpoint, error))
    }

    /// Describes the model as one of its endpoints serves it, with one retry on another endpoint.
    pub(crate) async fn describe(
        &self,
        span: &RequestSpan,
        deadline: Deadline,
    ) -> Result<Arc<Revision>, ApiError> {
        let endpoint = self.pick(&[]).ok_or_else(|| self.not_ready_error())?;
        match self.describe_endpoint(&endpoint, span, deadline).await {
            Err(error) if error.is_retryable() => match self.pick(&[endpoint.endpoint()]) {
                Some(other) => self.describe_endpoint(&other, span, deadline).await,
                None => Err(error),
            },
            told => told,
        }
    }

    async fn fetch_description(
        &self,
        endpoint: &InFlight,
        span: &RequestSpan,
        deadline: Deadline,
    ) -> DescribeResult {
        let started = Instant::now();
        let span = span.client(&Method::GET, "/model", endpoint.pool.url());
        let request = UpstreamRequest {
            method: Method::GET,
            path: "/model",
            body: Bytes::new(),
            trace: span.context(),
            response_max: DESCRIPTION_MAX,
        };
        let read = endpoint
            .pool
            .send(&request, deadline)
            .await
            .and_then(|response| self.parse_description(endpoint, &response));
        match &read {
            Ok(_) => span.finish(200, None),
            Err(error) => {
                self.record_failure(endpoint, error);
                span.finish(None, Some(error.code().as_str()));
            }
        }
        let revision = read?;
        let about = &revision.description;
        if tracing::enabled!(Level::INFO)
            && let Some(left_out) = LINES.admit()
        {
            tracing::info!(
                trace_id = %span.context(), model = self.id.name.as_str(), namespace = self.id.namespace,
                version = about.version, revision = about.revision, endpoint = endpoint.pool.url(),
                duration_ms = started.elapsed().as_secs_f64() * 1000.0, left_out, "described the model",
            );
        }
        Ok(revision)
    }

    /// Parses the description in `response`, and makes its revision the latest.
    fn parse_description(&self, endpoint: &Endpoint, response: &UpstreamResponse) -> DescribeResult {
        let url = endpoint.pool.url();
        match response.status {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE if response.is_overloaded => {
                return Err(UpstreamError::Overloaded);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                return Err(UpstreamError::NotReady(format!("{url}/model is not ready")));
            }
            other => return Err(UpstreamError::Failed(format!("{url}/model returned {other}"))),
        }
        let revision = Revision::parse(&response.body, &self.id, &self.metrics)
            .map_err(|why| UpstreamError::Failed(format!("invalid description from {url}: {why}")))?;
        let revision = self.intern(revision);
        endpoint.answered(&revision, now());
        self.latest_revision.store(Some(revision.clone()));
        self.update_endpoint_gauge();
        Ok(revision)
    }

    /// Stores `revision`, or returns the equal one that exists, which keeps its series.
    fn intern(&self, revision: Revision) -> Arc<Revision> {
        let mut revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        let same = revisions.iter().position(|before| before.description == revision.description);
        let revision = match same.and_then(|place| revisions.remove(place)) {
            Some(before) => before,
            None => Arc::new(revision),
        };
        // A different description of the same revision replaces it.
        revisions.retain(|before| before.header != revision.header);
        if revisions.len() == REVISIONS_MAX {
            revisions.pop_front();
        }
        revisions.push_back(revision.clone());
        revision
    }

    /// Updates the gauge of endpoints, for a model discovered by DNS.
    pub(crate) fn update_endpoint_gauge(&self) {
        if let Some(endpoints) = &self.endpoints {
            let revision = self.latest_revision();
            endpoints.set(
                revision.as_ref().map_or("", |revision| &revision.description.version),
                self.balancer.len(),
            );
        }
    }

    /// Removes the gauge of endpoints.
    pub(crate) fn clear_endpoint_gauge(&self) {
        if let Some(endpoints) = &self.endpoints {
            endpoints.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_idle_only_after_the_time_even_if_a_request_read_a_later_clock() {
        let metrics = Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap();
        let id = ModelRef::parse("iris", "shop").unwrap();
        let model = Model::discovered(id, Resilience::default(), &Arc::new(metrics));
        let now = second(now());
        model.last_used.store(now + 2, Ordering::Relaxed);
        assert!(!model.is_idle(Duration::ZERO));
        model.last_used.store(now - 1, Ordering::Relaxed);
        assert!(model.is_idle(Duration::ZERO) && !model.is_idle(Duration::from_mins(5)));
    }
}
