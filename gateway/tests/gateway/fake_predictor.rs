//! A fake predictor on loopback whose behavior a test controls, down to the bytes. It predicts 1 if the first two features add up to
//! more than 0.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use canopy_contract::body::{self, BodyRows};
use canopy_contract::names::ModelName;
use canopy_contract::schema::Feature;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The start of the body of a request with several rows.
const BATCH: &str = r#"{"instances":"#;

/// How a predictor responds.
#[derive(Clone, Debug)]
pub(crate) enum Behavior {
    /// Normally.
    Normal,
    /// Normally, after a delay.
    Slow(Duration),
    /// With this status and body, and its revision header.
    Answer(u16, String),
    /// With these bytes, then closes the connection.
    Bytes(Vec<u8>),
    /// Never; the connection stays open.
    Hang,
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
    /// Normally to the first request of each connection, and closes it at the second.
    OncePerConnection,
    /// Normally, but holds requests with several rows until they are released.
    HoldBatches,
    /// Crashes: the port refuses connections from then on.
    Crash,
}

/// The behavior of a predictor, and what it has received.
pub(crate) struct Script {
    /// `GET /model`.
    pub(crate) description: Mutex<Value>,
    pub(crate) describes: Mutex<Behavior>,
    pub(crate) predicts: Mutex<Behavior>,
    /// The revision of predictions, if it differs from the description's.
    pub(crate) revision: Mutex<Option<String>>,
    /// Numbers of connections, descriptions and predictions.
    pub(crate) connections: AtomicUsize,
    pub(crate) descriptions: AtomicUsize,
    pub(crate) predictions: AtomicUsize,
    /// The head and body of the last prediction request.
    pub(crate) last: Mutex<(String, String)>,
    /// How many prediction requests had several rows.
    pub(crate) batches: AtomicUsize,
    /// Whether held requests are released.
    release_batches: watch::Sender<bool>,
    /// Whether the predictor has crashed.
    crashes: watch::Sender<bool>,
    /// Changes when idle connections must be closed.
    close_connections: watch::Sender<u32>,
    /// How many connections are open.
    open: watch::Sender<usize>,
}

/// A predictor, which stops when dropped.
pub(crate) struct FakePredictor {
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Script>,
    serving: JoinHandle<()>,
}

