//! Graceful shutdown: SIGTERM, SIGINT or a call withdraws readiness and notifies every part of the process.
//!
//! Each part ends by itself when it has finished. A second SIGINT ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// The exit code of a process that was interrupted before it had finished: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// A signal to all parts of a process that it is shutting down.
#[derive(Clone, Debug)]
pub struct Shutdown {
    readiness: Readiness,
    token: CancellationToken,
    /// Whether `token` is cancelled; the token has a lock, and every response checks this.
    is_triggered: Arc<AtomicBool>,
}

impl Shutdown {
    /// Not triggered yet.
    pub fn new(readiness: Readiness) -> Self {
        Self { readiness, token: CancellationToken::new(), is_triggered: Arc::default() }
    }

    /// Triggered by SIGTERM or SIGINT from now on.
    pub fn on_signals(readiness: Readiness) -> std::io::Result<Self> {
        let shutdown = Self::new(readiness);
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let triggered = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!("shutting down");
            triggered.trigger();
            if interrupt.recv().await.is_some() {
                // The user pressed ctrl-C again: requests in flight and spans are dropped.
                std::process::exit(INTERRUPTED);
            }
        });
        Ok(shutdown)
    }

    /// Begins the shutdown. `/ready` fails from now on.
    pub fn trigger(&self) {
        self.readiness.leave();
        self.is_triggered.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether the shutdown has begun.
    pub fn is_triggered(&self) -> bool {
        self.is_triggered.load(Ordering::Acquire)
    }

    /// Waits until the shutdown begins.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }
}
