//! Activity counters of a connection, and the time-outs that are detected from them.
//!
//! Requests update counters without reading a clock; a timer that fires seldom compares them ([`Watch`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::Notify;

/// The number of checks in a row at which a head may be incomplete.
const HEAD_LOOKS: u32 = 2;
/// The number of checks in a row at which a long response may have made no progress.
const UNREAD_LOOKS: u32 = 2;

/// The counters of a connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests whose head was received.
    requests: AtomicU32,
    /// Requests in flight.
    in_flight: AtomicU32,
    /// Writes to the socket.
    writes: AtomicU32,
    /// Long responses that are not completely sent.
    unread: AtomicU32,
    /// Chunks of them that were sent.
    pieces: AtomicU32,
    /// HTTP/1: the request line of the current head was read completely.
    has_line: AtomicBool,
    /// HTTP/1: bytes of the next head have arrived.
    head_begun: AtomicBool,
    /// HTTP/1: the request line is longer than the limit.
    is_line_too_long: AtomicBool,
    /// The body of the last request was not read to its end.
    is_body_unread: AtomicBool,
    /// Notified by the first request.
    first_request: Notify,
}

impl Activity {
    /// Counts a request whose head has arrived as in flight until the guard is dropped.
    pub(crate) fn begins(&self) -> InFlight<'_> {
        if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first_request.notify_one();
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_begun.store(false, Ordering::Relaxed);
        self.has_line.store(true, Ordering::Relaxed);
        self.is_body_unread.store(false, Ordering::Relaxed);
        InFlight(self)
    }

    /// Returns after the first request.
    pub(crate) async fn first_request(&self) {
        self.first_request.notified().await;
    }

    /// Counts a write of a response.
    pub(crate) fn wrote(&self) {
        // Only the connection's own task writes.
        self.writes.store(self.writes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether the next bytes belong to a request line.
    pub(crate) fn is_in_line(&self) -> bool {
        !self.has_line.load(Ordering::Relaxed)
    }

    /// Records that bytes of a request line have arrived; `is_whole` if they include its end.
    pub(crate) fn read_line(&self, is_whole: bool) {
        self.head_begun.store(true, Ordering::Relaxed);
        self.has_line.store(is_whole, Ordering::Relaxed);
    }

    /// Records that the request line is longer than the limit.
    pub(crate) fn line_is_too_long(&self) {
        self.is_line_too_long.store(true, Ordering::Relaxed);
    }

    /// Whether the connection ends because a request line was longer than the limit.
    pub(crate) fn is_line_too_long(&self) -> bool {
        self.is_line_too_long.load(Ordering::Relaxed)
    }

    /// Records that the body of a request was not read to its end.
    pub(crate) fn body_is_unread(&self) {
        self.is_body_unread.store(true, Ordering::Relaxed);
    }

    /// Whether the client may still be sending the body of the last request.
    pub(crate) fn is_body_unread(&self) -> bool {
        self.is_body_unread.load(Ordering::Relaxed)
    }
}

/// A long response that is not completely sent.
#[derive(Debug)]
pub(crate) struct Unread(Arc<Activity>);

impl Activity {
    /// Counts a long response as unread until the guard is dropped.
    pub(crate) fn owes(this: &Arc<Self>) -> Unread {
        this.unread.fetch_add(1, Ordering::Relaxed);
        Unread(this.clone())
    }
}

impl Unread {
    /// Counts a chunk that was sent.
    pub(crate) fn progressed(&self) {
        self.0.pieces.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.0.unread.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Activity);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.head_begun.store(false, Ordering::Relaxed);
        self.0.has_line.store(false, Ordering::Relaxed);
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// In use, or used recently.
    Active,
    /// The head of a request takes too long to arrive.
    SlowHead,
    /// The client does not read its responses.
    Unread,
    /// Nothing has happened for too long.
    Idle,
}

/// Checks a connection periodically.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    requests: u32,
    writes: u32,
    quiet: u32,
    heads: u32,
    pieces: u32,
    unread: u32,
}

