//! What the cluster's DNS says of models. The only file that asks DNS.
//!
//! Comes in: the name of a model or of a namespace. Goes out: where pods are ready, whether a model exists, which
//! models a namespace has. Never: an answer from memory; the table of endpoints is the only cache there is.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use canopy_contract::names::{ModelRef, catalogue_query};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver, ResolverBuilder, TokioResolver};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::settings::Settings;

/// How long a server may take to answer before the question is sent once more.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a question may take in all, once there is room for it.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a question of a client waits for room.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many questions are asked at once: each has a socket, and a flood of names must not use them all up.
const QUERIES_MAX: usize = 64;
/// How many of them are about what clients name, so that names which they make up leave room for models in use.
const CLIENT_QUERIES_MAX: usize = 48;

/// Why DNS cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum DnsSetupError {
    /// The domain cannot be one.
    #[error("the cluster domain {0:?} is no DNS name; mend it in CANOPY_CLUSTER_DOMAIN, as in cluster.local")]
    Domain(String),
    /// The servers are not known.
    #[error("failed to read the DNS servers of /etc/resolv.conf: {0}; name one in CANOPY_DNS_SERVER")]
    Servers(NetError),
}

/// What DNS says of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Its pods that are ready, and how long that counts.
    Endpoints(Vec<IpAddr>, Duration),
    /// Some of its pods that are ready, since the answer had no room for all, and how long that counts.
    SomeEndpoints(Vec<IpAddr>, Duration),
    /// It exists, and no pod is ready.
    NoneReady,
    /// There is no such model.
    Unknown,
}

/// Which models of a namespace have ready pods.
#[derive(Debug, Default)]
pub(crate) struct NamespaceModels {
    pub(crate) models: BTreeSet<ModelRef>,
    /// Whether there are more than the answer had room for.
    pub(crate) is_truncated: bool,
}

/// Why a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryOrigin {
    /// A client named something.
    Client,
    /// The model is in use, and its pods are kept up to date.
    Refresh,
}

/// The cluster's DNS.
pub(crate) struct Dns {
    domain: String,
    resolver: TokioResolver,
    /// Where its servers take long answers from.
    servers: Vec<SocketAddr>,
    permits: Semaphore,
    client_permits: Semaphore,
}

impl Dns {
    /// The DNS that `settings` name; none where they name no cluster.
    pub(crate) fn new(settings: &Settings) -> Result<Option<Self>, DnsSetupError> {
        let Some(domain) = settings.cluster_domain.as_deref().map(|text| text.trim().trim_end_matches('.'))
        else {
            return Ok(None);
        };
        if domain.is_empty() {
            return Ok(None);
        }
        Name::from_ascii(domain).map_err(|_| DnsSetupError::Domain(domain.to_owned()))?;
        let (resolver, servers) = resolver(settings.dns_server).map_err(DnsSetupError::Servers)?;
        Ok(Some(Self {
            domain: domain.to_owned(),
            resolver,
            servers,
            permits: Semaphore::new(QUERIES_MAX),
            client_permits: Semaphore::new(CLIENT_QUERIES_MAX),
        }))
    }

    /// Where the pods of `model` are, or what it means that there are none; or why DNS could not say.
    ///
    /// InFlight for by A, and AAAA where there is no A, rather than by SRV: every predictor has the same port, and a
    /// pod takes 16 bytes of an answer instead of some 100, so that 70 pods fit into a packet and 4,000 into the
    /// 64 KB at which `CoreDNS` cuts.
    pub(crate) async fn resolve(&self, model: &ModelRef, origin: QueryOrigin) -> Result<Resolution, String> {
        let name = model.endpoints_query(&self.domain);
        let mut answer = self.query(&name, RecordType::A, origin).await?;
        // A name that does not exist has no other addresses either.
        if answer.records.is_empty() && !answer.is_nxdomain {
            answer = self.query(&name, RecordType::AAAA, origin).await?;
        }
        let address = |record: &Record| record.data.ip_addr();
        let mut addresses: Vec<_> = answer.records.iter().filter_map(address).collect();
        if !addresses.is_empty() {
            addresses.sort_unstable();
            addresses.dedup();
            let resolution =
                if answer.is_truncated { Resolution::SomeEndpoints } else { Resolution::Endpoints };
            return Ok(resolution(addresses, answer.ttl()));
        }
        let existence = self.query(&model.existence_query(&self.domain), RecordType::SRV, origin).await?;
        Ok(if existence.records.is_empty() { Resolution::Unknown } else { Resolution::NoneReady })
    }

    /// The models of `namespace` that have ready pods; or why DNS could not say.
    pub(crate) async fn models(&self, namespace: &str) -> Result<NamespaceModels, String> {
        let name = catalogue_query(namespace, &self.domain);
        let answer = self.query(&name, RecordType::SRV, QueryOrigin::Client).await?;
        // `iris.predictors.shop.svc.cluster.local.` is the model iris; pods that have no name of their own are
        // none of ours.
        let model = |record: &Record| {
            let RData::SRV(srv) = &record.data else { return None };
            let target = srv.target.to_ascii();
            let (name, _) = target.split_once('.')?;
            ModelRef::parse(name, namespace).ok()
        };
        Ok(NamespaceModels {
            models: answer.records.iter().filter_map(model).collect(),
            is_truncated: answer.is_truncated,
        })
    }

