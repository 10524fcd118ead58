//! A TLS listener with a self-signed certificate, for servers of tests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::serve::Listener;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// A listener with a self-signed certificate.
#[expect(missing_debug_implementations, reason = "an acceptor has none")]
pub struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    /// The certificate to trust, as PEM.
    pub certificate: String,
}

impl Tls {
    /// Listens at `address`, for whose IP the certificate is.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([address.ip().to_string()])?;
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
        let config = config.with_single_cert(vec![cert.der().clone()], key)?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("failed to listen at {address}"))?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), certificate: cert.pem() })
    }
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // The handshake fails for a client that does not trust the certificate.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
