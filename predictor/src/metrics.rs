//! The predictor's metrics. Only this module names them.
//!
//! Invariant: label values are the model, its classes and words of closed lists, never text that a client chooses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use canopy_contract::code::Code;
use canopy_contract::rows::Rows;
use canopy_contract::schema::{Class, Feature};
use canopy_runtime::metrics::exemplars::{Seconds, SecondsVec};
use canopy_runtime::metrics::{COMPUTE_SECONDS, Registry};
use canopy_runtime::trace::TraceContext;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Error, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
};

use crate::baseline::drift::{Drift, Shift};
use crate::baseline::reference::Reference;
use crate::engine::head::Answer;
use crate::error::ENDINGS;

/// The labels of one model: name, namespace and version.
pub type ModelLabels<'a> = [&'a str; 3];

const MODEL: [&str; 3] = ["model", "model_namespace", "version"];
/// Number of classes with a series each; further classes share one series.
const CLASSES_MAX: usize = 50;
const ROWS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16_384.0];

/// The predictor's metrics, which all models of a process share.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests for predictions and requests to unknown routes, by status and code.
    requests: IntCounterVec,
    /// Time of inference for one request.
    prediction_seconds: SecondsVec,
    /// Predicted rows, by class.
    predictions: IntCounterVec,
    /// Rows per request.
    batch_rows: HistogramVec,
    /// Accuracy on the hold-out rows.
    accuracy: GaugeVec,
    /// Size of the artifact.
    bytes: IntGaugeVec,
    /// Time from reading the artifact to a model that can predict.
    load_seconds: GaugeVec,
    /// Drift of live rows from training rows.
    drifts: Drifts,
}

impl Metrics {
    /// Adds the predictor's metrics to a registry.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let with = |more: &[&'static str]| [&MODEL[..], more].concat();
        let requests = opts(
            "canopy_predictor_requests_total",
            "Requests for predictions and requests to unknown routes, by HTTP status and reason.",
        );
        let prediction_seconds =
            ("canopy_predictor_prediction_duration_seconds", "Seconds of inference for one request.");
        let predictions = opts(
            "canopy_predictor_predictions_total",
            "Predicted rows, by class; classes beyond the first 50 are 'other'.",
        );
        let batch_rows = HistogramOpts::new("canopy_predictor_batch_rows", "Rows per request.");
        let accuracy =
            opts("canopy_model_accuracy_ratio", "Accuracy on the hold-out rows, as a ratio from 0 to 1.");
        let bytes = opts("canopy_model_bytes", "Size of the model's artifact in bytes.");
        let load_seconds = opts(
            "canopy_model_load_duration_seconds",
            "Seconds from reading the artifact to a model that can predict.",
        );
        Ok(Self {
            registry: registry.clone(),
            requests: add(registry, IntCounterVec::new(requests, &with(&["code", "reason"]))?)?,
            prediction_seconds: registry.seconds(prediction_seconds, &COMPUTE_SECONDS, &MODEL)?,
            predictions: add(registry, IntCounterVec::new(predictions, &with(&["class"]))?)?,
            batch_rows: add(registry, HistogramVec::new(batch_rows.buckets(ROWS.to_vec()), &MODEL)?)?,
            accuracy: add(registry, GaugeVec::new(accuracy, &MODEL)?)?,
            bytes: add(registry, IntGaugeVec::new(bytes, &MODEL)?)?,
            load_seconds: add(registry, GaugeVec::new(load_seconds, &MODEL)?)?,
            drifts: add(registry, Drifts::new(&with)?)?,
        })
    }

    /// The registry of these metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The request counters of one model, looked up once.
    pub fn requests(&self, model: ModelLabels<'_>) -> RequestMetrics {
        let [name, namespace, version] = model;
        RequestMetrics(ENDINGS.map(|(status, code)| {
            self.requests.with_label_values(&[name, namespace, version, &status.to_string(), code.as_str()])
        }))
    }

    /// Sets the metrics of a loaded model; returns those of its predictions, looked up once.
    pub fn loaded(&self, model: ModelLabels<'_>, loaded: &Loaded<'_>) -> PredictionMetrics {
        let Loaded { features, classes, reference, accuracy, bytes, took } = *loaded;
        if let Some(accuracy) = accuracy {
            self.accuracy.with_label_values(&model).set(accuracy);
        }
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
            drift: reference.map(|reference| self.drifts.watch(model, features, reference)),
        }
    }
}

