//! The cap on open connections of a port, and the share of it that one address may hold.
//!
//! Invariant: a connection that was admitted is counted until its `Open` is dropped.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};

use crate::metrics::{ConnectionFigures, Registry};

/// File descriptors reserved for files, listeners and the database.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Descriptors per connection of a client: it may need a second one for the connection to a predictor.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// The highest default cap: an idle connection takes about 12 KiB.
const DEFAULT_MAX: u64 = 8192;
/// The lowest default cap.
const DEFAULT_MIN: u64 = 16;

/// The default maximum of open connections on a port: half of the file descriptors that the process may have, at most
/// 8192.
pub fn default_max() -> usize {
    max_for(getrlimit(Resource::Nofile).current)
}

fn max_for(descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.unwrap_or(u64::MAX);
    let connections = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_CONNECTION;
    usize::try_from(connections.clamp(DEFAULT_MIN, DEFAULT_MAX)).unwrap_or(usize::MAX)
}

/// The open connections of one port.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    max_per_peer: usize,
    figures: ConnectionFigures,
    // Locked when a connection opens or closes, not for requests.
    open: Mutex<OpenCounts>,
}

#[derive(Debug, Default)]
struct OpenCounts {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

impl Connections {
    /// At most `max` at once. One address may hold three quarters of them, so that the others can still connect.
    pub fn new(max: usize, registry: &Registry) -> Self {
        let (max, figures) = (max.max(1), registry.connections().clone());
        let max_per_peer = (max - max / 4).max(1);
        Self(Arc::new(Inner { max, max_per_peer, figures, open: Mutex::default() }))
    }

    /// The cap.
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Counts a connection of `peer`, or refuses it if too many are open.
    pub(crate) fn admit(&self, peer: IpAddr) -> Option<Open> {
        let peer = network(peer);
        let mut held = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = held.by_peer.get(&peer).copied().unwrap_or_default();
        if held.all >= self.0.max || of_peer >= self.0.max_per_peer {
            self.0.figures.refused.inc();
            return None;
        }
        held.all += 1;
        held.by_peer.insert(peer, of_peer + 1);
        self.0.figures.open.inc();
        Some(Open { connections: self.clone(), peer })
    }
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    connections: Connections,
    peer: IpAddr,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Inner { open, figures, .. } = &*self.connections.0;
        let mut held = open.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(1);
        match held.by_peer.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            // The map has no entry for an address without connections, so it cannot grow beyond the cap.
            _ => drop(held.by_peer.remove(&self.peer)),
        }
        figures.open.dec();
    }
}

/// The unit that counts as one peer: an IPv4 address, or the /64 network of an IPv6 address, which one host may own.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_cap_follows_from_the_descriptors_and_is_bounded() {
        let check = |descriptors, max| assert_eq!(max_for(descriptors), max, "{descriptors:?}");
        check(Some(1024), 448);
        check(Some(65_536), 8192);
        check(None, 8192);
        check(Some(20), 16);
    }

    #[test]
    fn one_address_cannot_hold_all_connections() {
        let registry = Registry::new();
        let connections = Connections::new(8, &registry);
        let mut greedy: Vec<_> = (0..8).map_while(|_| connections.admit(ip("10.0.0.1"))).collect();
        assert_eq!(greedy.len(), 6, "three quarters of 8");
        let others = [connections.admit(ip("10.0.0.2")), connections.admit(ip("2001:db8::1"))];
        assert!(others.iter().all(Option::is_some), "the others have room");
        assert!(connections.admit(ip("10.0.0.3")).is_none(), "and then all are taken");
        assert_eq!(registry.connections().open.get(), 8);
        assert_eq!(registry.connections().refused.get(), 2);

        drop(greedy.pop());
        assert!(connections.admit(ip("10.0.0.3")).is_some(), "one that is closed makes room");
        drop((greedy, others));
        assert_eq!(registry.connections().open.get(), 0);
        assert!(connections.0.open.lock().unwrap().by_peer.is_empty());
    }

    #[test]
    fn a_host_with_many_ipv6_addresses_is_one_peer() {
        let connections = Connections::new(4, &Registry::new());
        let open: Vec<_> =
            (1..5).map_while(|host| connections.admit(ip(&format!("2001:db8:0:7::{host}")))).collect();
        assert_eq!(open.len(), 3);
        assert!(connections.admit(ip("2001:db8:0:8::1")).is_some());
        assert_eq!(network(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }
}
