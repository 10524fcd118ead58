//! What the tests share: a model that is a function, and a client without a socket.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use canopy_contract::describe::{Metric, ModelDescription, Quality, Task};
use canopy_contract::predict::RowAnswer;
use canopy_contract::report::Refusal;
use canopy_contract::rows::Rows;
use canopy_contract::schema::{Class, Feature};
use canopy_contract::serving::ServingConfig;
use canopy_forest::data::samples::Samples;
use canopy_predictor::baseline::reference::Reference;
use canopy_predictor::engine::head;
use canopy_predictor::metrics::{Loaded, Metrics};
use canopy_predictor::serving::app::{App, Identity, Limits};
use canopy_predictor::serving::routes;
use canopy_predictor::serving::served_model::{Model, ServedModel};
use canopy_runtime::metrics::Registry;
use canopy_runtime::metrics::encode;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// Nothing that a test waits for takes longer, unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Predicted = Result<Vec<head::Answer>, Box<dyn Error + Send + Sync>>;

/// A model that is a function.
pub(crate) struct Told<F>(pub(crate) F);

impl<F: Fn(&Rows) -> Predicted + Send + Sync> Model for Told<F> {
    fn predict(&self, rows: &Rows) -> Predicted {
        (self.0)(rows)
    }

    fn predict_probabilities(
        &self,
        rows: &Rows,
    ) -> Result<(Vec<head::Answer>, Vec<f64>), Box<dyn Error + Send + Sync>> {
        let answers = (self.0)(rows)?;
        let sure = answers.iter().map(|answer| answer.confidence().unwrap_or_default());
        let probabilities = sure.flat_map(|sure| [1.0 - sure, sure]).collect();
        Ok((answers, probabilities))
    }

    fn cost(&self, rows: usize) -> Duration {
        Duration::from_micros(10) * u32::try_from(rows).unwrap()
    }
}

/// Class 1 where the values add up to more than 0, as sure as they are large.
#[expect(clippy::unnecessary_wraps, reason = "a model may fail, though this one does not")]
pub(crate) fn sum(rows: &Rows) -> Predicted {
    let answer = |row: &[f64]| {
        let sum: f64 = row.iter().sum();
        head::Answer::Class(RowAnswer {
            prediction: u32::from(sum > 0.0),
            confidence: sum.abs().min(100.0) / 100.0,
        })
    };
    Ok(rows.iter().map(answer).collect())
}

pub(crate) fn identity() -> Identity {
    Identity {
        model: "demo".parse().unwrap(),
        namespace: "default".to_owned(),
        version: "1.0".to_owned(),
        revision: "6f3a9c1e".to_owned(),
    }
}

pub(crate) const LIMITS: Limits = Limits {
    body_bytes: 1 << 20,
    body_timeout: Duration::from_secs(5),
    body_memory: None,
    connections: None,
};

/// One model's port without a socket.
pub(crate) struct Port {
    pub(crate) app: App,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Registry,
    pub(crate) router: Router,
}

impl Port {
    /// A port whose model is still to come.
    pub(crate) fn empty(limits: Limits) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let app = App::new(identity(), limits, &metrics).unwrap();
        let router = routes::router(app.clone());
        Self { app, metrics, registry, router }
    }

    /// A port whose model serves.
    pub(crate) fn serving(predict: impl Fn(&Rows) -> Predicted + Send + Sync + 'static) -> Self {
        let port = Self::empty(LIMITS);
        port.app.loaded(port.engine(predict));
        port.app.proven();
        port
    }

    /// A model of two features, `age` from 0 to 150 and `income`.
    pub(crate) fn engine(&self, predict: impl Fn(&Rows) -> Predicted + Send + Sync + 'static) -> ServedModel {
        let age = Feature { min: Some(0.0), max: Some(150.0), ..Feature::named("age") };
        self.model(Box::new(Told(predict)), vec![age, Feature::named("income")])
    }

    /// A model of two classes.
    pub(crate) fn model(&self, engine: Box<dyn Model>, features: Vec<Feature>) -> ServedModel {
        let Identity { model, namespace, version, revision } = identity();
        let description = ModelDescription {
            model,
            namespace,
            version,
            revision,
            task: Task::Classification,
            features,
            classes: vec![Class::Name("no".to_owned()), Class::Name("yes".to_owned())],
            outputs: Vec::new(),
            quality: Some(Quality { metric: Metric::Accuracy, value: 0.9, samples: 10 }),
            digest: "00".to_owned(),
        };
        let train = Samples::from_csv(b"age,income,class\n1,2,no\n3,4,yes\n", "class").unwrap();
        let reference = Reference::learn(&train, &[0, 1], vec![1, 1]);
        let loaded = Loaded {
            features: &description.features,
            classes: &description.classes,
            reference: (description.features.len() == 2).then_some(&reference),
            accuracy: Some(0.9),
            bytes: 10,
            took: Duration::ZERO,
        };
        let metrics = self.metrics.loaded(identity().labels(), &loaded);
        ServedModel::new(engine, description, metrics)
    }

    /// The model will not serve.
    pub(crate) fn refuse(&self, code: &str, message: &str) {
        self.app.refused(&Refusal { code: code.to_owned(), message: message.to_owned() });
    }

    pub(crate) async fn post(&self, body: impl Into<Body>) -> Answer {
        self.send(Request::post("/predict").body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// The value of the only series that begins like this.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let text = encode(&self.registry).unwrap();
        let is = |line: &&str| {
            line.starts_with(&format!("{name}{{"))
                && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
        };
        let mut found = text.lines().filter(is);
        let line = found.next().unwrap_or_else(|| panic!("no {name} with {labels:?} in {text}"));
        assert_eq!(found.next(), None, "more than one {name} with {labels:?}");
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Self { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8(body).unwrap() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A config of 200 made-up rows and 20 trees.
pub(crate) fn synthetic() -> ServingConfig {
    config(&[])
}

/// The same with changes, one after the other: members are replaced, `null` takes one away.
pub(crate) fn config(changes: &[&Value]) -> ServingConfig {
    let mut config = json!({
        "model": "demo", "namespace": "default", "version": "1.0", "revision": "6f3a9c1e",
        "train": {
            "data": {"synthetic": {"samples": 200, "features": 4, "seed": 42}},
            "algorithm": {"randomForest": {
                "trees": 20, "minSamplesLeaf": 1, "maxFeatures": "Sqrt", "bootstrap": true, "seed": 7,
            }},
            "standardize": true,
            "testPercent": 20,
            "gate": {"metric": "Accuracy", "min": 0.8},
        },
        "features": [{"name": "x0"}, {"name": "x1", "min": -10.0}, {"name": "x2", "max": 10.0}, {"name": "x3"}],
        "classes": [],
    });
    for change in changes {
        merge(&mut config, change);
    }
    serde_json::from_value(config).unwrap()
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            // Of these two exactly one is there, so one replaces the other.
            if change.contains_key("csv") {
                into.remove("synthetic");
            }
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}
