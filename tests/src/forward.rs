//! A tunnel from this machine to a port of a pod, by `kubectl port-forward`. It is closed when the value is dropped.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::http::{Reply, client, send};
use crate::kubernetes::kubectl_running;
use crate::process::Process;
use crate::wait::{SOON, until};

/// A tunnel to a port of a pod.
#[derive(Debug)]
pub struct Forward {
    /// The pod.
    pub pod: String,
    address: SocketAddr,
    client: Client,
    _tunnel: Process,
}

impl Forward {
    /// Opens a tunnel to `port` of `pod`, and returns when it is open.
    pub async fn open(namespace: &str, pod: &str, port: u16) -> Result<Self> {
        let (of, ports) = (format!("pod/{pod}"), format!(":{port}"));
        let mut tunnel = kubectl_running(&["port-forward", "--namespace", namespace, &of, &ports])?;
        let what = format!("a tunnel to {pod}");
        let address = until(&what, SOON, async || {
            let lines = tunnel.lines();
            tunnel.still_runs()?;
            let open = lines.iter().find_map(|line| line.strip_prefix("Forwarding from ")?.split(' ').next());
            Ok(open.with_context(|| format!("it is not open yet: {lines:?}"))?.parse()?)
        });
        Ok(Self { pod: pod.to_owned(), address: address.await?, client: client()?, _tunnel: tunnel })
    }

    /// The response to a GET.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        send(self.client.get(format!("http://{}{path}", self.address))).await
    }

    /// The response to a POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        send(self.posting(path, body)).await
    }

    /// The same with the header `traceparent`.
    pub async fn post_within(&self, parent: &str, path: &str, body: &Value) -> Result<Reply> {
        send(self.posting(path, body).header("traceparent", parent)).await
    }

    fn posting(&self, path: &str, body: &Value) -> RequestBuilder {
        let request = self.client.post(format!("http://{}{path}", self.address));
        request.header("content-type", "application/json").body(body.to_string())
    }

    /// A gateway's response to a prediction request with one row.
    pub async fn predict(&self, model: &str, features: &[f64]) -> Result<Reply> {
        self.post(&format!("/api/models/{model}/predict"), &json!({"features": features})).await
    }
}
