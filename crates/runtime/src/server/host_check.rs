//! A check of the Host header, against DNS rebinding.
//!
//! A web page whose host name resolves to a loopback address could reach servers of this machine from a browser. The browser sends
//! that name as the host, so a server on loopback refuses names that are not allowed.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;

/// The hosts that requests may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedHosts {
    /// Every host.
    #[default]
    Any,
    /// IP addresses, `localhost` and its subdomains, and these names.
    Local(Arc<[String]>),
}

impl AllowedHosts {
    /// Local hosts and `names` for a listener on loopback; every host for any other listener.
    pub fn of_listener(listening: SocketAddr, names: &[String]) -> Self {
        let is_loopback = listening.ip().to_canonical().is_loopback();
        if is_loopback { Self::Local(names.into()) } else { Self::Any }
    }

    /// Whether the host of a request is allowed. A request without a host is allowed, because browsers always send one.
    pub(crate) fn allow(&self, request: &Parts) -> bool {
        let Self::Local(names) = self else { return true };
        // Over HTTP/2, and in the absolute form of HTTP/1, the host is part of the target.
        let host = match request.uri.authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => request.headers.get(HOST).map(http::HeaderValue::as_bytes),
        };
        let Some(host) = host else { return true };
        std::str::from_utf8(host).is_ok_and(|host| is_local(host, names))
    }
}

fn is_local(authority: &str, names: &[String]) -> bool {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_known = host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::Ipv4Addr>().is_ok()
        || names.iter().any(|name| name.eq_ignore_ascii_case(&host));
    is_known && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn local() -> AllowedHosts {
        AllowedHosts::of_listener(SocketAddr::from(([127, 0, 0, 1], 8000)), &["Models.test".to_owned()])
    }

    fn parts(uri: &str, host: Option<&str>) -> Parts {
        let request = Request::get(uri);
        let request = match host {
            Some(host) => request.header(HOST, host),
            None => request,
        };
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_listener_on_loopback_accepts_addresses_localhost_and_allowed_names() {
        for host in [
            "localhost",
            "LocalHost:8000",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1:8000",
            "10.1.2.3",
            "[::1]:8000",
            "[::1]",
            "models.test:80",
        ] {
            assert!(local().allow(&parts("/", Some(host))), "{host}");
            assert!(local().allow(&parts(&format!("http://{host}/"), Some("evil.example"))), "{host}");
        }
        assert!(local().allow(&parts("/", None)));
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "localhost:80@evil.example",
            "[evil.example]",
            "other.models.test",
            "",
        ] {
            assert!(!local().allow(&parts("/", Some(host))), "{host}");
        }
        assert!(!local().allow(&parts("http://evil.example/", Some("localhost"))));
    }

    #[test]
    fn a_listener_on_other_addresses_accepts_any_name() {
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let hosts = AllowedHosts::of_listener(address.parse().unwrap(), &[]);
            assert!(hosts.allow(&parts("/", Some("evil.example"))), "{address}");
        }
    }
}
