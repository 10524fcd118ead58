//! The metrics of the gateway. Clients cannot create labels: a request for an unknown model counts with empty labels.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use canopy_contract::code::Code;
use canopy_contract::names::ModelRef;
use canopy_runtime::metrics::exemplars::{Seconds, SecondsVec};
use canopy_runtime::metrics::{REQUEST_SECONDS, Registry};
use canopy_runtime::trace::TraceContext;
use prometheus::{Error, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use tokio::time::Instant;

use crate::versions::SeriesVersions;

/// The outcome of an attempt that was cancelled because another endpoint responded first or the client disconnected. It is not a
/// failure of the predictor, and no request ends with it.
const CANCELLED: &str = "cancelled";

/// The metrics of the gateway.
pub(crate) struct Metrics {
    families: Families,
    /// Requests in progress.
    in_flight: IntGauge,
    /// Endpoints in use, of models discovered by DNS.
    endpoints: IntGaugeVec,
    /// Predictions that were not recorded although they should have been.
    records_dropped: IntCounter,
    /// Rows with feedback, by result.
    feedback: IntCounterVec,
    /// The versions that have series of requests.
    request_versions: Mutex<SeriesVersions>,
    /// The versions that have series of feedback. Feedback may be about versions that are no longer served.
    feedback_versions: Mutex<SeriesVersions>,
}

/// The results of feedback.
const RESULTS: [&str; 2] = ["correct", "wrong"];
/// The results of requests.
const OUTCOMES: [&str; 2] = ["ok", "error"];

#[derive(Clone)]
struct Families {
    /// Requests, with empty labels if the model is unknown.
    requests: IntCounterVec,
    /// Seconds from the head of a request to its response.
    duration: SecondsVec,
    /// Attempts to predict, by outcome: `ok`, `cancelled` or the error code.
    upstream_requests: IntCounterVec,
    /// Seconds per attempt, whatever its outcome.
    upstream_duration: SecondsVec,
}

fn discovery_endpoints() -> Result<IntGaugeVec, Error> {
    IntGaugeVec::new(
        Opts::new(
            "canopy_gateway_discovery_endpoints",
            "Endpoints in use, of models that were discovered by DNS and used recently.",
        ),
        &["model", "model_namespace", "version"],
    )
}

fn feedback_rows() -> Result<IntCounterVec, Error> {
    IntCounterVec::new(
        Opts::new("canopy_feedback_total", "Rows with feedback, by whether the prediction was correct."),
        &["model", "model_namespace", "version", "result"],
    )
}

impl Metrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "canopy_gateway_requests_total",
                "Requests, with empty labels if the model is unknown.",
            ),
            &["model", "model_namespace", "version", "code", "reason"],
        )?;
        let duration = registry.seconds(
            (
                "canopy_gateway_request_duration_seconds",
                "Seconds from the head of a request to its response.",
            ),
            &REQUEST_SECONDS,
            &["model", "model_namespace", "version", "result"],
        )?;
        let upstream_requests = IntCounterVec::new(
            Opts::new(
                "canopy_gateway_upstream_requests_total",
                "Attempts to get predictions from a predictor, by outcome: ok, cancelled, or the word for what went \
                 wrong.",
            ),
            &["model", "model_namespace", "version", "outcome"],
        )?;
        let upstream_duration = registry.seconds(
            (
                "canopy_gateway_upstream_duration_seconds",
                "Seconds per attempt to get predictions from a predictor, whatever its outcome.",
            ),
            &REQUEST_SECONDS,
            &["model", "model_namespace", "version"],
        )?;
        let in_flight = IntGauge::new("canopy_gateway_requests_in_flight", "Requests in progress.")?;
        let endpoints = discovery_endpoints()?;
        let records_dropped = IntCounter::new(
            "canopy_gateway_records_dropped_total",
            "Predictions that were not recorded because the database did not keep up.",
        )?;
        let feedback = feedback_rows()?;
        registry.register(Box::new(records_dropped.clone()))?;
        registry.register(Box::new(feedback.clone()))?;
        registry.register(Box::new(endpoints.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(upstream_requests.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        let families = Families { requests, duration, upstream_requests, upstream_duration };
        let (request_versions, feedback_versions) = (Mutex::default(), Mutex::default());
        Ok(Self {
            families,
            in_flight,
            endpoints,
            records_dropped,
            feedback,
            request_versions,
            feedback_versions,
        })
    }

    /// Counts a request as in progress until the guard is dropped.
    pub(crate) fn request_started(&self) -> RequestInFlight {
        self.in_flight.inc();
        RequestInFlight(self.in_flight.clone())
    }

    /// The series of requests without a known model.
    pub(crate) fn series_without_model(&self) -> Series {
        self.series([String::new(), String::new(), String::new()])
    }

    /// The series of one version of a model; the version is empty while it is unknown.
    pub(crate) fn series_of(&self, model: &ModelRef, version: &str) -> Series {
        let evicted = lock(&self.request_versions).touch(model, version);
        if let Some(version) = evicted {
            self.families.remove(model, &version);
        }
        self.series([model.name.as_str().to_owned(), model.namespace.clone(), version.to_owned()])
    }

    /// The counter of predictions that were not recorded.
    pub(crate) fn records_dropped(&self) -> IntCounter {
        self.records_dropped.clone()
    }

    /// Counts feedback. Creates both series, so that their ratio can be computed from the first feedback on.
    pub(crate) fn count_feedback(&self, model: &ModelRef, version: &str, correct: u64, wrong: u64) {
        let evicted = lock(&self.feedback_versions).touch(model, version);
        if let Some(version) = evicted {
            self.remove_feedback(model, &version);
        }
        for (result, rows) in RESULTS.into_iter().zip([correct, wrong]) {
            let labels = [model.name.as_str(), &model.namespace, version, result];
            self.feedback.with_label_values(&labels).inc_by(rows);
        }
    }

    /// Every model that has series.
    pub(crate) fn models(&self) -> Vec<ModelRef> {
        let mut models = lock(&self.request_versions).models();
        models.extend(lock(&self.feedback_versions).models());
        models.sort_unstable();
        models.dedup();
        models
    }

    /// Records that `model` exists.
    pub(crate) fn mark_present(&self, model: &ModelRef) {
        lock(&self.request_versions).mark_present(model);
        lock(&self.feedback_versions).mark_present(model);
    }

    /// Records that `model` is unknown at `now`, and removes its series when it has been unknown for `keep`.
    pub(crate) fn mark_absent(&self, model: &ModelRef, now: Instant, keep: Duration) {
        let gone = lock(&self.request_versions).mark_absent(model, now, keep);
        for version in gone.into_iter().flatten() {
            self.families.remove(model, &version);
        }
        let gone = lock(&self.feedback_versions).mark_absent(model, now, keep);
        for version in gone.into_iter().flatten() {
            self.remove_feedback(model, &version);
        }
    }

    fn remove_feedback(&self, model: &ModelRef, version: &str) {
        for result in RESULTS {
            // Fails only if the series does not exist.
            let _ =
                self.feedback.remove_label_values(&[model.name.as_str(), &model.namespace, version, result]);
        }
    }

    /// The gauge of endpoints of `model`.
    pub(crate) fn endpoints(&self, model: &ModelRef) -> EndpointGauge {
        let model = [model.name.as_str().to_owned(), model.namespace.clone()];
        EndpointGauge { family: self.endpoints.clone(), model, version: Mutex::new(None) }
    }

    fn series(&self, labels: [String; 3]) -> Series {
        Series {
            families: self.families.clone(),
            labels,
            requests: [const { OnceLock::new() }; _],
            duration: [const { OnceLock::new() }; _],
            upstream_requests: [const { OnceLock::new() }; _],
            cancelled: OnceLock::new(),
            upstream_duration: OnceLock::new(),
        }
    }
}

impl Families {
    /// Removes every series of one version of `model`. Removing a series that does not exist fails without effect.
    fn remove(&self, model: &ModelRef, version: &str) {
        let (name, namespace) = (model.name.as_str(), model.namespace.as_str());
        for code in Code::ALL {
            let status = code.status().to_string();
            let _ = self.requests.remove_label_values(&[name, namespace, version, &status, code.as_str()]);
            let _ = self.upstream_requests.remove_label_values(&[name, namespace, version, code.as_str()]);
        }
        for result in OUTCOMES {
            self.duration.remove_label_values(&[name, namespace, version, result]);
        }
        self.upstream_duration.remove_label_values(&[name, namespace, version]);
    }
}

fn lock(versions: &Mutex<SeriesVersions>) -> MutexGuard<'_, SeriesVersions> {
    versions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request in progress.
pub(crate) struct RequestInFlight(IntGauge);

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The number of endpoints of a model, as one series with the version that they serve.
pub(crate) struct EndpointGauge {
    family: IntGaugeVec,
    model: [String; 2],
    /// The version of the current series.
    version: Mutex<Option<String>>,
}

impl EndpointGauge {
    /// Sets the number of endpoints that serve `version`.
    pub(crate) fn set(&self, version: &str, count: usize) {
        let mut before = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        if before.as_deref() != Some(version) {
            self.remove(before.replace(version.to_owned()));
        }
        let [model, namespace] = &self.model;
        self.family
            .with_label_values(&[model.as_str(), namespace, version])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Removes the series.
    pub(crate) fn clear(&self) {
        self.remove(self.version.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn remove(&self, version: Option<String>) {
        let [model, namespace] = &self.model;
        if let Some(version) = version {
            // Fails only if the series does not exist.
            let _ = self.family.remove_label_values(&[model.as_str(), namespace, &version]);
        }
    }
}

/// The series of one version of a model. Each is looked up once, when it is first used: a look-up is expensive, and unused series
/// do not appear.
pub(crate) struct Series {
    families: Families,
    labels: [String; 3],
    requests: [OnceLock<IntCounter>; Code::ALL.len()],
    duration: [OnceLock<Seconds>; 2],
    upstream_requests: [OnceLock<IntCounter>; Code::ALL.len()],
    /// Cancelled attempts.
    cancelled: OnceLock<IntCounter>,
    upstream_duration: OnceLock<Seconds>,
}

impl Series {
    /// Records a request and its duration.
    pub(crate) fn record_request(&self, code: Code, took: Duration, trace: &TraceContext) {
        let [model, namespace, version] = &self.labels;
        let requests = self.requests[code as usize].get_or_init(|| {
            let status = code.status().to_string();
            let labels = [model, namespace, version, status.as_str(), code.as_str()];
            self.families.requests.with_label_values(&labels)
        });
        let index = usize::from(!code.is_success());
        let result = OUTCOMES[index];
        let duration = self.duration[index].get_or_init(|| {
            self.families.duration.with_label_values(&[model.as_str(), namespace, version, result])
        });
        requests.inc();
        duration.observe(took, trace);
    }

    /// Records an attempt to predict; `None` if it was cancelled.
    pub(crate) fn record_attempt(&self, outcome: Option<Code>, took: Duration, trace: &TraceContext) {
        let [model, namespace, version] = &self.labels;
        let (counter, word) = match outcome {
            Some(code) => (&self.upstream_requests[code as usize], code.as_str()),
            None => (&self.cancelled, CANCELLED),
        };
        let requests = counter.get_or_init(|| {
            let labels = [model, namespace, version, word];
            self.families.upstream_requests.with_label_values(&labels)
        });
        let duration = self
            .upstream_duration
            .get_or_init(|| self.families.upstream_duration.with_label_values(&[model, namespace, version]));
        requests.inc();
        duration.observe(took, trace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoints_of_a_model_are_reported_under_one_version_at_a_time() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let endpoints = metrics.endpoints(&ModelRef::parse("iris.shop", "default").unwrap());
        let reported = || {
            let text = canopy_runtime::metrics::encode(&registry).unwrap();
            let lines =
                text.lines().filter_map(|line| line.strip_prefix("canopy_gateway_discovery_endpoints"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let series = |version, count| {
            vec![format!(r#"{{model="iris",model_namespace="shop",version="{version}"}} {count}"#)]
        };
        assert!(reported().is_empty());
        endpoints.set("", 2);
        assert_eq!(reported(), series("", 2));
        endpoints.set("1.0", 2);
        endpoints.set("1.0", 0);
        assert_eq!(reported(), series("1.0", 0));
        endpoints.clear();
        endpoints.clear();
        assert!(reported().is_empty());
    }

    #[test]
    fn a_series_appears_with_its_first_event() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let series = metrics.series_of(&ModelRef::parse("iris.shop", "default").unwrap(), "1.0");
        let text = || canopy_runtime::metrics::encode(&registry).unwrap();
        assert!(!text().contains("iris"), "{}", text());

        let guard = metrics.request_started();
        assert!(text().contains("canopy_gateway_requests_in_flight 1\n"), "{}", text());
        drop(guard);
        let (took, trace) = (Duration::from_millis(1), TraceContext::from_headers(&http::HeaderMap::new()));
        series.record_request(Code::Ok, took, &trace);
        series.record_request(Code::NotReady, took, &trace);
        series.record_attempt(Some(Code::PredictorFailed), took, &trace);
        series.record_attempt(None, took, &trace);
        metrics.series_without_model().record_request(Code::UnknownModel, Duration::ZERO, &trace);
        let labels = r#"model="iris",model_namespace="shop""#;
        for line in [
            format!(r#"canopy_gateway_requests_total{{code="200",{labels},reason="ok",version="1.0"}} 1"#),
            format!(r#"canopy_gateway_requests_total{{code="503",{labels},reason="not_ready",version="1.0"}} 1"#),
            format!(r#"canopy_gateway_request_duration_seconds_count{{{labels},result="error",version="1.0"}} 1"#),
            format!(r#"canopy_gateway_upstream_requests_total{{{labels},outcome="predictor_failed",version="1.0"}} 1"#),
            format!(r#"canopy_gateway_upstream_requests_total{{{labels},outcome="cancelled",version="1.0"}} 1"#),
            format!(r#"canopy_gateway_upstream_duration_seconds_count{{{labels},version="1.0"}} 2"#),
            r#"canopy_gateway_requests_total{code="404",model="",model_namespace="",reason="unknown_model",version=""} 1"#.to_owned(),
            "canopy_gateway_requests_in_flight 0".to_owned(),
        ] {
            assert!(text().contains(&format!("{line}\n")), "{line} is missing in {}", text());
        }
    }
}
