//! Binds listening sockets. Processes bind all of them before other work, so a port that is in use is reported at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// The process cannot listen on the address.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {reason}; choose another address with {flag}")]
pub struct ListenError {
    address: SocketAddr,
    flag: &'static str,
    reason: io::Error,
}

/// Listens on `address`, which `flag` sets.
pub async fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|reason| ListenError { address, flag, reason })
}

/// The address at which this machine reaches a listener, which may listen on all addresses.
pub fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_by_loopback() {
        let check = |listening: &str, reached: &str| {
            assert_eq!(reachable(listening.parse().unwrap()), reached.parse().unwrap(), "{listening}");
        };
        check("0.0.0.0:8001", "127.0.0.1:8001");
        check("[::]:8001", "[::1]:8001");
        check("127.0.0.3:8001", "127.0.0.3:8001");
    }

    #[tokio::test]
    async fn a_port_in_use_is_reported_with_the_flag_that_changes_it() {
        let taken = listen(SocketAddr::from(([127, 0, 0, 1], 0)), "--gateway").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = listen(address, "--gateway").await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("failed to listen on {address}: ")), "{error}");
        assert!(error.ends_with("; choose another address with --gateway"), "{error}");
    }
}
