//! A DNS server on loopback, over UDP and TCP, that answers as a test tells it to.
//!
//! Comes in: what to say about a name, which may change at any time. Goes out: answers, and a record of what was
//! asked. Never: an answer about a name that it was told nothing of, but that it does not exist.

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

/// What fits into a packet, as the gateway says.
const PACKET: usize = 1232;

/// What is said about a name.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// These addresses, for so many seconds.
    At(Vec<IpAddr>, u32),
    /// These addresses, for so many seconds, and that there are more, also over TCP.
    SomeOf(Vec<IpAddr>, u32),
    /// These targets.
    Targets(Vec<String>),
    /// These targets, and that there are more, also over TCP.
    SomeTargets(Vec<String>),
    /// The name exists, without records of the kind.
    Empty,
    /// The name does not exist.
    NoName,
    /// The server failed.
    Failure,
    /// Nothing at all.
    Silence,
}

/// A question that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) kind: RecordType,
    pub(crate) by_tcp: bool,
}

struct Script {
    says: Mutex<HashMap<(String, RecordType), Say>>,
    /// Said instead of all else.
    about_all: Mutex<Option<Say>>,
    asked: watch::Sender<Vec<Asked>>,
}

/// The server; it is gone when it is dropped.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
    _serving: JoinSet<()>,
}

impl Dns {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Script {
            says: Mutex::default(),
            about_all: Mutex::default(),
            asked: watch::Sender::new(Vec::new()),
        });
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The same port may be taken by another test.
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

    /// From now on says `say` of `name`, which is meant to be below the domain.
    pub(crate) fn say(&self, name: &str, kind: RecordType, say: Say) {
        self.script.says.lock().unwrap().insert((format!("{name}."), kind), say);
    }

    /// From now on says the same of every name, or no more.
    pub(crate) fn say_of_all(&self, say: Option<Say>) {
        *self.script.about_all.lock().unwrap() = say;
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.asked.borrow().clone()
    }

    /// How often a name was asked for that begins with `name`.
    pub(crate) fn times(&self, name: &str) -> usize {
        self.script.asked.borrow().iter().filter(|asked| asked.name.starts_with(name)).count()
    }

    /// Returns when that name was asked for `more` times more than now.
    pub(crate) async fn is_asked_again(&self, name: &str, more: usize) {
        let enough = self.times(name) + more;
        let mut asked = self.script.asked.subscribe();
        let is_enough =
            |asked: &Vec<Asked>| asked.iter().filter(|asked| asked.name.starts_with(name)).count() >= enough;
        tokio::time::timeout(Duration::from_secs(20), asked.wait_for(is_enough)).await.unwrap().unwrap();
    }
}

impl Script {
    /// The answer to a message, if there is one.
    fn answer(&self, bytes: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(bytes).unwrap();
        let query = question.queries[0].clone();
        let (name, kind) = (query.name().to_ascii(), query.query_type());
        self.asked.send_modify(|all| all.push(Asked { name: name.clone(), kind, by_tcp }));
        let about_all = self.about_all.lock().unwrap().clone();
        let say = about_all.or_else(|| self.says.lock().unwrap().get(&(name, kind)).cloned());
        let mut answer = message(question.metadata.id, &query, say.unwrap_or(Say::NoName))?;
        let written = answer.to_vec().unwrap();
        if by_tcp || written.len() <= PACKET {
            return Some(written);
        }
        answer.metadata.truncation = true;
        answer.answers.truncate(10);
        Some(answer.to_vec().unwrap())
    }
}

fn message(id: u16, query: &Query, say: Say) -> Option<Message> {
    let mut message = Message::response(id, OpCode::Query);
    message.add_query(query.clone());
    let record = |ttl, data| Record::from_rdata(query.name().clone(), ttl, data);
    let target =
        |target: &String| record(30, RData::SRV(SRV::new(0, 100, 8001, Name::from_ascii(target).unwrap())));
    let is_cut = matches!(say, Say::SomeOf(..));
    match say {
        Say::At(addresses, ttl) | Say::SomeOf(addresses, ttl) => {
            message.metadata.truncation = is_cut;
            message.add_answers(addresses.into_iter().map(|address| match address {
                IpAddr::V4(address) => record(ttl, RData::A(A(address))),
                IpAddr::V6(address) => record(ttl, RData::AAAA(AAAA(address))),
            }));
        }
        Say::Targets(targets) => {
            message.add_answers(targets.iter().map(target));
        }
        Say::SomeTargets(targets) => {
            message.add_answers(targets.iter().map(target));
            message.metadata.truncation = true;
        }
        Say::Empty => {}
        Say::NoName => message.metadata.response_code = ResponseCode::NXDomain,
        Say::Failure => message.metadata.response_code = ResponseCode::ServFail,
        Say::Silence => return None,
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

/// Each message has its length before it.
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
