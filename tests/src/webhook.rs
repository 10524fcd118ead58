//! An admission webhook that makes a real API server refuse writes with a given status. It never changes an object.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Result;
use axum::extract::State;
use axum::routing::post;
use axum::serve::Listener as _;
use axum::{Json, Router};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::tls::Tls;

/// A running webhook.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    certificate: String,
    status: Arc<AtomicU16>,
    server: JoinHandle<()>,
}

impl Webhook {
    /// Starts it at a free port of `ip`; it refuses nothing.
    pub async fn start(ip: IpAddr) -> Result<Self> {
        let tls = Tls::bind(SocketAddr::new(ip, 0)).await?;
        let (address, certificate) = (tls.local_addr()?, BASE64.encode(tls.certificate.as_bytes()));
        let status = Arc::<AtomicU16>::default();
        let router = Router::new().route("/", post(review)).with_state(status.clone());
        // The listener is closed when the task ends.
        let server = tokio::spawn(async { drop(axum::serve(tls, router).await) });
        Ok(Self { address, certificate, status, server })
    }

    /// The `clientConfig` for the API server.
    pub fn client_config(&self) -> Value {
        json!({"url": format!("https://{}/", self.address), "caBundle": self.certificate})
    }

    /// Refuses every write with `status` from now on.
    pub fn refuse_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Refuses nothing from now on.
    pub fn allow_all(&self) {
        self.status.store(0, Ordering::Relaxed);
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn review(State(status): State<Arc<AtomicU16>>, Json(asked): Json<Value>) -> Json<Value> {
    let mut response = json!({"uid": asked["request"]["uid"], "allowed": true});
    let status = status.load(Ordering::Relaxed);
    if status != 0 {
        response["allowed"] = json!(false);
        response["status"] = json!({"code": status, "message": "refused by the webhook of a test"});
    }
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::Ipv4Addr;

    use crate::http::{client_that_trusts, send};

    #[tokio::test]
    async fn a_refusal_has_the_form_that_the_api_server_expects() {
        let webhook = Webhook::start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        let config = webhook.client_config();
        let certificate = BASE64.decode(config["caBundle"].as_str().unwrap().as_bytes()).unwrap();
        let client = client_that_trusts(&certificate).unwrap();
        let ask = async || {
            let body = json!({"request": {"uid": "u1"}}).to_string();
            let request = client.post(config["url"].as_str().unwrap()).body(body);
            send(request.header("content-type", "application/json")).await.unwrap().json().unwrap()
        };
        assert_eq!(ask().await["response"], json!({"uid": "u1", "allowed": true}));
        webhook.refuse_with(429);
        let answer = ask().await;
        assert_eq!(answer["response"]["status"]["code"], 429);
        assert_eq!(
            (&answer["response"]["uid"], &answer["response"]["allowed"]),
            (&json!("u1"), &json!(false))
        );
        webhook.allow_all();
        assert_eq!(ask().await["response"]["allowed"], true);
    }
}