/// Measurements of a loaded model.
#[derive(Clone, Copy, Debug)]
pub struct Loaded<'a> {
    /// Its features, in order.
    pub features: &'a [Feature],
    /// Its classes, in the order of their indices.
    pub classes: &'a [Class],
    /// The distribution of its training rows; absent if it was trained elsewhere.
    pub reference: Option<&'a Reference>,
    /// Its accuracy on the hold-out rows; absent if it was not evaluated, or has values.
    pub accuracy: Option<f64>,
    /// The size of its artifact.
    pub bytes: usize,
    /// The time of loading.
    pub took: Duration,
}

/// Counts the requests for one model by result.
#[derive(Clone, Debug)]
pub struct RequestMetrics([IntCounter; ENDINGS.len()]);

impl RequestMetrics {
    /// Counts a request that has ended.
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
    drift: Option<Arc<Drift>>,
}

impl PredictionMetrics {
    /// Counts the predictions of one request, whose inference began at `began`.
    pub fn predicted(&self, rows: &Rows, answers: &[Answer], began: Instant, trace: &TraceContext) {
        let now = Instant::now();
        self.seconds.observe(now.saturating_duration_since(began), trace);
        self.rows.observe(answers.len() as f64);
        let classes = answers.iter().filter_map(Answer::class);
        if let Some(drift) = &self.drift {
            drift.count(rows, classes.clone(), now);
        }
        for class in classes {
            if let Some(counter) = self.classes.get(class as usize) {
                counter.inc();
            }
        }
    }
}

/// The drift of each model, computed at a scrape. A window with too few rows has no series.
#[derive(Clone, Debug)]
struct Drifts {
    models: Arc<Mutex<Vec<Watched>>>,
    features: GaugeVec,
    classes: GaugeVec,
}

#[derive(Debug)]
struct Watched {
    model: [String; MODEL.len()],
    features: Vec<String>,
    drift: Arc<Drift>,
}

