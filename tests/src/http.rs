//! An HTTP client for tests. A response with an error status is returned, not an error.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder};
use serde_json::Value;

/// The longest time for a request, so that a test that hangs shows where.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A complete response.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Reply {
    /// The body, read as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("the body is not JSON: {}", self.text))
    }

    /// The value of a header; empty if there is no such header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A client with its own connections, for HTTP on this machine.
pub fn client() -> Result<Client> {
    // Without this it would load the certificates of the system, and fail if there are none.
    client_that_trusts(&[])
}

/// A client that trusts these certificates, as PEM, and no others.
pub fn client_that_trusts(certificates: &[u8]) -> Result<Client> {
    client_with(certificates, |builder| builder)
}

/// The same with more settings.
pub fn client_with(certificates: &[u8], more: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let certificates = Certificate::from_pem_bundle(certificates)?;
    Ok(more(Client::builder().tls_certs_only(certificates).no_proxy().timeout(TIMEOUT)).build()?)
}

/// Sends a request and reads the whole response.
pub async fn send(request: RequestBuilder) -> Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Reply { status, headers, text: response.text().await? })
}