impl Drop for FakePredictor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakePredictor {
    /// A predictor of `model` in the namespace `default`, with four features between -10 and 10.
    pub(crate) async fn of(model: &str) -> Self {
        Self::at(model, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The same at `address`.
    pub(crate) async fn at(model: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::on(listener, Arc::new(Script::new(model)))
    }

    fn on(listener: TcpListener, script: Arc<Script>) -> Self {
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(accept(listener, script.clone()));
        Self { address, script, serving }
    }

    /// Stops the predictor: its port refuses connections, and open ones are closed.
    pub(crate) async fn stop(mut self) -> StoppedPredictor {
        let (address, script) = (self.address, self.script.clone());
        self.serving.abort();
        assert!((&mut self.serving).await.unwrap_err().is_cancelled());
        script.all_closed().await;
        StoppedPredictor { address, script }
    }

    pub(crate) fn set_predict_behavior(&self, behavior: Behavior) {
        *self.script.predicts.lock().unwrap() = behavior;
    }

    pub(crate) fn set_describe_behavior(&self, behavior: Behavior) {
        *self.script.describes.lock().unwrap() = behavior;
    }

    /// Changes the revision and description of the model.
    pub(crate) fn change_revision(&self, revision: &str, change: impl FnOnce(&mut Value)) {
        let mut description = self.script.description.lock().unwrap();
        description["revision"] = json!(revision);
        change(&mut description);
    }

    /// Closes idle connections and waits until none is open.
    pub(crate) async fn close_connections(&self) {
        self.script.close_connections.send_modify(|times| *times += 1);
        self.script.all_closed().await;
    }

    /// Waits until no connection is open.
    pub(crate) async fn wait_disconnected(&self) {
        self.script.all_closed().await;
    }

    pub(crate) fn connections(&self) -> usize {
        self.script.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn descriptions(&self) -> usize {
        self.script.descriptions.load(Ordering::SeqCst)
    }

    pub(crate) fn predictions(&self) -> usize {
        self.script.predictions.load(Ordering::SeqCst)
    }

    pub(crate) fn batches(&self) -> usize {
        self.script.batches.load(Ordering::SeqCst)
    }

    /// Releases held requests, and later ones.
    pub(crate) fn release_batches(&self) {
        self.script.release_batches.send_replace(true);
    }

    /// Holds requests with several rows again.
    pub(crate) fn hold_batches(&self) {
        self.script.release_batches.send_replace(false);
        self.set_predict_behavior(Behavior::HoldBatches);
    }
}

/// A stopped predictor.
pub(crate) struct StoppedPredictor {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
}

impl StoppedPredictor {
    /// Starts it again at its address.
    pub(crate) async fn restart(self) -> FakePredictor {
        FakePredictor::on(TcpListener::bind(self.address).await.unwrap(), self.script)
    }
}

impl Script {
    fn new(model: &str) -> Self {
        let name: ModelName = model.parse().unwrap();
        let features = ["a", "b", "c", "d"].map(|name| json!({"name": name, "min": -10.0, "max": 10.0}));
        let description = json!({
            "model": name, "namespace": "default", "version": "1.0", "revision": "6f3a9c1e",
            "task": "Classification", "features": features, "classes": [0, 1],
            "quality": {"metric": "Accuracy", "value": 0.96, "samples": 200}, "digest": "00",
        });
        Self {
            description: Mutex::new(description),
            describes: Mutex::new(Behavior::Normal),
            predicts: Mutex::new(Behavior::Normal),
            revision: Mutex::default(),
            connections: AtomicUsize::new(0),
            descriptions: AtomicUsize::new(0),
            predictions: AtomicUsize::new(0),
            last: Mutex::default(),
            batches: AtomicUsize::new(0),
            release_batches: watch::Sender::new(false),
            crashes: watch::Sender::new(false),
            close_connections: watch::Sender::new(0),
            open: watch::Sender::new(0),
        }
    }

    async fn all_closed(&self) {
        let mut open = self.open.subscribe();
        let closed = open.wait_for(|&open| open == 0);
        tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap().unwrap();
    }

    /// The normal response: status, revision, body.
    fn normal(&self, path: &str, body: &str) -> (u16, String, String) {
        let description = self.description.lock().unwrap().clone();
        let described = description["revision"].as_str().unwrap().to_owned();
        if path == "/model" {
            return (200, described, description.to_string());
        }
        let revision = self.revision.lock().unwrap().clone().unwrap_or(described);
        let body = body::parse(body.as_bytes()).unwrap();
        let wants = body.probabilities;
        let rows = match body.rows {
            // As they came, whatever features they were sent for.
            BodyRows::Numbers(rows) => rows,
            BodyRows::Named(named) => {
                let features: Vec<Feature> = serde_json::from_value(description["features"].clone()).unwrap();
                named.resolve(&features).unwrap()
            }
        };
        let one = |row: &[f64]| {
            let class = usize::from(row[0] + row[1] > 0.0);
            match description["outputs"].as_array() {
                Some(outputs) => json!({"prediction": vec![row[0]; outputs.len()]}),
                None if description["task"] == "Regression" => json!({"prediction": row[0] + row[1]}),
                None if wants => {
                    let mut probabilities = [0.13; 2];
                    probabilities[class] = 0.87;
                    json!({"prediction": class, "confidence": 0.87, "probabilities": probabilities})
                }
                None => json!({"prediction": class, "confidence": 0.87}),
            }
        };
        let answers: Vec<_> = rows.iter().map(one).collect();
        let answer = if rows.is_single() { answers[0].clone() } else { json!({"predictions": answers}) };
        (200, revision, answer.to_string())
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    let mut crashes = script.crashes.subscribe();
    loop {
        let accepted = tokio::select! {
            _ = crashes.wait_for(|&crashes| crashes) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { return };
        script.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve_connection(stream, script.clone()));
    }
}

/// Counts a connection as open until dropped.
struct Open(Arc<Script>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

async fn serve_connection(stream: TcpStream, script: Arc<Script>) {
    script.open.send_modify(|open| *open += 1);
    // Declared before the stream, so that the stream is closed before the count decreases.
    let _open = Open(script.clone());
    let mut stream = stream;
    let mut close_connections = script.close_connections.subscribe();
    let mut requests = 0;
    loop {
        let (head, body) = tokio::select! {
            _ = close_connections.changed() => return,
            request = read(&mut stream) => match request {
                Some(request) => request,
                None => return,
            }
        };
        requests += 1;
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let behavior = if path == "/model" {
            script.descriptions.fetch_add(1, Ordering::SeqCst);
            script.describes.lock().unwrap().clone()
        } else {
            script.predictions.fetch_add(1, Ordering::SeqCst);
            script.batches.fetch_add(usize::from(body.starts_with(BATCH)), Ordering::SeqCst);
            *script.last.lock().unwrap() = (head, body.clone());
            script.predicts.lock().unwrap().clone()
        };
        let (mut status, revision, mut answer) = script.normal(&path, &body);
        match behavior {
            Behavior::Slow(time) => tokio::time::sleep(time).await,
            Behavior::Answer(other, text) => (status, answer) = (other, text),
            Behavior::Bytes(bytes) => {
                drop(stream.write_all(&bytes).await);
                return;
            }
            Behavior::Hang => std::future::pending().await,
            Behavior::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Behavior::Close => return,
            Behavior::OncePerConnection if requests > 1 => return,
            Behavior::HoldBatches if body.starts_with(BATCH) => {
                let mut go = script.release_batches.subscribe();
                go.wait_for(|&go| go).await.unwrap();
            }
            Behavior::Crash => {
                script.crashes.send_replace(true);
                std::future::pending::<()>().await;
            }
            Behavior::Normal | Behavior::OncePerConnection | Behavior::HoldBatches => {}
        }
        let length = answer.len();
        let text = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             canopy-revision: {revision}\r\n\r\n{answer}"
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads the head and body of the next request.
async fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, String::from_utf8(bytes).unwrap()))
}
