//! Limits the bytes of request bodies in memory, over all connections of a process.
//!
//! Bodies are admitted before they are read. Small bodies have a separate part of the limit, counted per worker: workers
//! share no counter for them, and large bodies cannot displace them.
//!
//! Invariant: the bytes held are at most the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::body::SizeHint;

use crate::metrics::{HoldsBytes, Registry};
use crate::server::memory_limit;
use crate::server::workers::worker_index;

/// The maximum length of a small body.
const SMALL: usize = 16 << 10;
/// Counters of small bodies; workers beyond share them.
const SHARDS: usize = 8;
/// The number of workers that share the part for small bodies.
const WORKERS: usize = 4;
/// The divisor of the limit for small bodies.
const SMALL_PART: usize = 4;
/// The divisor of the process memory. A body of numbers takes up to eight times its length in memory, so this leaves half.
const MEMORY_PART: usize = 16;
/// The limit if the memory of the process is not limited.
const DEFAULT_MAX: usize = 64 << 20;

/// The limit and the counters.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    small: [Shard; SHARDS],
    small_max: usize,
    large: AtomicUsize,
    large_max: usize,
}

/// A counter on its own cache line, which prevents false sharing.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(AtomicUsize);

/// The limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of memory for request bodies is reached; try again later")]
pub struct Full;

/// Counted bytes of one body, released on drop.
#[derive(Debug)]
pub struct Reservation {
    bodies: BodyMemory,
    /// The counter of small bodies that this one is in.
    shard: Option<usize>,
    bytes: usize,
}

/// The default limit: a sixteenth of the memory limit of the container, at most 64 MiB, and at least enough for one body of
/// `body_max` bytes.
pub fn default_max(body_max: usize) -> usize {
    max_for(memory_limit::limit(), body_max)
}

fn max_for(memory: Option<usize>, body_max: usize) -> usize {
    let max = memory.map_or(DEFAULT_MAX, |memory| (memory / MEMORY_PART).min(DEFAULT_MAX));
    // The part for large bodies must have room for one.
    max.max(body_max.saturating_add(body_max / (SMALL_PART - 1)).saturating_add(1))
}

impl BodyMemory {
    /// A limit of `max` bytes. `registry` reports the bytes in use.
    pub fn new(max: usize, registry: &Registry) -> Self {
        let small = max / SMALL_PART;
        let bodies = Self(Arc::new(Inner {
            small: Default::default(),
            small_max: small / WORKERS,
            large: AtomicUsize::new(0),
            large_max: max - small,
        }));
        let holder: Arc<dyn HoldsBytes> = bodies.0.clone();
        registry.bodies().watch(Arc::downgrade(&holder));
        bodies
    }

    /// Admits a body of the declared length. A small body is counted at once. Others are counted as they arrive
    /// ([`Reservation::grow`]), so a declared length alone takes nothing from others.
    pub fn admit(&self, length: &SizeHint) -> Result<Reservation, Full> {
        let Inner { small, small_max, large, large_max } = &*self.0;
        let declared = usize::try_from(length.lower()).unwrap_or(usize::MAX);
        if declared <= SMALL && length.exact().is_some() {
            let shard = worker_index() % SHARDS;
            let Shard(held) = &small[shard];
            if add(held, declared, *small_max) {
                return Ok(Reservation { bodies: self.clone(), shard: Some(shard), bytes: declared });
            }
        }
        if large.load(Ordering::Relaxed).saturating_add(declared) > *large_max {
            return Err(Full);
        }
        Ok(Reservation { bodies: self.clone(), shard: None, bytes: 0 })
    }

    /// The number of bytes in memory.
    pub fn held(&self) -> usize {
        self.0.held()
    }
}

impl Inner {
    fn held(&self) -> usize {
        let small: usize = self.small.iter().map(|Shard(held)| held.load(Ordering::Relaxed)).sum();
        small + self.large.load(Ordering::Relaxed)
    }
}

impl HoldsBytes for Inner {
    fn bytes(&self) -> usize {
        self.held()
    }
}

impl Reservation {
    /// Counts bytes that have arrived, unless the body was counted at once.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        if self.shard.is_some() {
            return Ok(());
        }
        let Inner { large, large_max, .. } = &*self.bodies.0;
        if !add(large, bytes, *large_max) {
            return Err(Full);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Reservation {
    /// The number of bytes that are counted.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Inner { small, large, .. } = &*self.bodies.0;
        let counter = self.shard.map_or(large, |shard| &small[shard].0);
        counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Adds to a counter unless it would be more than `max`.
fn add(counter: &AtomicUsize, bytes: usize, max: usize) -> bool {
    let before = counter.fetch_add(bytes, Ordering::Relaxed);
    let is_room = before.saturating_add(bytes) <= max;
    if !is_room {
        counter.fetch_sub(bytes, Ordering::Relaxed);
    }
    is_room
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn admit(bodies: &BodyMemory, length: usize) -> Result<Reservation, Full> {
        bodies.admit(&SizeHint::with_exact(length as u64))
    }

    #[test]
    fn the_limit_follows_from_the_memory_and_has_room_for_a_body() {
        let check = |memory, expected| assert_eq!(max_for(memory, 2 * MIB), expected, "{memory:?}");
        check(None, 64 * MIB);
        check(Some(256 * MIB), 16 * MIB);
        check(Some(64 << 30), 64 * MIB);
        let least = max_for(Some(MIB), 2 * MIB);
        let bodies = BodyMemory::new(least, &Registry::new());
        assert!(admit(&bodies, 2 * MIB).unwrap().grow(2 * MIB).is_ok(), "{least}");
    }

    #[test]
    fn large_bodies_are_counted_as_they_arrive_and_small_ones_have_reserved_memory() {
        let bodies = BodyMemory::new(16 * MIB, &Registry::new());
        let declared: Vec<_> = (0..100).map(|_| admit(&bodies, 2 * MIB).unwrap()).collect();
        assert_eq!(bodies.held(), 0, "nothing has arrived");
        drop(declared);

        let mut large = Vec::new();
        while let Ok(mut held) = admit(&bodies, 2 * MIB) {
            held.grow(2 * MIB).unwrap();
            large.push(held);
        }
        assert_eq!((large.len(), bodies.held()), (6, 12 * MIB));
        let mut unknown = bodies.admit(&SizeHint::new()).unwrap();
        assert_eq!(unknown.grow(1), Err(Full), "of a length that is not known");

        let small: Vec<_> = (0..100).map_while(|_| admit(&bodies, 10_000).ok()).collect();
        assert_eq!(small.len(), 100);
        assert_eq!(bodies.held(), 12 * MIB + 1_000_000);
        drop((large, small));
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn reserved_memory_never_exceeds_the_limit() {
        let bodies = BodyMemory::new(MIB, &Registry::new());
        let mut all = Vec::new();
        for length in [1, 10_000, 16_384, 40_000].iter().cycle().take(1000) {
            if let Ok(mut held) = admit(&bodies, *length) {
                // A body for which there is no memory is refused.
                let _ = held.grow(*length);
                all.push(held);
            }
            assert!(bodies.held() <= MIB, "{}", bodies.held());
        }
    }
}
