//! Everything the predictor measures: the only file that names its metrics.
//!
//! Comes in: what happened. Goes out: counters and histograms in a registry. Never: a label that a caller can
//! choose; labels are the model, its classes, and words of closed lists.

use std::time::Duration;

use canopy_contract::code::Code;
use canopy_contract::schema::Class;
use canopy_runtime::exemplars::{Seconds, SecondsVec};
use canopy_runtime::metrics::{COMPUTE_SECONDS, Registry};
use canopy_runtime::trace::TraceContext;
use prometheus::core::Collector;
use prometheus::{
    Error, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
};

use crate::failure::ENDINGS;

/// The labels of one model, in this order: its name, its namespace, its version.
pub type ModelLabels<'a> = [&'a str; 3];

const MODEL: [&str; 3] = ["model", "model_namespace", "version"];
/// Classes from here on share one series.
const CLASSES_MAX: usize = 50;
const ROWS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16_384.0];

/// The predictor's metrics, shared by every model of a process.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests for a prediction, and requests that no route takes, by how they ended.
    requests: IntCounterVec,
    /// The model's own work for one request.
    prediction_seconds: SecondsVec,
    /// Rows answered, by the class they were given.
    predictions: IntCounterVec,
    /// Rows in one request.
    batch_rows: HistogramVec,
    /// Quality on the rows held out when the model was prepared.
    accuracy: GaugeVec,
    /// The artifact's size.
    bytes: IntGaugeVec,
    /// From the first byte of the artifact read to a model that can answer.
    load_seconds: GaugeVec,
}

impl Metrics {
    /// Adds the predictor's metrics to a registry.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let with = |more: &[&'static str]| [&MODEL[..], more].concat();
        let requests = opts(
            "canopy_predictor_requests_total",
            "Requests for a prediction and requests that no route takes, by HTTP status and reason.",
        );
        let prediction_seconds = (
            "canopy_predictor_prediction_duration_seconds",
            "Seconds the model itself worked for one request.",
        );
        let predictions = opts(
            "canopy_predictor_predictions_total",
            "Rows answered, by predicted class; classes beyond the first 50 are 'other'.",
        );
        let batch_rows = HistogramOpts::new("canopy_predictor_batch_rows", "Rows in one request.");
        let accuracy = opts(
            "canopy_model_accuracy_ratio",
            "Share of the rows held out from training that the model classified as they are.",
        );
        let bytes = opts("canopy_model_bytes", "Size of the model's artifact.");
        let load_seconds = opts(
            "canopy_model_load_duration_seconds",
            "Seconds from reading the artifact to a model that can answer.",
        );
        Ok(Self {
            requests: add(registry, IntCounterVec::new(requests, &with(&["code", "reason"]))?)?,
            prediction_seconds: registry.seconds(prediction_seconds, &COMPUTE_SECONDS, &MODEL)?,
            predictions: add(registry, IntCounterVec::new(predictions, &with(&["class"]))?)?,
            batch_rows: add(registry, HistogramVec::new(batch_rows.buckets(ROWS.to_vec()), &MODEL)?)?,
            accuracy: add(registry, GaugeVec::new(accuracy, &MODEL)?)?,
            bytes: add(registry, IntGaugeVec::new(bytes, &MODEL)?)?,
            load_seconds: add(registry, GaugeVec::new(load_seconds, &MODEL)?)?,
        })
    }

    /// The request counters of one model, looked up once.
    pub fn requests(&self, model: ModelLabels<'_>) -> RequestMetrics {
        let [name, namespace, version] = model;
        RequestMetrics(ENDINGS.map(|(status, code)| {
            self.requests.with_label_values(&[name, namespace, version, &status.to_string(), code.as_str()])
        }))
    }

    /// A model was loaded: its figures, and what counts its predictions, looked up once.
    pub fn loaded(&self, model: ModelLabels<'_>, loaded: &Loaded<'_>) -> PredictionMetrics {
        let Loaded { classes, accuracy, bytes, took } = *loaded;
        self.accuracy.with_label_values(&model).set(accuracy);
        self.bytes.with_label_values(&model).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.load_seconds.with_label_values(&model).set(took.as_secs_f64());
        let [name, namespace, version] = model;
        let count = |class: &str| self.predictions.with_label_values(&[name, namespace, version, class]);
        let class = |(index, class): (usize, &Class)| match class {
            _ if index >= CLASSES_MAX => count("other"),
            Class::Name(name) => count(name),
            Class::Index(index) => count(&index.to_string()),
        };
        PredictionMetrics {
            classes: classes.iter().enumerate().map(class).collect(),
            seconds: self.prediction_seconds.with_label_values(&model),
            rows: self.batch_rows.with_label_values(&model),
        }
    }
}