impl Drifts {
    fn new(with: &dyn Fn(&[&'static str]) -> Vec<&'static str>) -> Result<Self, Error> {
        let features = opts(
            "canopy_predictor_feature_psi",
            "Population stability index of a feature, live rows against training rows; the first 50 features.",
        );
        let classes = opts(
            "canopy_predictor_class_psi",
            "Population stability index of predicted classes, live rows against hold-out rows.",
        );
        Ok(Self {
            models: Arc::default(),
            features: GaugeVec::new(features, &with(&["feature", "window"]))?,
            classes: GaugeVec::new(classes, &with(&["window"]))?,
        })
    }

    /// Adds the drift of a model.
    fn watch(&self, model: ModelLabels<'_>, features: &[Feature], reference: &Reference) -> Arc<Drift> {
        let drift = Arc::new(Drift::new(reference.clone(), Instant::now()));
        let features = features.iter().map(|feature| feature.name.clone()).collect();
        let watched = Watched { model: model.map(str::to_owned), features, drift: drift.clone() };
        self.models.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
        drift
    }
}

impl Collector for Drifts {
    fn desc(&self) -> Vec<&Desc> {
        [self.features.desc(), self.classes.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Instant::now();
        // Locked until the end, because concurrent scrapes share these gauges.
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        self.features.reset();
        self.classes.reset();
        for Watched { model: [name, namespace, version], features, drift } in models.iter() {
            for Shift { window, features: shifts, classes } in drift.shifts(now) {
                for (feature, shift) in features.iter().zip(shifts) {
                    let labels = [name, namespace, version, feature, window];
                    self.features.with_label_values(&labels).set(shift);
                }
                if let Some(shift) = classes {
                    self.classes.with_label_values(&[name, namespace, version, window]).set(shift);
                }
            }
        }
        [self.features.collect(), self.classes.collect()].concat()
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
    use canopy_contract::predict::RowAnswer;
    use canopy_forest::data::samples::Samples;
    use canopy_runtime::metrics::encode;

    const DEMO: ModelLabels<'_> = ["demo", "default", "1.0"];

    #[test]
    fn every_result_of_a_request_has_a_series_from_the_start() {
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

    /// The metrics of a model with this number of classes, whose 200 training rows had the values 1 to 200.
    fn of_classes(registry: &Registry, classes: usize, features: &[&str]) -> PredictionMetrics {
        let row = |row: usize| format!("{}{}\n", format!("{row},").repeat(features.len()), row % 2);
        let rows: String = (1..=200).map(row).collect();
        let csv = format!("{},class\n{rows}", features.join(","));
        let train = Samples::from_csv(csv.as_bytes(), "class").unwrap();
        let columns: Vec<_> = (0..features.len()).collect();
        let loaded = Loaded {
            features: &features.iter().map(|name| Feature::named(*name)).collect::<Vec<_>>(),
            classes: &(0..classes).map(|i| Class::Name(format!("c{i}"))).collect::<Vec<_>>(),
            reference: Some(&Reference::learn(&train, &columns, vec![10; classes])),
            accuracy: Some(0.75),
            bytes: 10,
            took: Duration::from_millis(500),
        };
        Metrics::register(registry).unwrap().loaded(DEMO, &loaded)
    }

    fn answer(prediction: u32) -> Answer {
        Answer::Class(RowAnswer { prediction, confidence: 1.0 })
    }

    #[test]
    fn drift_has_series_for_enough_rows_and_the_first_fifty_features() {
        let registry = Registry::new();
        let names: Vec<_> = (0..60).map(|i| format!("f{i}")).collect();
        let predictions = of_classes(&registry, 2, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let trace = TraceContext::from_headers(&http::HeaderMap::new());
        let send = |rows: usize| {
            let instances = (0..rows).map(|row| vec![(row % 200 + 1) as f64; 60]);
            let answers: Vec<_> = (0..rows).map(|row| answer(row as u32 % 2)).collect();
            predictions.predicted(&Rows::instances(instances), &answers, Instant::now(), &trace);
        };
        send(400);
        assert!(!encode(&registry).unwrap().contains("psi"));
        send(200);
        let text = encode(&registry).unwrap();
        let labels = "model=\"demo\",model_namespace=\"default\",version=\"1.0\"";
        for window in ["1h", "24h"] {
            let line = format!("canopy_predictor_class_psi{{{labels},window=\"{window}\"}} 0\n");
            assert!(text.contains(&line), "{line} is missing in {text}");
            for (feature, is_there) in [("f0", true), ("f49", true), ("f50", false), ("f59", false)] {
                let series = format!(
                    "canopy_predictor_feature_psi{{feature=\"{feature}\",{labels},window=\"{window}\"}} "
                );
                assert_eq!(text.contains(&series), is_there, "{series} in {text}");
            }
        }
        assert_eq!(text.matches("\ncanopy_predictor_feature_psi{").count(), 100);
    }

    #[test]
    fn classes_beyond_the_first_fifty_share_one_series() {
        let registry = Registry::new();
        let predictions = of_classes(&registry, 60, &["x"]);
        let rows = Rows::instances([[1.0]; 4]);
        let trace = TraceContext::from_headers(&http::HeaderMap::new());
        predictions.predicted(&rows, &[0, 49, 50, 59].map(answer), Instant::now(), &trace);

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
