//! Reads and patches objects over the API server's HTTP port, with the certificate of `KUBECONFIG`.
//!
//! Tests poll with these calls, because a `kubectl` process takes a hundred times as long. They run `kubectl` where they show what
//! a user's command does.

use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use data_encoding::BASE64;
use reqwest::{Client, Identity, Method};
use serde_json::Value;
use tokio::runtime::{self, Runtime};

use crate::http::{client_with, send};
use crate::kubernetes::kubectl_json;

/// The longest time that one call may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The API server of `KUBECONFIG`, and the credentials for it, as PEM.
#[derive(Debug)]
pub struct Credentials {
    /// The address, as in `127.0.0.1:6443`.
    pub server: String,
    /// The certificate of the authority that signed the server's certificate.
    pub authority: Vec<u8>,
    /// The client's certificate.
    pub certificate: Vec<u8>,
    /// The client's key.
    pub key: Vec<u8>,
}

impl Credentials {
    /// Reads them from `KUBECONFIG`.
    pub fn read() -> Result<Self> {
        let config = kubectl_json(&["config", "view", "--raw", "--minify", "--flatten"])?;
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let server = cluster["server"].as_str().and_then(|server| server.strip_prefix("https://"));
        let pem = |of: &Value, field: &str| {
            let text = of[field].as_str().with_context(|| format!("KUBECONFIG has no {field}"))?;
            BASE64.decode(text.as_bytes()).with_context(|| format!("{field} in KUBECONFIG is not base64"))
        };
        Ok(Self {
            server: server.context("KUBECONFIG has no server with https://")?.to_owned(),
            authority: pem(cluster, "certificate-authority-data")?,
            certificate: pem(user, "client-certificate-data")?,
            key: pem(user, "client-key-data")?,
        })
    }
}

/// A client and its runtime, so that callers need not be asynchronous.
struct Connection {
    runtime: Runtime,
    client: Client,
    server: String,
}

impl Connection {
    fn open() -> Result<Self> {
        let Credentials { server, authority, certificate, key } = Credentials::read()?;
        let identity = Identity::from_pem(&[key, certificate].concat())?;
        let client = client_with(&authority, |builder| builder.identity(identity))?;
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime, client, server })
    }
}

/// Sends a request and returns the object in the response. Blocks until then, which takes milliseconds.
fn call(method: &Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value> {
    static CONNECTION: LazyLock<Result<Connection, String>> =
        LazyLock::new(|| Connection::open().map_err(|error| format!("{error:#}")));
    let connection =
        CONNECTION.as_ref().map_err(|error| anyhow!("no connection to the API server: {error}"))?;
    let mut request =
        connection.client.request(method.clone(), format!("https://{}{path}", connection.server));
    if let Some((kind, body)) = body {
        request = request.header("content-type", kind).body(body.to_string());
    }
    let (sender, receiver) = mpsc::channel();
    connection.runtime.spawn(async move { sender.send(send(request).await) });
    let reply = receiver.recv_timeout(LIMIT * 2).context("no answer of the API server")?;
    let reply = reply.with_context(|| format!("{method} {path}"))?;
    ensure!(
        (200..300).contains(&reply.status),
        "{method} {path}: expected 2xx, got {}: {}",
        reply.status,
        reply.text
    );
    reply.json()
}

/// The path of all objects of a kind, by its plural, in one namespace or in all.
fn path(kind: &str, namespace: Option<&str>) -> Result<String> {
    let group = match kind {
        "configmaps" | "events" | "namespaces" | "nodes" | "pods" | "services" => "api/v1",
        "deployments" | "replicasets" => "apis/apps/v1",
        "leases" => "apis/coordination.k8s.io/v1",
        "networkpolicies" => "apis/networking.k8s.io/v1",
        "poddisruptionbudgets" => "apis/policy/v1",
        "predictormodels" => "apis/canopy.rs/v1alpha1",
        _ => bail!("the API group of {kind:?} is unknown: add it to tests/src/api.rs"),
    };
    let namespace = namespace.map(|name| format!("namespaces/{name}/")).unwrap_or_default();
    Ok(format!("/{group}/{namespace}{kind}"))
}

/// One object.
pub fn get(kind: &str, namespace: &str, name: &str) -> Result<Value> {
    call(&Method::GET, &format!("{}/{name}", path(kind, Some(namespace))?), None)
}

/// All objects that a label selector matches; the empty selector matches all.
pub fn list(kind: &str, namespace: Option<&str>, selector: &str) -> Result<Vec<Value>> {
    let selector = selector.replace('=', "%3D").replace(',', "%2C").replace('!', "%21");
    let path = format!("{}?labelSelector={selector}", path(kind, namespace)?);
    let mut found = call(&Method::GET, &path, None)?;
    if let Value::Array(items) = found["items"].take() {
        return Ok(items);
    }
    bail!("GET {path}: expected a list, got {found}")
}

/// The names of a list's objects.
pub fn names(objects: &[Value]) -> Vec<String> {
    objects.iter().filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

/// Changes an object by a JSON merge patch.
pub fn patch(kind: &str, namespace: &str, name: &str, patch: &Value) -> Result<Value> {
    let object = format!("{}/{name}", path(kind, Some(namespace))?);
    call(&Method::PATCH, &object, Some(("application/merge-patch+json", patch)))
}

/// Creates an object.
pub fn create(kind: &str, namespace: &str, object: &Value) -> Result<Value> {
    call(&Method::POST, &path(kind, Some(namespace))?, Some(("application/json", object)))
}

/// Creates an object for each of `numbers`, several at once.
pub fn create_all(
    kind: &str,
    namespace: &str,
    numbers: &[usize],
    object: impl Fn(usize) -> Value + Sync,
) -> Result<()> {
    const CREATORS: usize = 4;
    let create_some = |numbers: &[usize]| {
        numbers.iter().try_for_each(|&number| create(kind, namespace, &object(number)).map(drop))
    };
    let (create_some, share) = (&create_some, numbers.len().div_ceil(CREATORS).max(1));
    std::thread::scope(|scope| {
        let creators: Vec<_> =
            numbers.chunks(share).map(|numbers| scope.spawn(move || create_some(numbers))).collect();
        creators.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("a creator panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_group_and_the_namespace_of_its_kind() {
        assert_eq!(path("pods", Some("shop")).unwrap(), "/api/v1/namespaces/shop/pods");
        assert_eq!(path("deployments", None).unwrap(), "/apis/apps/v1/deployments");
        let error = path("widgets", None).unwrap_err().to_string();
        assert!(error.contains("\"widgets\"") && error.contains("tests/src/api.rs"), "{error}");
    }
}