    async fn query(&self, name: &str, kind: RecordType, origin: QueryOrigin) -> Result<DnsAnswer, String> {
        let failed = |why: &dyn std::fmt::Display| format!("failed to ask DNS for {kind} of {name}: {why}");
        let _permit = self.acquire(origin).await.ok_or_else(|| {
            failed(&format_args!(
                "more than {CLIENT_QUERIES_MAX} questions of clients were asked for {QUEUE_TIMEOUT:?}"
            ))
        })?;
        let asked = async {
            let name = Name::from_ascii(name).map_err(|error| failed(&error))?;
            match self.resolver.lookup(name.clone(), kind).await {
                Ok(lookup) => Ok(DnsAnswer::of(lookup.answers(), kind)),
                Err(NetError::Truncated) => {
                    self.query_truncated(name, kind).await.map_err(|error| failed(&error))
                }
                Err(error) => DnsAnswer::negative(&error).ok_or_else(|| failed(&error)),
            }
        };
        let late = |_| failed(&format_args!("no answer within {QUERY_TIMEOUT:?}"));
        timeout(QUERY_TIMEOUT, asked).await.map_err(late)?
    }

    /// Room for one question. One about a model in use waits as long as it takes: until then its last answer counts.
    async fn acquire(
        &self,
        origin: QueryOrigin,
    ) -> Option<(Option<SemaphorePermit<'_>>, SemaphorePermit<'_>)> {
        match origin {
            QueryOrigin::Refresh => Some((None, self.permits.acquire().await.ok()?)),
            QueryOrigin::Client => {
                let both = async {
                    // In this order, so that clients wait here and not before questions about models in use.
                    let client = self.client_permits.acquire().await.ok()?;
                    Some((Some(client), self.permits.acquire().await.ok()?))
                };
                timeout(QUEUE_TIMEOUT, both).await.ok().flatten()
            }
        }
    }

    /// Asks for an answer that is cut even over TCP, which the resolver would throw away.
    async fn query_truncated(&self, name: Name, kind: RecordType) -> Result<DnsAnswer, NetError> {
        let mut error = NetError::NoConnections;
        for &server in &self.servers {
            // What moves the bytes of the connection ends with its provider.
            let provider = TokioRuntimeProvider::new();
            let asked = async {
                let connection =
                    TcpClientStream::exchange(server, None, ATTEMPT_TIMEOUT, None, provider.clone()).await?;
                let query = Query::query(name.clone(), kind);
                connection.lookup(query, DnsRequestOptions::default()).first_answer().await
            };
            match asked.await.and_then(|response| Ok(DnsError::from_response(response)?)) {
                Ok(response) => {
                    let answer = DnsAnswer::of(&response.answers, kind);
                    return Ok(DnsAnswer { is_truncated: response.truncation, ..answer });
                }
                Err(this) => error = this,
            }
        }
        Err(error)
    }
}

/// A resolver without a memory, and the addresses of its servers.
fn resolver(server: Option<SocketAddr>) -> Result<(TokioResolver, Vec<SocketAddr>), NetError> {
    let provider = TokioRuntimeProvider::new();
    let (config, options) = match server {
        None => hickory_resolver::system_conf::read_system_conf()?,
        Some(server) => {
            let mut one = NameServerConfig::udp_and_tcp(server.ip());
            one.connections.iter_mut().for_each(|connection| connection.port = server.port());
            (ResolverConfig::from_name_servers(vec![one]), ResolverOpts::default())
        }
    };
    let servers = config.name_servers().iter().filter_map(|server| {
        let port = server.connections.first()?.port;
        Some(SocketAddr::new(server.ip, port))
    });
    let servers = servers.collect();
    let mut builder: ResolverBuilder<_> = Resolver::builder_with_config(config, provider);
    *builder.options_mut() = options;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = ATTEMPT_TIMEOUT;
    options.attempts = 1;
    // 1232 bytes fit into a packet anywhere: most answers then need no TCP.
    options.edns0 = true;
    Ok((builder.build()?, servers))
}

/// What a question came to.
#[derive(Default)]
struct DnsAnswer {
    records: Vec<Record>,
    /// Whether the name has no records of any kind.
    is_nxdomain: bool,
    is_truncated: bool,
}

impl DnsAnswer {
    fn of(records: &[Record], kind: RecordType) -> Self {
        let records = records.iter().filter(|record| record.record_type() == kind).cloned().collect();
        Self { records, ..Self::default() }
    }

    /// The answer that there is nothing, where `error` is one.
    fn negative(error: &NetError) -> Option<Self> {
        let NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) = error else {
            return None;
        };
        let is_nxdomain = *response_code == ResponseCode::NXDomain;
        (is_nxdomain || *response_code == ResponseCode::NoError)
            .then(|| Self { is_nxdomain, ..Self::default() })
    }

    fn ttl(&self) -> Duration {
        let shortest = self.records.iter().map(|record| record.ttl).min();
        Duration::from_secs(shortest.unwrap_or_default().into())
    }
}
