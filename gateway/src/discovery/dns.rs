//! Queries to the cluster's DNS. The only file that uses DNS. Responses are not cached here.

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

/// How long a server may take to respond before the query is sent again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a query may take, once it has a permit.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a query for a client waits for a permit.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many queries run at once: each has a socket, and a flood of names must not use up the descriptors.
const QUERIES_MAX: usize = 64;
/// How many of them may be for clients, so that made-up names leave permits for models in use.
const CLIENT_QUERIES_MAX: usize = 48;

/// Why DNS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DnsSetupError {
    /// The cluster domain is no DNS name.
    #[error(
        "the cluster domain {0:?} is no DNS name; set CANOPY_CLUSTER_DOMAIN to a domain such as cluster.local"
    )]
    Domain(String),
    /// /etc/resolv.conf cannot be read.
    #[error("failed to read the DNS servers of /etc/resolv.conf: {0}; set CANOPY_DNS_SERVER")]
    Servers(NetError),
}

/// The result of a look-up of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Its ready pods, and the TTL.
    Endpoints(Vec<IpAddr>, Duration),
    /// Some of its ready pods, because the response was truncated, and the TTL.
    SomeEndpoints(Vec<IpAddr>, Duration),
    /// The model exists, but no pod is ready.
    NoneReady,
    /// No such model.
    Unknown,
}

/// The models of a namespace that have ready pods.
#[derive(Debug, Default)]
pub(crate) struct NamespaceModels {
    pub(crate) models: BTreeSet<ModelRef>,
    /// Whether the response was truncated, so that there are more.
    pub(crate) is_truncated: bool,
}

/// Why a query is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryOrigin {
    /// A client named the model or listed models.
    Client,
    /// The endpoints of a model in use are refreshed.
    Refresh,
}

/// The cluster's DNS.
pub(crate) struct Dns {
    domain: String,
    resolver: TokioResolver,
    /// The servers, for queries by TCP.
    servers: Vec<SocketAddr>,
    permits: Semaphore,
    client_permits: Semaphore,
}

impl Dns {
    /// The DNS of `settings`, or `None` if they have no cluster domain.
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

    /// Looks up the ready pods of `model`, and whether it exists.
    ///
    /// Queries A, and AAAA if there is no A, instead of SRV: every predictor has the same port, and an address takes 16 bytes of a
    /// response instead of about 100. So 70 pods fit into a packet, and 4,000 into the 64 KB at which `CoreDNS` truncates.
    pub(crate) async fn resolve(&self, model: &ModelRef, origin: QueryOrigin) -> Result<Resolution, String> {
        let name = model.endpoints_query(&self.domain);
        let mut answer = self.query(&name, RecordType::A, origin).await?;
        // A name that does not exist has no other records either.
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

    /// Looks up the models of `namespace` that have ready pods.
    pub(crate) async fn models(&self, namespace: &str) -> Result<NamespaceModels, String> {
        let name = catalogue_query(namespace, &self.domain);
        let answer = self.query(&name, RecordType::SRV, QueryOrigin::Client).await?;
        // The target `iris.predictors.shop.svc.cluster.local.` is the model iris. Targets that are no model names are other pods.
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
        let failed = |why: &dyn std::fmt::Display| format!("failed to query DNS for {kind} {name}: {why}");
        let _permit = self.acquire(origin).await.ok_or_else(|| {
            failed(&format_args!(
                "{CLIENT_QUERIES_MAX} queries for clients were in progress for {QUEUE_TIMEOUT:?}"
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
        let late = |_| failed(&format_args!("no response within {QUERY_TIMEOUT:?}"));
        timeout(QUERY_TIMEOUT, asked).await.map_err(late)?
    }

    /// Waits for a permit. Refreshes wait without limit, since the last endpoints stay in use.
    async fn acquire(
        &self,
        origin: QueryOrigin,
    ) -> Option<(Option<SemaphorePermit<'_>>, SemaphorePermit<'_>)> {
        match origin {
            QueryOrigin::Refresh => Some((None, self.permits.acquire().await.ok()?)),
            QueryOrigin::Client => {
                let both = async {
                    // In this order, so that clients queue here and not ahead of refreshes.
                    let client = self.client_permits.acquire().await.ok()?;
                    Some((Some(client), self.permits.acquire().await.ok()?))
                };
                timeout(QUEUE_TIMEOUT, both).await.ok().flatten()
            }
        }
    }

    /// Repeats a query by TCP whose response is truncated even there: the resolver would discard it.
    async fn query_truncated(&self, name: Name, kind: RecordType) -> Result<DnsAnswer, NetError> {
        let mut error = NetError::NoConnections;
        for &server in &self.servers {
            // The background task of the connection ends with its provider.
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

/// A resolver without cache, and the addresses of its servers.
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
    // 1232 bytes fit into any packet, so most responses need no TCP.
    options.edns0 = true;
    Ok((builder.build()?, servers))
}

/// The response to a query.
#[derive(Default)]
struct DnsAnswer {
    records: Vec<Record>,
    /// Whether the name has no records of any type.
    is_nxdomain: bool,
    is_truncated: bool,
}

impl DnsAnswer {
    fn of(records: &[Record], kind: RecordType) -> Self {
        let records = records.iter().filter(|record| record.record_type() == kind).cloned().collect();
        Self { records, ..Self::default() }
    }

    /// An empty response, if `error` reports one.
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
