//! A server that is where a predictor should be, and answers every connection with the same bytes.
//!
//! Comes in: an address and the bytes. Goes out: how often it was asked. Never: an answer that depends on the
//! question.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running liar.
#[derive(Debug)]
pub struct FakePredictor {
    asked: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl FakePredictor {
    /// Starts to answer at `address`; after `bytes` the connection is closed.
    pub async fn start(address: SocketAddr, bytes: &[u8]) -> Result<Self> {
        let bytes: Arc<[u8]> = bytes.into();
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("failed to listen at {address}"))?;
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(lie(stream, bytes.clone()));
            }
        });
        Ok(Self { asked, server })
    }

    /// How many connections came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Stops; the address is free afterwards.
    pub async fn stop(self) {
        self.server.abort();
        drop(self.server.await);
    }
}

/// Whoever asks may leave at any time; that is no fault of the test.
async fn lie(mut stream: TcpStream, bytes: Arc<[u8]>) {
    let mut question = [0; 4096];
    if stream.read(&mut question).await.is_ok_and(|n| n > 0) {
        drop(stream.write_all(&bytes).await);
        drop(stream.shutdown().await);
    }
}
