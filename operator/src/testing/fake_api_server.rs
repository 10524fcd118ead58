//! The API server of the fake cluster, behind a real client. Unknown requests panic.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::fake_cluster::{FakeCluster, Key, key};

/// A fault of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It has no effect and returns this status.
    FailsBefore(u16),
    /// It takes effect and returns this status.
    FailsAfter(u16),
    /// It has no effect and no response.
    HangsBefore,
    /// It takes effect and has no response.
    HangsAfter,
    /// It takes effect; the response is delayed.
    AnswersLate(Duration),
    /// It takes effect after a delay, even if the client has given up.
    ActsLate(Duration),
}

/// Faults of matching requests.
#[derive(Clone, Debug)]
pub(crate) struct InjectedFault {
    pub(crate) method: &'static str,
    /// Substring of the path.
    pub(crate) path: String,
    /// Remaining number of requests.
    pub(crate) times: usize,
    pub(crate) how: Fault,
}

/// A client of the fake cluster.
pub(crate) fn client(cluster: Arc<Mutex<FakeCluster>>) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let cluster = cluster.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let kind = head.headers.get(CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap()).to_owned();
            let (method, path) = (head.method.clone(), head.uri.path().to_owned());
            let query = head.uri.query().unwrap_or_default();
            if query.contains("watch=true") {
                // Nothing happens after a list.
                pending::<()>().await;
            }
            let fault = cluster.lock().unwrap().fault(&method, &path);
            let act = {
                let (cluster, method, path) = (cluster.clone(), method, path.clone());
                let query = query.to_owned();
                move || {
                    let mut cluster = cluster.lock().unwrap();
                    if method == Method::GET && query.contains("limit=") {
                        return (StatusCode::OK, cluster.list(&path, &query));
                    }
                    cluster.answer(&method, &path, &kind, body)
                }
            };
            let (status, answer) = inject_fault(fault, act, &path).await;
            let answer = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
        }
    });
    Client::new(service, "default")
}

async fn inject_fault(
    fault: Option<Fault>,
    act: impl FnOnce() -> (StatusCode, Value) + Send + 'static,
    path: &str,
) -> (StatusCode, Value) {
    let failed = |status| {
        let (status, mut body) =
            failure(StatusCode::from_u16(status).unwrap(), "Disturbed", &address(path).0);
        if status == StatusCode::TOO_MANY_REQUESTS {
            body["details"] = json!({"retryAfterSeconds": 40});
        }
        (status, body)
    };
    match fault {
        None => act(),
        Some(Fault::FailsBefore(status)) => failed(status),
        Some(Fault::FailsAfter(status)) => {
            act();
            failed(status)
        }
        Some(Fault::HangsBefore) => pending().await,
        Some(Fault::HangsAfter) => {
            act();
            pending().await
        }
        Some(Fault::AnswersLate(time)) => {
            let answer = act();
            tokio::time::sleep(time).await;
            answer
        }
        Some(Fault::ActsLate(time)) => {
            let acting = tokio::spawn(async move {
                tokio::time::sleep(time).await;
                act()
            });
            acting.await.unwrap()
        }
    }
}

impl FakeCluster {
    /// A list of all objects of a kind, in a namespace or in all of them.
    fn list(&mut self, path: &str, query: &str) -> Value {
        self.lists.push(path.to_owned());
        let plural = path.rsplit('/').next().unwrap_or_default();
        let (of, _) = address(path);
        let is_selected = |object: &Value| {
            let labels = &object["metadata"]["labels"];
            let is_managed = labels["app.kubernetes.io/managed-by"] == "canopy-operator";
            let has_uid = !labels["canopy.rs/model-uid"].is_null();
            (!query.contains("managed-by") || is_managed) && (!query.contains("%21canopy.rs") || !has_uid)
        };
        let here = self.objects.iter().filter(|((kind, namespace, _), object)| {
            kind == plural && (of.1.is_empty() || of.1 == *namespace) && is_selected(object)
        });
        let items: Vec<_> = here.map(|(_, object)| object.clone()).collect();
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
    }

