//! The self-test: the process sends itself a request with the golden row, over its own listener like any client, so that
//! the whole path of a request is tested.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use canopy_contract::predict::PredictRequest;
use canopy_runtime::server::listen::reachable;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::engine::head::Answer;
use crate::serving::app::{PROOF_HEADER, ProofToken};

/// A proof that takes longer than this has failed and is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Why there is no answer to compare.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The listener did not answer, which may pass.
    #[error("failed to ask {address}: {reason}")]
    Unreachable {
        /// The listener.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The listener answered, but with no prediction.
    #[error("golden row was answered with {status}: {body}")]
    NoPrediction {
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
}

/// Sends a request of one row to the predictor that listens on `listening`.
pub async fn ask(
    listening: SocketAddr,
    token: &ProofToken,
    request: &PredictRequest,
) -> Result<Answer, ProofError> {
    let address = reachable(listening);
    let unreachable = |reason: String| ProofError::Unreachable { address, reason };
    let asked = tokio::time::timeout(PATIENCE, send(address, token, request)).await;
    let (status, body) = asked
        .map_err(|_| unreachable(format!("no answer in {} seconds", PATIENCE.as_secs())))?
        .map_err(|error| unreachable(error.to_string()))?;
    let answer = serde_json::from_slice(&body).ok().filter(|_| status == StatusCode::OK);
    answer.ok_or_else(|| {
        let body = String::from_utf8_lossy(&body).chars().take(200).collect();
        ProofError::NoPrediction { status, body }
    })
}

async fn send(
    address: SocketAddr,
    token: &ProofToken,
    request: &PredictRequest,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let body = serde_json::to_vec(request)?;
    let request = Request::post("/predict")
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header(PROOF_HEADER, token.as_str())
        .body(Full::<Bytes>::from(body))?;
    let stream = TcpStream::connect(address).await?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let answer = client.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await?.to_bytes();
        Ok((status, body))
    };
    // The connection only moves bytes; it ends when the exchange lets go of its client.
    let (exchanged, _) = tokio::join!(exchange, connection);
    exchanged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_and_an_invalid_answer_are_different_errors() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let nonsense = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        });
        let error = ask(address, &ProofToken::new(), &PredictRequest::row(&[1.0], &[])).await.unwrap_err();
        assert_eq!(error.to_string(), "golden row was answered with 200 OK: hi");
        nonsense.await.unwrap();

        let error = ask(address, &ProofToken::new(), &PredictRequest::row(&[1.0], &[])).await.unwrap_err();
        assert!(matches!(error, ProofError::Unreachable { .. }), "{error}");
    }
}
