//! A server in place of a predictor, which responds to every connection with the same bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running server.
#[derive(Debug)]
pub struct FakePredictor {
    connections: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl FakePredictor {
    /// Starts it at `address`; after `bytes` it closes the connection.
    pub async fn start(address: SocketAddr, bytes: &[u8]) -> Result<Self> {
        let bytes: Arc<[u8]> = bytes.into();
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("failed to listen at {address}"))?;
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(stream, bytes.clone()));
            }
        });
        Ok(Self { connections, server })
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Stops it; the address is free afterwards.
    pub async fn stop(self) {
        self.server.abort();
        drop(self.server.await);
    }
}

/// The client may close the connection at any time.
async fn answer(mut stream: TcpStream, bytes: Arc<[u8]>) {
    let mut request = [0; 4096];
    if stream.read(&mut request).await.is_ok_and(|n| n > 0) {
        drop(stream.write_all(&bytes).await);
        drop(stream.shutdown().await);
    }
}