/// What is measured of a model when it has been loaded.
#[derive(Clone, Copy, Debug)]
pub struct Loaded<'a> {
    /// Its classes, in the order of their indices.
    pub classes: &'a [Class],
    /// Its accuracy on the rows held out.
    pub accuracy: f64,
    /// The size of its artifact.
    pub bytes: usize,
    /// How long it took.
    pub took: Duration,
}

/// Counts how the requests for one model end.
#[derive(Clone, Debug)]
pub struct RequestMetrics([IntCounter; ENDINGS.len()]);

impl RequestMetrics {
    /// A request has ended.
    pub fn finished(&self, ending: (u16, Code)) {
        if let Some(index) = ENDINGS.iter().position(|known| *known == ending) {
            self.0[index].inc();
        }
    }
}

/// Counts the predictions of one model.
#[derive(Clone, Debug)]
pub struct PredictionMetrics {
    classes: Box<[IntCounter]>,
    seconds: Seconds,
    rows: Histogram,
}

impl PredictionMetrics {
    /// A request's rows were given these classes, in so much time.
    pub fn predicted(
        &self,
        classes: impl ExactSizeIterator<Item = u32>,
        took: Duration,
        trace: &TraceContext,
    ) {
        self.seconds.observe(took, trace);
        self.rows.observe(classes.len() as f64);
        for class in classes {
            if let Some(counter) = self.classes.get(class as usize) {
                counter.inc();
            }
        }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help)
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_runtime::metrics::encode;

    const DEMO: ModelLabels<'_> = ["demo", "default", "1.0"];

    #[test]
    fn every_ending_of_a_request_has_a_series_from_the_start() {
        let registry = Registry::new();
        let requests = Metrics::register(&registry).unwrap().requests(DEMO);
        let line = |code, reason, value| {
            format!(
                "canopy_predictor_requests_total{{code=\"{code}\",model=\"demo\",model_namespace=\"default\",reason=\"{reason}\",version=\"1.0\"}} {value}\n"
            )
        };
        requests.finished((200, Code::Ok));
        let text = encode(&registry).unwrap();
        for (status, code) in ENDINGS {
            assert!(text.contains(&line(status, code.as_str(), u8::from(code == Code::Ok))), "{text}");
        }
    }

    #[test]
    fn classes_beyond_the_first_fifty_share_one_series() {
        let registry = Registry::new();
        let classes: Vec<_> = (0..60).map(|i| Class::Name(format!("c{i}"))).collect();
        let loaded =
            Loaded { classes: &classes, accuracy: 0.75, bytes: 10, took: Duration::from_millis(500) };
        let predictions = Metrics::register(&registry).unwrap().loaded(DEMO, &loaded);
        let trace = TraceContext::from_headers(&http::HeaderMap::new());
        predictions.predicted([0, 49, 50, 59].into_iter(), Duration::from_micros(3), &trace);

        let text = encode(&registry).unwrap();
        let labels = "model=\"demo\",model_namespace=\"default\",version=\"1.0\"";
        for (class, value) in [("c0", 1), ("c1", 0), ("c49", 1), ("other", 2)] {
            let line = format!("canopy_predictor_predictions_total{{class=\"{class}\",{labels}}} {value}\n");
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
        assert!(!text.contains("c50"));
        for line in [
            format!("canopy_predictor_batch_rows_sum{{{labels}}} 4\n"),
            format!("canopy_predictor_prediction_duration_seconds_count{{{labels}}} 1\n"),
            format!("canopy_model_accuracy_ratio{{{labels}}} 0.75\n"),
            format!("canopy_model_bytes{{{labels}}} 10\n"),
            format!("canopy_model_load_duration_seconds{{{labels}}} 0.5\n"),
        ] {
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
    }
}
