//! Worker threads. Each connection is served by one worker from its first request to its last.
//!
//! Workers share no connections, and no request waits for two workers.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// The index of the current worker thread, for data that workers do not share; 0 on other threads.
pub fn worker_index() -> usize {
    PLACE.get()
}

/// The worker threads of a process.
#[derive(Clone, Debug)]
pub struct Workers(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: AtomicUsize,
}

impl Workers {
    /// No threads: connections are served by the current runtime.
    pub fn here() -> Self {
        Self(Arc::new([Worker::of(Handle::current())]))
    }

    /// Serves a connection on the worker with the fewest connections, in a task of `tracker`.
    pub(crate) fn spawn<F>(&self, tracker: &TaskTracker, connection: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let by_connections = |&place: &usize| self.0[place].connections.load(Ordering::Relaxed);
        let Some(place) = (0..self.0.len()).min_by_key(by_connections) else { return };
        let counted = Counted::new(self.clone(), place);
        let runtime = &self.0[place].runtime;
        tracker.spawn_on(
            async move {
                connection.await;
                drop(counted);
            },
            runtime,
        );
    }
}

impl Worker {
    fn of(runtime: Handle) -> Self {
        Self { runtime, connections: AtomicUsize::new(0) }
    }
}

/// One connection of a worker, until it is dropped.
struct Counted {
    workers: Workers,
    place: usize,
}

impl Counted {
    fn new(workers: Workers, place: usize) -> Self {
        workers.0[place].connections.fetch_add(1, Ordering::Relaxed);
        Self { workers, place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.workers.0[self.place].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Worker threads, which end when this is dropped.
#[derive(Debug)]
pub(crate) struct Threads {
    end: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts `count` workers.
    pub(crate) fn start(count: usize) -> io::Result<(Self, Workers)> {
        let mut all = Self { end: CancellationToken::new(), threads: Vec::with_capacity(count) };
        let mut workers = Vec::with_capacity(count);
        for place in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.push(Worker::of(runtime.handle().clone()));
            let end = all.end.clone();
            let thread = thread::Builder::new().name(format!("worker-{place}")).spawn(move || {
                PLACE.set(place);
                runtime.block_on(end.cancelled());
                // Blocking work whose client has disconnected must not delay the end.
                runtime.shutdown_background();
            })?;
            all.threads.push(thread);
        }
        Ok((all, Workers(workers.into())))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end.cancel();
        for thread in self.threads.drain(..) {
            // A panic of the thread was logged.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tokio::sync::{mpsc, oneshot};

    #[tokio::test]
    async fn a_connection_is_served_by_the_worker_with_the_fewest() {
        let (threads, workers) = Threads::start(3).unwrap();
        let tracker = TaskTracker::new();
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut begin = async |count: usize| {
            let mut ends: BTreeMap<usize, Vec<oneshot::Sender<()>>> = BTreeMap::new();
            for _ in 0..count {
                let (end, ended) = oneshot::channel::<()>();
                let tell = tell.clone();
                workers.spawn(&tracker, async move {
                    tell.send(worker_index()).unwrap();
                    drop(ended.await);
                });
                ends.entry(told.recv().await.unwrap()).or_default().push(end);
            }
            ends
        };
        let mut ends = begin(6).await;
        assert_eq!(ends.values().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        drop(ends.remove(&1));
        while workers.0[1].connections.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(begin(2).await.into_keys().collect::<Vec<_>>(), [1], "it has none by now");
        drop(threads);
    }
}
