//! The objects of a fake cluster, and what Kubernetes does to them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::fake_api_server::InjectedFault;
use crate::labels::{MODEL_UID, REVISION};

/// Plural, namespace and name.
pub(crate) type Key = (String, String, String);

/// The behaviour of the pods of a revision.
#[derive(Clone, Debug, Default)]
pub(crate) enum PodBehavior {
    /// They train and become ready.
    #[default]
    Healthy,
    /// They become ready, and their report has no quality.
    HasNoQuality,
    /// They train and never become ready.
    NeverReady,
    /// They never finish training.
    TrainsForever,
    /// `prepare` refuses with this code.
    Refused(&'static str),
    /// Ready pods stay ready; `prepare` of others refuses with this code.
    RefusesReplacements(&'static str),
    /// They train, and `serve` refuses with this code and restarts.
    FailsSelfTest(&'static str),
    /// They keep this status.
    HasStatus(Value),
    /// They become ready, each with a different artifact.
    DifferentArtifacts,
}

/// A cluster.
#[derive(Debug)]
pub(crate) struct FakeCluster {
    pub(crate) objects: BTreeMap<Key, Value>,
    pub(crate) now: Timestamp,
    pub(crate) behaviors: BTreeMap<String, PodBehavior>,
    /// All writes of the operator, as verb and object.
    pub(crate) writes: Vec<String>,
    /// All objects that were read by name.
    pub(crate) reads: Vec<String>,
    /// The path of every list.
    pub(crate) lists: Vec<String>,
    pub(crate) events: Vec<String>,
    /// Number of writes before one fails.
    pub(crate) fails_after_writes: Option<usize>,
    /// Whether that write takes effect although it fails, as when its response is lost.
    pub(crate) failed_write_has_effect: bool,
    /// Injected faults.
    pub(crate) injected_faults: Vec<InjectedFault>,
    /// Plural, field and value that a webhook sets on each apply.
    pub(crate) webhook: Option<(&'static str, &'static str, Value)>,
    /// Last applied manifest of each object.
    pub(crate) applied: BTreeMap<Key, Value>,
    /// Whether the controllers that write `EndpointSlice`s have stopped.
    pub(crate) has_no_endpoints_controller: bool,
    /// The namespace is being deleted; nothing can be created in it.
    pub(crate) is_namespace_terminating: bool,
    version: u64,
    /// Number of deletions by object.
    removed: BTreeMap<Key, usize>,
}

impl FakeCluster {
    pub(crate) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            now: "2026-05-04T03:00:00Z".parse().unwrap(),
            behaviors: BTreeMap::new(),
            writes: Vec::new(),
            reads: Vec::new(),
            lists: Vec::new(),
            events: Vec::new(),
            fails_after_writes: None,
            failed_write_has_effect: false,
            injected_faults: Vec::new(),
            webhook: None,
            applied: BTreeMap::new(),
            has_no_endpoints_controller: false,
            is_namespace_terminating: false,
            version: 100,
            removed: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<&Value> {
        self.objects.get(&key(plural, "shop", name))
    }

    pub(crate) fn of_kind(&self, plural: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((kind, ..), _)| kind == plural).map(|(_, object)| object)
    }

    /// Stores an object like an API server: an unchanged object keeps its resource version.
    pub(crate) fn store(&mut self, key: Key, mut object: Value) -> Value {
        let before = self.objects.get(&key);
        let kept = |field: &str| before.map(|before| before["metadata"][field].clone());
        let again = self.removed.get(&key).map_or(String::new(), |times| format!("-again-{times}"));
        let uid = kept("uid").unwrap_or_else(|| format!("uid-{}-{}{again}", key.0, key.2).into());
        let created = kept("creationTimestamp").unwrap_or_else(|| self.now.to_string().into());
        let generation = before.map_or(1, |before| {
            let changed = before["spec"] != object["spec"];
            before["metadata"]["generation"].as_i64().unwrap_or(1) + i64::from(changed)
        });
        if let Some(before) = before.filter(|_| object["status"].is_null()) {
            object["status"] = before["status"].clone();
        }
        let metadata = &mut object["metadata"];
        metadata["namespace"] = key.1.clone().into();
        (metadata["uid"], metadata["creationTimestamp"]) = (uid, created);
        metadata["generation"] = generation.into();
        metadata["resourceVersion"] = kept("resourceVersion").unwrap_or(Value::Null);
        if self.objects.get(&key) != Some(&object) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
        }
        self.objects.insert(key, object.clone());
        object
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Value> {
        let removed = self.objects.remove(key);
        self.applied.remove(key);
        *self.removed.entry(key.clone()).or_default() += 1;
        self.collect_garbage();
        removed
    }

    /// Deletes objects whose owner is gone.
    fn collect_garbage(&mut self) {
        loop {
            let uids: Vec<_> =
                self.objects.values().map(|object| object["metadata"]["uid"].clone()).collect();
            let before = self.objects.len();
            self.objects.retain(|_, object| {
                let owner = &object["metadata"]["ownerReferences"][0]["uid"];
                owner.is_null() || uids.contains(owner)
            });
            if self.objects.len() == before {
                return;
            }
        }
    }

    /// Advances the time.
    pub(crate) fn advance_time(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// One step of the cluster: Deployments create and delete pods, and each pod advances.
    pub(crate) fn step(&mut self) {
        for key in self.keys("deployments") {
            let deployment = self.objects[&key].clone();
            self.scale(&key, &deployment);
            for pod in self.pods_of(&key) {
                self.advance(&pod);
            }
            self.count(&key);
        }
        if !self.has_no_endpoints_controller {
            for key in self.keys("services") {
                self.publish(&key);
            }
        }
    }

    /// Writes the `EndpointSlice` of a Service, with the labels of both.
    fn publish(&mut self, key: &Key) {
        let service = self.objects[key].clone();
        // A Service of another owner may have no selector.
        let Some(selector) = service["spec"]["selector"].as_object().cloned() else { return };
        let pods = self.objects.iter().filter(|((kind, namespace, _), pod)| {
            let labels = &pod["metadata"]["labels"];
            kind == "pods" && *namespace == key.1 && selector.iter().all(|(key, value)| labels[key] == *value)
        });
        let endpoint = |((.., name), pod): (&Key, &Value)| {
            json!({"addresses": ["10.1.2.3"], "conditions": {"ready": is_ready(pod)},
                "targetRef": {"kind": "Pod", "name": name}})
        };
        let endpoints: Vec<_> = pods.map(endpoint).collect();
        let mut labels = service["metadata"]["labels"].clone();
        labels["kubernetes.io/service-name"] = key.2.clone().into();
        let (name, owner) = (format!("{}-x7k2p", key.2), service["metadata"]["uid"].clone());
        let slice = json!({"addressType": "IPv4", "endpoints": endpoints, "metadata": {
            "name": name, "labels": labels,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": key.2, "uid": owner, "controller": true}],
        }});
        self.store(self::key("endpointslices", &key.1, &name), slice);
    }

    fn scale(&mut self, key: &Key, deployment: &Value) {
        let wanted = usize::try_from(deployment["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap();
        let mut pods = self.pods_of(key);
        // Like a ReplicaSet: pods that are not ready are deleted first.
        pods.sort_by_key(|pod| !is_ready(&self.objects[pod]));
        for pod in pods.iter().skip(wanted) {
            self.remove(pod);
        }
        let is_free = |number: &usize| !pods.iter().any(|(.., name)| *name == format!("{}-{number}", key.2));
        let free: Vec<_> = (0..).filter(is_free).take(wanted.saturating_sub(pods.len())).collect();
        for number in free {
            let template = deployment["spec"]["template"].clone();
            let name = format!("{}-{number}", key.2);
            let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{}-5d8f7", key.2),
                "uid": deployment["metadata"]["uid"], "controller": true}]);
            let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
            pod["metadata"]["name"] = name.clone().into();
            pod["metadata"]["ownerReferences"] = owner;
            self.store(self::key("pods", &key.1, &name), pod);
        }
    }

    /// Advances a pod: pending, preparing, then according to its behaviour.
    fn advance(&mut self, key: &Key) {
        let mut pod = self.objects[key].clone();
        let revision = pod["metadata"]["labels"][REVISION].as_str().unwrap().to_owned();
        let behavior = self.behaviors.get(&revision).cloned().unwrap_or_default();
        let prepare = &pod["status"]["initContainerStatuses"][0]["state"];
        let ended = &prepare["terminated"];
        // `prepare` runs once per pod.
        let is_refused = ended["message"].as_str().is_some_and(|message| message.contains("refused"));
        if is_refused || (matches!(behavior, PodBehavior::RefusesReplacements(_)) && is_ready(&pod)) {
            return;
        }
        let since = ended["finishedAt"].as_str().map_or_else(|| self.now.to_string(), str::to_owned);
        pod["status"] = match &behavior {
            PodBehavior::HasStatus(status) => status.clone(),
            _ if prepare.is_null() => preparing(self.now),
            PodBehavior::TrainsForever => return,
            PodBehavior::Refused(word) | PodBehavior::RefusesReplacements(word) => {
                prepared(&refusal(word), false, &since)
            }
            PodBehavior::Healthy => prepared(&report("d1"), true, &since),
            PodBehavior::HasNoQuality => {
                let mut report = report("d1");
                report["prepared"].as_object_mut().unwrap().remove("quality");
                prepared(&report, true, &since)
            }
            PodBehavior::DifferentArtifacts => {
                prepared(&report(&key.2[key.2.len() - 1..].repeat(64)), true, &since)
            }
            PodBehavior::NeverReady => prepared(&report("d1"), false, &since),
            PodBehavior::FailsSelfTest(word) => {
                let mut status = prepared(&report("d1"), false, &since);
                let ended = json!({"exitCode": 1, "finishedAt": since, "message": refusal(word).to_string()});
                status["containerStatuses"][0]["lastState"] = json!({ "terminated": ended });
                status
            }
        };
        self.store(key.clone(), pod);
    }

    fn count(&mut self, key: &Key) {
        let pods = self.pods_of(key);
        let (all, ready) = (pods.len(), pods.iter().filter(|pod| is_ready(&self.objects[*pod])).count());
        let mut deployment = self.objects[key].clone();
        deployment["status"] = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": all,
            "readyReplicas": ready,
        });
        self.store(key.clone(), deployment);
    }

