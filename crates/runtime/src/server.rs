//! Serves a router over HTTP/1.1 and HTTP/2 without TLS until shutdown, then drains.
//!
//! During the drain the listener stays open, and responses make clients close their connections.

pub mod listen;
pub mod workers;
pub mod connections;
mod memory_limit;
pub mod body_memory;
mod timeouts;
pub mod response_body;
pub mod host_check;
mod socket;
mod service;
mod connection;

use std::io;
use std::net::{self, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::connection::ConnectionOptions;
pub use crate::server::connection::Timing;
use crate::server::connections::Connections;
use crate::server::host_check::AllowedHosts;
use crate::server::workers::Workers;
use crate::shutdown::Shutdown;

/// Pause before the next accept after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The number of refused clients that get a response at the same time; the connections of others are closed at once.
const REFUSED_WITH_WORDS: usize = 64;

/// The options of a server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The threads that serve connections.
    pub workers: Workers,
    /// The limit of open connections.
    pub connections: Connections,
    /// Time-outs of quiet connections.
    pub timing: Timing,
    /// How long the listener stays open after the shutdown has begun, so that all clients can switch to other servers.
    pub drain: Duration,
    /// The time limit for requests in flight after the drain.
    pub grace: Duration,
    /// The response to a request whose handler panicked.
    pub on_panic: fn() -> Response,
    /// The hosts that requests may name.
    pub hosts: AllowedHosts,
    /// The response to a request that names another host.
    pub on_wrong_host: fn() -> Response,
    /// Whether requests have the extension [`Peer`], which costs an allocation.
    pub tells_peer: bool,
}

/// The remote address of the connection of a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves until shutdown, and returns when the last request has ended or `grace` is over.
pub async fn serve(listener: TcpListener, router: Router, options: ServeOptions, shutdown: Shutdown) {
    let ServeOptions {
        workers,
        connections,
        timing,
        drain,
        grace,
        on_panic,
        hosts,
        on_wrong_host,
        tells_peer,
    } = options;
    let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
    let refusals = Arc::new(Semaphore::new(REFUSED_WITH_WORDS));
    let connection_options = ConnectionOptions {
        on_panic,
        hosts,
        on_wrong_host,
        timing,
        shutdown: shutdown.clone(),
        closing: closing.clone(),
    };
    let mut drained = pin!(async {
        shutdown.triggered().await;
        tokio::time::sleep(drain).await;
    });
    loop {
        let (stream, peer) = tokio::select! {
            // Detached from this runtime, because the runtime of a worker serves it.
            accepted = listener.accept() => match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok(accepted) => accepted,
                Err(error) => {
                    handle_accept_error(&error).await;
                    continue;
                }
            },
            () = &mut drained => break,
        };
        let Some(open) = connections.admit(peer.ip()) else {
            refuse(stream, connections.max(), &workers, &tasks, &refusals);
            continue;
        };
        let router = if tells_peer { router.clone().layer(Extension(Peer(peer))) } else { router.clone() };
        let served = connection::serve(stream, router, connection_options.clone());
        workers.spawn(&tasks, async move {
            served.await;
            drop(open);
        });
    }
    drop(listener);
    closing.cancel();
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            "dropped connections that were still open after the grace period"
        );
    }
}

/// Closes a connection beyond the limit, with a response unless too many are being refused.
fn refuse(
    stream: net::TcpStream,
    max: usize,
    workers: &Workers,
    tasks: &TaskTracker,
    refusals: &Arc<Semaphore>,
) {
    tracing::warn!(
        max,
        "refused a connection: the maximum is open; raise CANOPY_MAX_CONNECTIONS or add replicas"
    );
    if let Ok(permit) = refusals.clone().try_acquire_owned() {
        workers.spawn(tasks, async move {
            connection::refuse(stream).await;
            drop(permit);
        });
    }
}

/// Logs a failed accept and pauses, unless the client disconnected before it was accepted.
async fn handle_accept_error(error: &io::Error) {
    let left = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if !left.contains(&error.kind()) {
        tracing::error!(%error, "failed to accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_process_without_descriptors_waits_before_it_accepts_again() {
        const EMFILE: i32 = 24;
        let refused = |error: io::Error| async move { handle_accept_error(&error).await };
        assert!(refused(io::Error::from_raw_os_error(EMFILE)).now_or_never().is_none(), "it must pause");
        let left = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert!(refused(left).now_or_never().is_some(), "a client that disconnected is no reason to pause");
    }
}