    fn fault(&mut self, method: &Method, path: &str) -> Option<Fault> {
        let fits =
            |d: &&mut InjectedFault| d.times > 0 && d.method == method.as_str() && path.contains(&d.path);
        let injected_faults = self.injected_faults.iter_mut().find(fits)?;
        injected_faults.times -= 1;
        Some(injected_faults.how)
    }

    fn answer(&mut self, method: &Method, path: &str, kind: &str, body: Value) -> (StatusCode, Value) {
        let (key, sub) = address(path);
        let absent = key.clone();
        let not_found = || failure(StatusCode::NOT_FOUND, "NotFound", &absent);
        if *method == Method::GET {
            self.reads.push(format!("{} {}", key.0, key.2));
            return self.objects.get(&key).cloned().map_or_else(not_found, |object| (StatusCode::OK, object));
        }
        if key.0 == "leases" {
            return self.lease(method, key, body);
        }
        if self.fails_after_writes == Some(0) {
            self.fails_after_writes = None;
            if self.failed_write_has_effect {
                drop(self.answer(method, path, kind, body));
            }
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &key);
        }
        self.fails_after_writes = self.fails_after_writes.map(|writes| writes - 1);
        if self.is_namespace_terminating
            && matches!(*method, Method::POST | Method::PATCH)
            && !self.objects.contains_key(&key)
        {
            return self.refuse_in_terminating_namespace(&key);
        }
        match (method.as_str(), sub) {
            ("POST", _) => {
                self.record_event(&body, "");
                (StatusCode::CREATED, body)
            }
            // Kube's recorder counts a repeated Event in its series.
            ("PATCH", None) if key.0 == "events" => {
                self.record_event(&body, &format!(" (x{})", body["series"]["count"]));
                (StatusCode::OK, body)
            }
            ("PATCH", Some("status")) => (StatusCode::OK, self.patch_status(key, kind, &body)),
            ("PATCH", None) if kind == "application/json-patch+json" => self.json_patch(key, &body),
            ("PATCH", None) => {
                self.writes.push(format!("apply {} {}", key.0, key.2));
                if self
                    .objects
                    .get(&key)
                    .is_some_and(|found| is_fixed(&key.0, found) && found["data"] != body["data"])
                {
                    return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &key);
                }
                let object = self.merged(&key, &body);
                self.applied.insert(key.clone(), body);
                (StatusCode::OK, self.store(key, object))
            }
            ("DELETE", None) => {
                self.writes.push(format!("delete {} {}", key.0, key.2));
                self.remove(&key).map_or_else(not_found, |object| (StatusCode::OK, object))
            }
            (method, sub) => panic!("this API server does not implement {method} {path} {sub:?}"),
        }
    }

    fn refuse_in_terminating_namespace(&mut self, key: &Key) -> (StatusCode, Value) {
        self.writes.push(format!("refused {} {}", key.0, key.2));
        let (status, mut body) = failure(StatusCode::FORBIDDEN, "Forbidden", key);
        body["details"] = json!({"causes": [{"reason": "NamespaceTerminating"}]});
        (status, body)
    }

    fn record_event(&mut self, event: &Value, repeats: &str) {
        let (kind, reason, note) = (&event["type"], &event["reason"], &event["note"]);
        self.events.push(format!("{kind} {reason} {note}{repeats}").replace('"', ""));
    }

    fn json_patch(&mut self, key: Key, operations: &Value) -> (StatusCode, Value) {
        self.writes.push(format!("take from {} {}", key.0, key.2));
        let Some(object) = operated(self.objects[&key].clone(), operations) else {
            return failure(StatusCode::CONFLICT, "Conflict", &key);
        };
        let object = self.admitted(&key, object);
        (StatusCode::OK, self.store(key, object))
    }

    fn patch_status(&mut self, key: Key, kind: &str, body: &Value) -> Value {
        self.writes.push(format!("status {}", key.2));
        let mut object = self.objects[&key].clone();
        if kind == "application/merge-patch+json" {
            object["status"]["conditions"] = body["status"]["conditions"].clone();
        } else {
            object["status"] = body["status"].clone();
        }
        self.store(key, object)
    }

    /// Creates or replaces a Lease; a replacement must have the current resource version.
    fn lease(&mut self, method: &Method, key: Key, body: Value) -> (StatusCode, Value) {
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        let key = (key.0, key.1, name);
        let there = self.objects.get(&key).map(|lease| lease["metadata"]["resourceVersion"].clone());
        match (method.as_str(), there) {
            ("POST", None) => (StatusCode::CREATED, self.store(key, body)),
            ("POST", Some(_)) => failure(StatusCode::CONFLICT, "AlreadyExists", &key),
            ("PUT", None) => failure(StatusCode::NOT_FOUND, "NotFound", &key),
            ("PUT", Some(version)) if version == body["metadata"]["resourceVersion"] => {
                (StatusCode::OK, self.store(key, body))
            }
            (_, Some(_)) => failure(StatusCode::CONFLICT, "Conflict", &key),
            (method, None) => panic!("unknown request: {method} of a Lease"),
        }
    }

    /// Server-side apply: fields that were applied before and are no longer applied are removed; fields of others are
    /// kept.
    fn merged(&self, key: &Key, wanted: &Value) -> Value {
        let Some(found) = self.objects.get(key) else { return self.admitted(key, wanted.clone()) };
        let mut object = found.clone();
        if let Some(before) = self.applied.get(key) {
            withdraw(&mut object, before, wanted);
        }
        merge("", &mut object, wanted);
        self.admitted(key, object)
    }

    /// Applies the mutating webhook.
    fn admitted(&self, key: &Key, mut object: Value) -> Value {
        if let Some((_, field, value)) = self.webhook.as_ref().filter(|(plural, ..)| *plural == key.0) {
            *object.pointer_mut(field).unwrap() = value.clone();
        }
        object
    }
}

