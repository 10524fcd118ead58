//! A model in a test's namespace: its manifest, its status, its pods and its predictions.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::http::Reply;
use canopy_tests::namespace::Namespace;
use canopy_tests::wait::{SOON, until};
use serde_json::{Value, json};

/// The longest time for a model to reach a state while other tests run.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(2);

/// The label in a selector that decides which revision serves.
pub(crate) const REVISION: &str = "canopy.rs/revision";

/// The state of a pod.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) is_ready: bool,
    pub(crate) restarts: u64,
}

/// A model.
pub(crate) struct Model<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) name: &'a str,
}

/// The manifest of a small model whose class is 1 if the sum of the first two of four features is positive;
/// `more` is merged into its spec.
pub(crate) fn small(name: &str, more: &Value) -> String {
    let mut spec = json!({
        "version": "1.0",
        "train": {
            "data": {"synthetic": {"samples": 300, "features": 4, "seed": 42}},
            "algorithm": {"randomForest": {"trees": 10, "seed": 42}},
        },
        "retireSeconds": 5,
    });
    merge(&mut spec, more);
    json!({"apiVersion": "canopy.rs/v1alpha1", "kind": "PredictorModel", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// A `ConfigMap` with one key.
pub(crate) fn config_map(name: &str, key: &str, text: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: text}})
        .to_string()
}

/// Applies a JSON merge patch.
fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, more) => *into = more.clone(),
    }
}

impl Model<'_> {
    /// The model as the API server has it.
    pub(crate) fn read(&self) -> Result<Value> {
        self.namespace.json("predictormodels", self.name)
    }

    /// Changes the spec.
    pub(crate) fn patch(&self, spec: &Value) -> Result<()> {
        self.namespace.patch("predictormodels", self.name, &json!({"spec": spec}))
    }

    /// Waits with `kubectl wait` until the model is ready.
    pub(crate) fn ready(&self) -> Result<Value> {
        let model = format!("predictormodel/{}", self.name);
        let limit = format!("{}s", TIMEOUT.as_secs());
        self.namespace.kubectl(&["wait", "--for=condition=Ready", &model, "--timeout", &limit])?;
        self.read()
    }

    /// Waits until a condition of the current spec has a status and a reason, and returns its message.
    pub(crate) async fn condition(&self, condition: &str, status: &str, reason: &str) -> Result<String> {
        self.condition_with(condition, status, reason, &[]).await
    }

    /// The same, with parts that the message must have.
    pub(crate) async fn condition_with(
        &self,
        condition: &str,
        status: &str,
        reason: &str,
        words: &[&str],
    ) -> Result<String> {
        until(&format!("{condition} {status} {reason} of {}", self.name), TIMEOUT, async || {
            let model = self.read()?;
            let found = condition_of(&model, condition)?;
            let current = found["observedGeneration"] == model["metadata"]["generation"];
            let as_awaited = found["status"] == status && found["reason"] == reason;
            let message = found["message"].as_str().unwrap_or_default();
            let has_words = words.iter().all(|words| message.contains(words));
            ensure!(
                current && as_awaited && has_words,
                "expected {status} {reason} with {words:?} for generation {}, got {found}",
                model["metadata"]["generation"]
            );
            Ok(message.to_owned())
        })
        .await
    }

    /// Returns when `kubectl describe` has the message as a condition and as an Event.
    pub(crate) async fn has_event(&self, reason: &str, message: &str) -> Result<()> {
        // The message of an Event may be truncated.
        let start: String = message.chars().take(60).collect();
        until("an Event", SOON, async || {
            let described = self.namespace.kubectl(&["describe", "predictormodel", self.name])?;
            let events = described.split_once("Events:").map_or("", |(_, events)| events);
            ensure!(
                described.contains(message) && events.contains(reason) && events.contains(&start),
                "expected {reason} with {message:?} as a condition and an Event, got\n{described}"
            );
            Ok(())
        })
        .await
    }

    /// The pods of a revision, by name.
    pub(crate) fn pods(&self, revision: &str) -> Result<BTreeMap<String, State>> {
        let selector = format!("{REVISION}={revision},app.kubernetes.io/instance={}", self.name);
        pod_states(self.namespace, &selector)
    }

    /// Returns when a revision has `count` pods, all of them ready.
    pub(crate) async fn has_pods(&self, revision: &str, count: usize) -> Result<()> {
        until(&format!("{count} pods of {revision}"), TIMEOUT, async || {
            let pods = self.pods(revision)?;
            ensure!(
                pods.len() == count && pods.values().all(|pod| pod.is_ready),
                "expected {count} ready pods, got {pods:?}"
            );
            Ok(())
        })
        .await
    }

    /// Sets the number of its pods with `kubectl scale`.
    pub(crate) fn scale(&self, replicas: usize) -> Result<()> {
        let (object, replicas) = (format!("predictormodel/{}", self.name), format!("--replicas={replicas}"));
        self.namespace.kubectl(&["scale", &object, &replicas]).map(drop)
    }

    /// Its name for gateways.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.namespace.name)
    }

    /// A prediction of a gateway; an error if the first response is not 200.
    pub(crate) async fn predict(&self, gateway: &Forward, features: &[f64]) -> Result<(Value, String)> {
        let reply = gateway.predict(&self.full_name(), features).await?;
        ensure!(reply.status == 200, "expected 200 of {}, got {}: {}", gateway.pod, reply.status, reply.text);
        Ok((reply.json()?, reply.header("canopy-revision").to_owned()))
    }

    /// Repeats a request until the response is accepted: a gateway may learn of a model after five seconds.
    pub(crate) async fn predict_until(
        &self,
        gateway: &Forward,
        features: &[f64],
        what: &str,
        is: impl Fn(&Reply) -> bool,
    ) -> Result<Reply> {
        until(&format!("{what} from {}", gateway.pod), Duration::from_secs(30), async || {
            let reply = gateway.predict(&self.full_name(), features).await?;
            ensure!(is(&reply), "{}: {}", reply.status, reply.text);
            Ok(reply)
        })
        .await
    }
}

/// The pods that a label selector matches, by name.
pub(crate) fn pod_states(namespace: &Namespace, selector: &str) -> Result<BTreeMap<String, State>> {
    let pods = namespace.list("pods", selector)?;
    let read = |pod: &Value| {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let state = State {
            uid: word(&pod["metadata"]["uid"]),
            node: word(&pod["spec"]["nodeName"]),
            is_ready: conditions.into_iter().any(|is| is["type"] == "Ready" && is["status"] == "True"),
            restarts: containers.filter_map(|container| container["restartCount"].as_u64()).sum(),
        };
        (word(&pod["metadata"]["name"]), state)
    };
    Ok(pods.iter().map(read).collect())
}

/// The condition of a model.
pub(crate) fn condition_of<'a>(model: &'a Value, condition: &str) -> Result<&'a Value> {
    let all = model["status"]["conditions"].as_array().context("there are no conditions yet")?;
    all.iter().find(|one| one["type"] == condition).with_context(|| format!("there is no {condition}"))
}

/// The revision that serves.
pub(crate) fn revision(model: &Value) -> Result<String> {
    Ok(model["status"]["revision"].as_str().context("no revision serves")?.to_owned())
}
