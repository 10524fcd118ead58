//! The order to stop: given once, heard by every part.
//!
//! Comes in: SIGTERM, SIGINT, or a call. Goes out: readiness withdrawn at once, then the order. Never: an end
//! of the process; each part ends by itself when it has finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// The exit code of a process that was interrupted before it had finished: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// The order to stop.
#[derive(Clone, Debug)]
pub struct Shutdown {
    readiness: Readiness,
    token: CancellationToken,
    /// The same, for those who only look: the token has a lock, and every answer looks.
    is_triggered: Arc<AtomicBool>,
}

impl Shutdown {
    /// Nobody has ordered it yet.
    pub fn new(readiness: Readiness) -> Self {
        Self { readiness, token: CancellationToken::new(), is_triggered: Arc::default() }
    }

    /// Hears SIGTERM and SIGINT from now on.
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

    /// Gives the order: `/ready` fails from this moment.
    pub fn trigger(&self) {
        self.readiness.leave();
        self.is_triggered.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether the order was given.
    pub fn is_triggered(&self) -> bool {
        self.is_triggered.load(Ordering::Acquire)
    }

    /// Returns when the order is given.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }
}