impl Watch {
    /// Compares the counters with those of the last check; a connection may be quiet for `idle_looks` checks.
    pub(crate) fn look(&mut self, activity: &Activity, idle_looks: u32) -> Finding {
        let requests = activity.requests.load(Ordering::Relaxed);
        let writes = activity.writes.load(Ordering::Relaxed);
        let is_in_flight = activity.in_flight.load(Ordering::Relaxed) > 0;
        let pieces = activity.pieces.load(Ordering::Relaxed);
        let is_stuck = activity.unread.load(Ordering::Relaxed) > 0 && pieces == self.pieces;
        self.unread = if is_stuck { self.unread + 1 } else { 0 };
        self.pieces = pieces;
        if self.unread > UNREAD_LOOKS {
            return Finding::Unread;
        }
        if is_in_flight || requests != self.requests || writes != self.writes {
            *self = Self { requests, writes, quiet: 0, heads: 0, ..*self };
        }
        if !is_in_flight && activity.head_begun.load(Ordering::Relaxed) {
            self.heads += 1;
            return if self.heads >= HEAD_LOOKS { Finding::SlowHead } else { Finding::Active };
        }
        if is_in_flight {
            return Finding::Active;
        }
        self.quiet += 1;
        if self.quiet > idle_looks { Finding::Idle } else { Finding::Active }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Finding::{Active, Idle, SlowHead, Unread};

    fn looks(watch: &mut Watch, activity: &Activity, count: usize) -> Vec<Finding> {
        (0..count).map(|_| watch.look(activity, 3)).collect()
    }

    #[test]
    fn a_connection_without_traffic_is_idle_and_each_request_restarts_the_time() {
        let (activity, mut watch) = (Activity::default(), Watch::default());
        assert_eq!(looks(&mut watch, &activity, 4), [Active, Active, Active, Idle]);
        drop(activity.begins());
        assert_eq!(looks(&mut watch, &activity, 4), [Active, Active, Active, Idle]);
        activity.wrote();
        assert_eq!(looks(&mut watch, &activity, 4), [Active, Active, Active, Idle]);
    }

    #[test]
    fn a_connection_with_a_request_in_flight_is_never_idle() {
        let (activity, mut watch) = (Activity::default(), Watch::default());
        let in_flight = activity.begins();
        assert_eq!(looks(&mut watch, &activity, 20), [Active; 20]);
        drop(in_flight);
        assert_eq!(looks(&mut watch, &activity, 4), [Active, Active, Active, Idle]);
    }

    #[test]
    fn an_unread_response_ends_its_connection_and_a_slowly_read_one_does_not() {
        let (activity, mut watch) = (Arc::new(Activity::default()), Watch::default());
        let unread = Activity::owes(&activity);
        for _ in 0..20 {
            unread.progressed();
            assert_eq!(looks(&mut watch, &activity, 2), [Active, Active]);
            // Writes of pings and of other responses do not show that this response is read.
            activity.wrote();
            drop(activity.begins());
        }
        assert_eq!(looks(&mut watch, &activity, 2), [Active, Unread]);
        drop(unread);
        assert_eq!(watch.look(&activity, 3), Active);
    }

    #[test]
    fn the_head_of_a_request_may_take_one_to_two_intervals() {
        let (activity, mut watch) = (Activity::default(), Watch::default());
        assert_eq!(looks(&mut watch, &activity, 3), [Active; 3]);
        activity.read_line(false);
        assert_eq!(looks(&mut watch, &activity, 2), [Active, SlowHead]);

        // Further bytes of the same head do not help, the end of the head does.
        let (activity, mut watch) = (Activity::default(), Watch::default());
        activity.read_line(false);
        assert_eq!(looks(&mut watch, &activity, 1), [Active]);
        activity.read_line(true);
        assert_eq!(watch.look(&activity, 3), SlowHead);
        drop(activity.begins());
        assert_eq!(watch.look(&activity, 3), Active);
    }
}
