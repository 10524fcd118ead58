//! Serves a router on a socket until the order to stop, then drains: nothing that was accepted is lost.
//!
//! Comes in: a listener and a router. Goes out: answers, over HTTP/1.1 and HTTP/2 without TLS. Never: a closed
//! door while clients may still come; they are told to go elsewhere first.

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

use crate::server::connection::Terms;
pub use crate::server::connection::Timing;
use crate::server::connections::Connections;
use crate::server::host_check::AllowedHosts;
use crate::server::workers::Workers;
use crate::shutdown::Shutdown;

/// How long to wait before accepting again when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many clients at once are told that there are too many; others find the connection closed.
const REFUSED_WITH_WORDS: usize = 64;

/// How a server serves and how it ends.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Who answers.
    pub workers: Workers,
    /// How many connections there may be.
    pub connections: Connections,
    /// How long a connection may be quiet.
    pub timing: Timing,
    /// How long the door stays open after the order to stop: until every client has heard of it.
    pub drain: Duration,
    /// How long requests that are in flight after that may take.
    pub grace: Duration,
    /// What a caller is told when the code that should have answered panicked.
    pub on_panic: fn() -> Response,
    /// The hosts that requests may name.
    pub hosts: AllowedHosts,
    /// The response to a request that names another host.
    pub on_wrong_host: fn() -> Response,
    /// Whether a request says who sent it, as an extension [`Peer`]; it costs an allocation.
    pub tells_peer: bool,
}

/// Who has opened the connection that a request came over.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves until the order to stop and returns when the last request is answered, or `grace` is over.
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
    let terms = Terms {
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
            // Out of this runtime: a worker's takes it in.
            accepted = listener.accept() => match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok(accepted) => accepted,
                Err(error) => {
                    refused_by_system(&error).await;
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
        let served = connection::serve(stream, router, terms.clone());
        workers.spawn(&tasks, async move {
            served.await;
            drop(open);
        });
    }
    drop(listener);
    closing.cancel();
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "gave up on requests that did not end in time");
    }
}

/// Closes a connection that is one too many, after a word to the client if few are being told.
fn refuse(
    stream: net::TcpStream,
    max: usize,
    workers: &Workers,
    tasks: &TaskTracker,
    refusals: &Arc<Semaphore>,
) {
    tracing::warn!(max, "refused a connection: there are too many; see CANOPY_MAX_CONNECTIONS");
    if let Ok(permit) = refusals.clone().try_acquire_owned() {
        workers.spawn(tasks, async move {
            connection::refuse(stream).await;
            drop(permit);
        });
    }
}

/// A client that left before it was accepted is nobody's fault; anything else is worth a line and a pause.
async fn refused_by_system(error: &io::Error) {
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
        let refused = |error: io::Error| async move { refused_by_system(&error).await };
        assert!(refused(io::Error::from_raw_os_error(EMFILE)).now_or_never().is_none(), "it pauses");
        let left = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert!(refused(left).now_or_never().is_some(), "a client that has left is no reason to wait");
    }
}
