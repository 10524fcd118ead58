//! One client connection to a measured server. Every response is checked, and no request is sent again.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::call::{Call, Question};

/// A keep-alive connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // This task ends with the sender, which gets the error if the connection breaks.
        tokio::task::spawn_local(connection);
        Ok(Self { sender, host: HeaderValue::try_from(address.to_string())? })
    }

    /// Sends one request, reads the whole response and checks it.
    pub(crate) async fn ask(&mut self, call: &Call, question: &Question) -> Result<()> {
        let mut request = Request::new(Full::new(question.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = http::Uri::from_static(call.path);
        request.headers_mut().insert(HOST, self.host.clone());
        if !question.body.is_empty() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.sender.ready().await.context("connection lost")?;
        let answer = self.sender.send_request(request).await.context("no response")?;
        let status = answer.status();
        let body = answer.into_body().collect().await.context("incomplete response")?.to_bytes();
        question.check(status, &body).map_err(|wrong| anyhow!(wrong))
    }
}
