//! The addresses that a download may connect to.
//!
//! The author of a spec may have no access to the network of the machine that downloads for it. An address is checked after
//! its name was resolved and before the connection is opened; an IPv4 address embedded in an IPv6 address is checked, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks without public file servers, or with metadata services that hand out credentials.
const REFUSED: [&str; 20] = [
    // This host, loopback, link-local with the metadata service of most clouds, and protocol assignments.
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    // Multicast, reserved and broadcast.
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Metadata services outside link-local: Alibaba Cloud, Azure.
    "100.100.100.200/32",
    "168.63.129.16/32",
    // Unspecified, loopback, link-local, site-local and multicast.
    "::/128",
    "::1/128",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    // Translation whose IPv4 address is at an unknown position, and Teredo, which obfuscates it.
    "64:ff9b:1::/48",
    "2001::/32",
    // Metadata services in unique-local networks: AWS, Google Cloud, Oracle Cloud.
    "fd00:ec2::/32",
    "fd20:ce::/32",
    "fd00:c1::/32",
    // Addresses for examples and for discarding.
    "2001:db8::/32",
    "100::/64",
];

/// Names of this host and of the API server. They are refused without a lookup.
const REFUSED_NAMES: [&str; 3] = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
/// Suffixes of names that are refused without a lookup.
const REFUSED_SUFFIXES: [&str; 2] = [".localhost", ".metadata.google.internal"];

/// The networks that data may be downloaded from.
#[derive(Clone, Debug)]
pub enum Sources {
    /// All networks, with details in messages: the author of the spec owns the machine.
    Anywhere,
    /// These networks, without details in messages: the author of the spec may have no access to them.
    Within(Networks),
}

/// The addresses that a download may connect to if the author of the spec does not own the machine.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    /// If it is not empty, only these networks are admitted. A network in it overrides a network that is refused by
    /// default and contains it.
    pub allowed: Vec<IpNet>,
    /// Networks that are always refused.
    pub denied: Vec<IpNet>,
    /// The address of the API server.
    pub api_server: Option<IpAddr>,
}

/// How an address is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may be connected to; messages have no details.
    Reached,
    /// It is in a network that was allowed explicitly; messages have details.
    Named,
}

impl Networks {
    /// Whether a download may connect to `address`, and whether messages may have details.
    pub fn admit(&self, address: IpAddr) -> Option<Admission> {
        let forms = forms(address);
        let is_in =
            |networks: &[IpNet]| forms.iter().any(|form| networks.iter().any(|net| net.contains(form)));
        if is_in(&self.denied) || forms.iter().any(|form| self.is_refused_by_default(form)) {
            return None;
        }
        if is_in(&self.allowed) {
            return Some(Admission::Named);
        }
        self.allowed.is_empty().then_some(Admission::Reached)
    }

    /// Whether a host of a URL, a name or an address, may be looked up or connected to.
    pub fn admits_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return self.admit(address).is_some();
        }
        let is_api_server = host.starts_with("kubernetes.default.svc.");
        let is_refused = REFUSED_NAMES.contains(&host.as_str())
            || REFUSED_SUFFIXES.iter().any(|suffix| format!(".{host}").ends_with(suffix));
        !is_api_server && !is_refused
    }

    fn is_refused_by_default(&self, address: &IpAddr) -> bool {
        let by_default = REFUSED.iter().filter_map(|network| network.parse().ok());
        let mut refused = by_default.chain(self.api_server.map(IpNet::from));
        refused.any(|refused: IpNet| {
            let mut named = self.allowed.iter().filter(|allowed| refused.contains(*allowed));
            refused.contains(address) && !named.any(|allowed| allowed.contains(address))
        })
    }
}

/// An address, and the IPv4 address that a router or this host would translate it to.
fn forms(address: IpAddr) -> Vec<IpAddr> {
    // The kernel connects to an IPv4-mapped address as IPv4.
    let address = address.to_canonical();
    let IpAddr::V6(six) = address else { return vec![address] };
    if six.is_unspecified() || six.is_loopback() {
        return vec![address];
    }
    let embedded = embedded(six).map(IpAddr::V4);
    [address].into_iter().chain(embedded).collect()
}

fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    // IPv4-compatible or translated (SIIT); the well-known prefix of NAT64; 6to4; the interface identifier of ISATAP.
    let ([0, 0, 0, 0, 0 | 0xffff, 0, high, low]
    | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
    | [0x2002, high, low, _, _, _, _, _]
    | [_, _, _, _, 0 | 0x200, 0x5efe, high, low]) = address.segments()
    else {
        return None;
    };
    Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(allowed: &[&str], denied: &[&str]) -> Networks {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Networks {
            allowed: parse(allowed),
            denied: parse(denied),
            api_server: Some("10.96.0.1".parse().unwrap()),
        }
    }

    #[track_caller]
    fn check(networks: &Networks, address: &str, expected: Option<Admission>) {
        assert_eq!(networks.admit(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn the_networks_refused_by_default_parse() {
        for network in REFUSED {
            assert!(network.parse::<IpNet>().is_ok_and(|parsed| parsed.trunc() == parsed), "{network}");
        }
    }

    #[test]
    fn this_host_its_links_metadata_and_the_api_server_are_refused_by_default() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "169.254.170.2",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "10.96.0.1",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "64:ff9b:1::a9fe:a9fe",
            // The same addresses embedded in IPv6.
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::10.96.0.1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2a00::5efe:127.0.0.1",
            "2a00::200:5efe:169.254.169.254",
        ] {
            check(&networks(&[], &[]), address, None);
        }
    }

    #[test]
    fn other_machines_are_reached_also_in_private_networks() {
        for address in
            ["10.1.2.3", "172.18.0.3", "192.168.1.1", "100.64.0.1", "8.8.8.8", "fd12:3456::1", "2a00::1"]
        {
            check(&networks(&[], &[]), address, Some(Admission::Reached));
        }
        check(&networks(&[], &[]), "64:ff9b::8.8.8.8", Some(Admission::Reached));
    }

    #[test]
    fn a_denied_network_is_refused_even_where_it_is_allowed() {
        let networks = networks(&["10.0.0.0/8"], &["10.1.0.0/16"]);
        check(&networks, "10.1.2.3", None);
        check(&networks, "64:ff9b::10.1.2.3", None);
        check(&networks, "10.2.2.3", Some(Admission::Named));
        let none = self::networks(&[], &["0.0.0.0/0", "::/0"]);
        for address in ["8.8.8.8", "2a00::1"] {
            check(&none, address, None);
        }
    }

    #[test]
    fn allowed_networks_exclude_all_others_and_override_the_default_refusal() {
        let wide = networks(&["0.0.0.0/0", "::/0"], &[]);
        check(&wide, "8.8.8.8", Some(Admission::Named));
        for address in ["127.0.0.1", "169.254.169.254", "10.96.0.1", "::1", "::ffff:127.0.0.1"] {
            check(&wide, address, None);
        }
        let narrow = networks(&["192.168.0.0/16", "127.0.0.0/30", "10.96.0.1/32"], &[]);
        for address in ["192.168.7.7", "127.0.0.1", "::ffff:127.0.0.1", "10.96.0.1"] {
            check(&narrow, address, Some(Admission::Named));
        }
        for address in ["127.0.0.9", "8.8.8.8", "169.254.169.254"] {
            check(&narrow, address, None);
        }
    }

    #[test]
    fn names_of_this_host_and_of_the_api_server_are_refused_before_they_are_looked_up() {
        let networks = networks(&[], &[]);
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.",
            "kubernetes.default.svc.cluster.local",
            "metadata.google.internal",
            "127.0.0.1",
            "[::1]",
            "[::ffff:7f00:1]",
        ] {
            assert!(!networks.admits_host(host), "{host}");
        }
        for host in ["data.shop", "files.e2e.svc", "kubernetes.example.com", "10.1.2.3", "[2a00::1]"] {
            assert!(networks.admits_host(host), "{host}");
        }
    }
}