fn withdraw(object: &mut Value, before: &Value, wanted: &Value) {
    let (Some(object), Some(before)) = (object.as_object_mut(), before.as_object()) else { return };
    for (key, before) in before {
        match (wanted.get(key), object.get_mut(key)) {
            (None, _) => drop(object.remove(key)),
            (Some(wanted), Some(object)) => withdraw(object, before, wanted),
            (Some(_), None) => {}
        }
    }
}

fn merge(key: &str, object: &mut Value, wanted: &Value) {
    let is_atomic = ["selector", "matchLabels", "nodeSelector"].contains(&key);
    let is_named = |list: &[Value]| list.iter().all(|entry| entry.get("name").is_some());
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) if !is_atomic => {
            for (key, wanted) in wanted {
                merge(key, object.entry(key).or_insert(Value::Null), wanted);
            }
        }
        (Value::Array(object), Value::Array(wanted)) if is_named(object) && is_named(wanted) => {
            for wanted in wanted {
                match object.iter_mut().find(|entry| entry["name"] == wanted["name"]) {
                    Some(entry) => merge("", entry, wanted),
                    None => object.push(wanted.clone()),
                }
            }
        }
        (object, wanted) => *object = wanted.clone(),
    }
}

/// Applies a JSON patch, unless the object has another resource version.
fn operated(mut object: Value, operations: &Value) -> Option<Value> {
    for operation in operations.as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        let (parent, last) = path.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/").replace("~0", "~");
        let parent = object.pointer_mut(parent).unwrap();
        match operation["op"].as_str().unwrap() {
            "replace" if path == "/metadata/resourceVersion" => {
                if parent[&last] != operation["value"] {
                    return None;
                }
            }
            "replace" => parent[&last] = operation["value"].clone(),
            "remove" => drop(parent.as_object_mut().unwrap().remove(&last).unwrap()),
            other => panic!("unknown JSON patch operation: {other}"),
        }
    }
    Some(object)
}

/// Whether the data of an object are immutable.
fn is_fixed(plural: &str, object: &Value) -> bool {
    plural == "controllerrevisions" || object["immutable"] == true
}

/// `/apis/apps/v1/namespaces/shop/deployments/iris-1/status`.
fn address(path: &str) -> (Key, Option<&str>) {
    let mut parts = path.split('/').skip_while(|part| *part != "namespaces").skip(1);
    let mut next = || parts.next().unwrap_or_default();
    let (namespace, plural, name) = (next(), next(), next());
    (key(plural, namespace, name), parts.next())
}

fn failure(status: StatusCode, reason: &str, (plural, _, name): &Key) -> (StatusCode, Value) {
    let message = format!("{plural} {name}: {reason}");
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16()});
    (status, body)
}