    /// The pods of a Deployment, oldest first.
    fn pods_of(&self, key: &Key) -> Vec<Key> {
        let of = &self.objects[key]["spec"]["selector"]["matchLabels"];
        let pods =
            self.objects.iter().filter(|((kind, namespace, _), _)| kind == "pods" && *namespace == key.1);
        let same = |pod: &Value, label: &str| pod["metadata"]["labels"][label] == of[label];
        let own = |pod: &Value| {
            pod["metadata"]["ownerReferences"][0]["uid"] == self.objects[key]["metadata"]["uid"]
        };
        let pods = pods.filter(|(_, pod)| same(pod, REVISION) && same(pod, MODEL_UID) && own(pod));
        pods.map(|(key, _)| key.clone()).collect()
    }

    fn keys(&self, plural: &str) -> Vec<Key> {
        self.objects.keys().filter(|(kind, ..)| kind == plural).cloned().collect()
    }
}

pub(crate) fn key(plural: &str, namespace: &str, name: &str) -> Key {
    (plural.to_owned(), namespace.to_owned(), name.to_owned())
}

fn preparing(since: Timestamp) -> Value {
    json!({"initContainerStatuses": [container("prepare", &json!({"running": {"startedAt": since}}))]})
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

fn refusal(word: &str) -> Value {
    json!({"refused": {"code": word, "message": "test refusal"}})
}

fn prepared(report: &Value, ready: bool, since: &str) -> Value {
    let ended = json!({"terminated": {"exitCode": 0, "finishedAt": since, "message": report.to_string()}});
    json!({
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        "initContainerStatuses": [container("prepare", &ended)],
        "containerStatuses": [container("serve", &json!({"running": {}}))],
    })
}

/// The status of a container.
pub(crate) fn container(name: &str, state: &Value) -> Value {
    json!({"name": name, "image": "predictor:1", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn report(digest: &str) -> Value {
    json!({"prepared": {
        "digest": digest,
        "bytes": 83120,
        "quality": {"metric": "Accuracy", "value": 0.966_666_7, "samples": 30},
        "samples": 120,
        "seconds": 0.25,
    }})
}
