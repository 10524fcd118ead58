//! A fake cluster: DNS, and pods that all listen on one port of different loopback addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use canopy_gateway::settings::{Settings, Tuning};
use hickory_proto::rr::RecordType;
use tokio::net::TcpListener;

use crate::fake_dns::{DnsReply, FakeDns};
use crate::fake_predictor::FakePredictor;
use crate::gateway::{Gateway, settings};

pub(crate) struct Cluster {
    pub(crate) dns: FakeDns,
    port: u16,
    _held: TcpListener,
}

/// The address of a pod.
pub(crate) fn ip(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, number + 1).into()
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { dns: FakeDns::start().await, port: held.local_addr().unwrap().port(), _held: held }
    }

    /// A cluster with ready pods of the model `demo`.
    pub(crate) async fn with_pods<const N: usize>() -> (Self, [FakePredictor; N]) {
        let cluster = Self::new().await;
        let mut pods = Vec::new();
        for number in 1..=N {
            pods.push(cluster.pod("demo", number as u8).await);
        }
        cluster.ready("demo", &(1..=N as u8).collect::<Vec<_>>());
        let Ok(pods) = pods.try_into() else { panic!("not {N} pods") };
        (cluster, pods)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts a pod of `model` that DNS does not return yet.
    pub(crate) async fn pod(&self, model: &str, number: u8) -> FakePredictor {
        FakePredictor::at(model, SocketAddr::new(ip(number), self.port)).await
    }

    /// Sets the ready pods of `model` in the gateway's namespace.
    pub(crate) fn ready(&self, model: &str, numbers: &[u8]) {
        self.exists(model, true);
        let say = match numbers {
            [] => DnsReply::NxDomain,
            _ => DnsReply::Addresses(numbers.iter().map(|&number| ip(number)).collect(), 30),
        };
        self.addresses(model, say);
    }

    /// Sets the reply about the addresses of a model.
    pub(crate) fn addresses(&self, model: &str, say: DnsReply) {
        self.dns.set(&format!("{model}-pods.default.svc.cluster.test"), RecordType::A, say);
    }

    /// Sets whether `model` exists.
    pub(crate) fn exists(&self, model: &str, does: bool) {
        let name = format!("_http-canopy._tcp.{model}.default.svc.cluster.test");
        let say = if does {
            DnsReply::Targets(vec![format!("{model}.default.svc.cluster.test.")])
        } else {
            DnsReply::NxDomain
        };
        self.dns.set(&name, RecordType::SRV, say);
    }

    /// The settings of a gateway in the cluster, with default intervals.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            cluster_domain: Some("cluster.test".to_owned()),
            dns_server: Some(self.dns.address),
            tuning: Tuning { predictor_port: self.port, ..settings(&[]).tuning },
            ..settings(&[])
        }
    }

    /// A gateway in the cluster, with default intervals.
    pub(crate) async fn gateway(&self) -> Gateway {
        Gateway::new(&self.settings()).await
    }

    /// The same with very short refresh intervals.
    pub(crate) fn fast_refresh(&self) -> Settings {
        let mut settings = self.settings();
        settings.tuning.resolve_interval = Duration::from_millis(20);
        settings.tuning.negative_ttl = Duration::from_millis(20);
        settings
    }
}

/// Repeats a check until it holds.
pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let all = async {
        while !is().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The gateway's number of endpoints.
pub(crate) fn endpoints(gateway: &Gateway) -> Option<usize> {
    let metrics = gateway.metrics();
    let series = metrics.lines().find(|line| line.starts_with("canopy_gateway_discovery_endpoints{"))?;
    series.rsplit(' ').next()?.parse().ok()
}
