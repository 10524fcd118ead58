//! A fake DNS server on loopback, over UDP and TCP, whose replies a test controls. Names without a reply do not exist.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The largest UDP response that the gateway accepts.
const PACKET: usize = 1232;

/// A reply about a name.
#[derive(Clone, Debug)]
pub(crate) enum DnsReply {
    /// These addresses with this TTL.
    Addresses(Vec<IpAddr>, u32),
    /// These addresses with this TTL, truncated even over TCP.
    TruncatedAddresses(Vec<IpAddr>, u32),
    /// These targets.
    Targets(Vec<String>),
    /// These targets, truncated even over TCP.
    TruncatedTargets(Vec<String>),
    /// The name exists without records of the type.
    Empty,
    /// The name does not exist.
    NxDomain,
    /// The server failed.
    ServFail,
    /// No response.
    Timeout,
}

/// A query received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsQuery {
    pub(crate) name: String,
    pub(crate) kind: RecordType,
    pub(crate) over_tcp: bool,
}

struct Script {
    replies: Mutex<HashMap<(String, RecordType), DnsReply>>,
    /// Replaces all other replies.
    reply_to_all: Mutex<Option<DnsReply>>,
    queries: watch::Sender<Vec<DnsQuery>>,
}

/// The server, which stops when dropped.
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
    _serving: JoinSet<()>,
}

impl FakeDns {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Script {
            replies: Mutex::default(),
            reply_to_all: Mutex::default(),
            queries: watch::Sender::new(Vec::new()),
        });
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Another test may have the same TCP port.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(packets(udp, script.clone()));
        serving.spawn(connections(tcp, script.clone()));
        Self { address, script, _serving: serving }
    }

    /// Sets the reply about `name`.
    pub(crate) fn set(&self, name: &str, kind: RecordType, reply: DnsReply) {
        self.script.replies.lock().unwrap().insert((format!("{name}."), kind), reply);
    }

    /// Sets the reply about every name, or removes it.
    pub(crate) fn set_all(&self, reply: Option<DnsReply>) {
        *self.script.reply_to_all.lock().unwrap() = reply;
    }

    /// The queries so far.
    pub(crate) fn queries(&self) -> Vec<DnsQuery> {
        self.script.queries.borrow().clone()
    }

    /// How many queries were about names that begin with `name`.
    pub(crate) fn query_count(&self, name: &str) -> usize {
        self.script.queries.borrow().iter().filter(|queries| queries.name.starts_with(name)).count()
    }

    /// Waits for `more` further queries about names that begin with `name`.
    pub(crate) async fn wait_queries(&self, name: &str, more: usize) {
        let enough = self.query_count(name) + more;
        let mut queries = self.script.queries.subscribe();
        let is_enough = |queries: &Vec<DnsQuery>| {
            queries.iter().filter(|queries| queries.name.starts_with(name)).count() >= enough
        };
        tokio::time::timeout(Duration::from_secs(20), queries.wait_for(is_enough)).await.unwrap().unwrap();
    }
}

impl Script {
    /// The response to a message, if any.
    fn answer(&self, bytes: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(bytes).unwrap();
        let query = question.queries[0].clone();
        let (name, kind) = (query.name().to_ascii(), query.query_type());
        self.queries.send_modify(|all| all.push(DnsQuery { name: name.clone(), kind, over_tcp }));
        let reply_to_all = self.reply_to_all.lock().unwrap().clone();
        let reply = reply_to_all.or_else(|| self.replies.lock().unwrap().get(&(name, kind)).cloned());
        let mut answer = message(question.metadata.id, &query, reply.unwrap_or(DnsReply::NxDomain))?;
        let written = answer.to_vec().unwrap();
        if over_tcp || written.len() <= PACKET {
            return Some(written);
        }
        answer.metadata.truncation = true;
        answer.answers.truncate(10);
        Some(answer.to_vec().unwrap())
    }
}

fn message(id: u16, query: &Query, reply: DnsReply) -> Option<Message> {
    let mut message = Message::response(id, OpCode::Query);
    message.add_query(query.clone());
    let record = |ttl, data| Record::from_rdata(query.name().clone(), ttl, data);
    let target =
        |target: &String| record(30, RData::SRV(SRV::new(0, 100, 8001, Name::from_ascii(target).unwrap())));
    let is_cut = matches!(reply, DnsReply::TruncatedAddresses(..));
    match reply {
        DnsReply::Addresses(addresses, ttl) | DnsReply::TruncatedAddresses(addresses, ttl) => {
            message.metadata.truncation = is_cut;
            message.add_answers(addresses.into_iter().map(|address| match address {
                IpAddr::V4(address) => record(ttl, RData::A(A(address))),
                IpAddr::V6(address) => record(ttl, RData::AAAA(AAAA(address))),
            }));
        }
        DnsReply::Targets(targets) => {
            message.add_answers(targets.iter().map(target));
        }
        DnsReply::TruncatedTargets(targets) => {
            message.add_answers(targets.iter().map(target));
            message.metadata.truncation = true;
        }
        DnsReply::Empty => {}
        DnsReply::NxDomain => message.metadata.response_code = ResponseCode::NXDomain,
        DnsReply::ServFail => message.metadata.response_code = ResponseCode::ServFail,
        DnsReply::Timeout => return None,
    }
    Some(message)
}

async fn packets(socket: UdpSocket, script: Arc<Script>) {
    let mut packet = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut packet).await.unwrap();
        if let Some(answer) = script.answer(&packet[..length], false) {
            drop(socket.send_to(&answer, from).await);
        }
    }
}

async fn connections(listener: TcpListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, script.clone()));
    }
}

/// Messages over TCP have a length prefix.
async fn converse(mut stream: TcpStream, script: Arc<Script>) {
    while let Ok(length) = stream.read_u16().await {
        let mut message = vec![0; length.into()];
        if stream.read_exact(&mut message).await.is_err() {
            return;
        }
        let Some(answer) = script.answer(&message, true) else { continue };
        let length = u16::try_from(answer.len()).unwrap();
        if stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).await.is_err() {
            return;
        }
    }
}
