//! The pods of a cluster as an HTTP service discovery for Prometheus, with the labels of its Kubernetes discovery, which Debian's
//! Prometheus does not have.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::api;

/// A server of the list.
#[derive(Debug)]
pub struct PodList {
    address: SocketAddr,
    server: JoinHandle<std::io::Result<()>>,
}

impl PodList {
    /// Starts one on a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/", get(answer));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, server })
    }

    /// The URL of the list.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for PodList {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer() -> Result<Json<Value>, (StatusCode, String)> {
    let listed = spawn_blocking(|| api::list("pods", None, "")).await;
    let targets =
        listed.context("the look-up panicked").and_then(|listed| targets(&json!({"items": listed?})));
    targets.map(Json).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")))
}

/// One target for each port of each container of each pod that has an address.
fn targets(pods: &Value) -> Result<Value> {
    let mut targets = Vec::new();
    for pod in pods["items"].as_array().context("a list of pods has items")? {
        let Some(address) = pod["status"]["podIP"].as_str() else { continue };
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        for port in containers.flat_map(|container| container["ports"].as_array().into_iter().flatten()) {
            targets.push(json!({
                "targets": [format!("{address}:{}", port["containerPort"])],
                "labels": {
                    "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
                    "__meta_kubernetes_pod_name": pod["metadata"]["name"],
                    "__meta_kubernetes_pod_label_app_kubernetes_io_name":
                        pod["metadata"]["labels"]["app.kubernetes.io/name"].as_str().unwrap_or_default(),
                    "__meta_kubernetes_pod_container_port_name": port["name"].as_str().unwrap_or_default(),
                    "__meta_kubernetes_pod_container_port_number": port["containerPort"].to_string(),
                },
            }));
        }
    }
    Ok(json!(targets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_the_labels_of_the_discovery_by_kubernetes() {
        let pods = json!({"items": [
            {
                "metadata": {"namespace": "shop", "name": "iris-1", "labels": {"app.kubernetes.io/name": "canopy-predictor"}},
                "spec": {"containers": [{"ports": [{"name": "admin", "containerPort": 9001}]}]},
                "status": {"podIP": "10.0.0.7"},
            },
            {"metadata": {"namespace": "shop", "name": "pending"}, "spec": {"containers": [{"ports": [{"containerPort": 1}]}]}, "status": {}},
        ]});
        let found = targets(&pods).unwrap();
        assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
        assert_eq!(found[0]["targets"][0], "10.0.0.7:9001");
        let labels = &found[0]["labels"];
        assert_eq!(labels["__meta_kubernetes_pod_label_app_kubernetes_io_name"], "canopy-predictor");
        assert_eq!(labels["__meta_kubernetes_pod_container_port_number"], "9001");
    }
}
