//! The API server of a cluster in memory, behind a real client.
//!
//! Comes in: requests. Goes out: answers, and changes of the world. Never: a request that it does not know.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::world::{Key, World, key};

/// A client of the world.
pub(crate) fn client(world: Arc<Mutex<World>>) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let world = world.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let (status, answer) = world.lock().unwrap().answer(&head.method, head.uri.path(), body);
            let answer = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
        }
    });
    Client::new(service, "default")
}

impl World {
    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (StatusCode, Value) {
        let (key, sub) = address(path);
        if *method == Method::GET {
            self.reads.push(format!("{} {}", key.0, key.2));
            return match self.objects.get(&key) {
                Some(object) => (StatusCode::OK, object.clone()),
                None => failure(StatusCode::NOT_FOUND, "NotFound", &key),
            };
        }
        if self.fails_after == Some(0) {
            self.fails_after = None;
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &key);
        }
        self.fails_after = self.fails_after.map(|writes| writes - 1);
        if self.goes && matches!(*method, Method::POST | Method::PATCH) && !self.objects.contains_key(&key) {
            self.writes.push(format!("refused {} {}", key.0, key.2));
            let (status, mut body) = failure(StatusCode::FORBIDDEN, "Forbidden", &key);
            body["details"] = json!({"causes": [{"reason": "NamespaceTerminating"}]});
            return (status, body);
        }
        match (method.as_str(), sub) {
            ("POST", _) => {
                let (kind, reason, note) = (&body["type"], &body["reason"], &body["note"]);
                self.events.push(format!("{kind} {reason} {note}").replace('"', ""));
                (StatusCode::CREATED, body)
            }
            ("PATCH", Some("status")) => {
                self.writes.push(format!("status {}", key.2));
                let mut object = self.objects[&key].clone();
                object["status"] = body["status"].clone();
                (StatusCode::OK, self.store(key, object))
            }
            ("PATCH", None) => {
                self.writes.push(format!("apply {} {}", key.0, key.2));
                if self
                    .objects
                    .get(&key)
                    .is_some_and(|found| is_fixed(&key.0, found) && found["data"] != body["data"])
                {
                    return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &key);
                }
                (StatusCode::OK, self.store(key, body))
            }
            ("DELETE", None) => {
                self.writes.push(format!("delete {} {}", key.0, key.2));
                match self.remove(&key) {
                    Some(object) => (StatusCode::OK, object),
                    None => failure(StatusCode::NOT_FOUND, "NotFound", &key),
                }
            }
            (method, sub) => panic!("nobody told this API server what {method} {path} {sub:?} is"),
        }
    }
}

/// Whether the data of an object can never be changed.
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
