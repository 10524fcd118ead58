//! A whole predictor on a socket: what makes it ready, what keeps it unready, and how it ends.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use canopy_contract::report::Refusal;
use canopy_contract::serving::ServingConfig;
use canopy_predictor::artifact;
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::files;
use canopy_predictor::metrics::Metrics;
use canopy_predictor::serving::app::Limits;
use canopy_predictor::serving::server::{Process, ServeError, Serving, run};
use canopy_predictor::training::prepare::{Preparation, PrepareError, prepare};
use canopy_predictor::training::record::Record;
use canopy_runtime::metrics::Registry;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::shutdown::Shutdown;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::{closed, get, post, receive, send};
use crate::harness::{LIMITS, PATIENCE, config, synthetic};

const ROW: &str = r#"{"features":[1,2,-0.5,0.3]}"#;

/// A predictor that runs in this process.
struct Predictor {
    address: SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), ServeError>>,
}

impl Predictor {
    async fn start(folder: &Path, config: ServingConfig, limits: Limits, drain: Duration) -> Self {
        let folder = folder.to_owned();
        Self::serving(Serving { config, folder, limits, drain, gives_up: None, hosts: AllowedHosts::Any })
            .await
    }

    async fn serving(serving: Serving) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::new();
        let shutdown = Shutdown::new(readiness.clone());
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let process = Process {
            workers: Workers::here(),
            metrics,
            readiness: readiness.clone(),
            shutdown: shutdown.clone(),
        };
        let ended = tokio::spawn(run(serving, listener, process));
        Self { address, readiness, shutdown, ended }
    }

    /// A predictor of what is in `folder`.
    async fn of(folder: &TempDir) -> Self {
        Self::start(folder.path(), synthetic(), LIMITS, Duration::ZERO).await
    }

    /// A predictor that is ready.
    async fn ready(limits: Limits, drain: Duration) -> (TempDir, Self) {
        let folder = prepared();
        let predictor = Self::start(folder.path(), synthetic(), limits, drain).await;
        predictor.until(Result::is_ok).await.unwrap();
        (folder, predictor)
    }

    /// Awaits a state of readiness.
    async fn until(&self, is: impl Fn(&Result<(), String>) -> bool) -> Result<(), String> {
        let reached = async {
            loop {
                let now = self.readiness.check();
                if is(&now) {
                    return now;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("it stays {:?}", self.readiness.check()))
    }

    async fn end(self) {
        self.shutdown.trigger();
        timeout(PATIENCE, self.ended).await.expect("it does not end").unwrap().unwrap();
    }
}

fn preparation() -> Preparation {
    prepare(&synthetic(), Trainer::Native, &|_, _| ()).unwrap()
}

/// A folder as `prepare` leaves it.
fn prepared() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let preparation = preparation();
    preparation.record().write(folder.path(), Some(&preparation.artifact)).unwrap();
    folder
}

fn rewrite(folder: &TempDir, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let path = folder.path().join(name);
    let bytes = files::read(&path, 1 << 30).unwrap();
    files::replace(&path, &change(bytes)).unwrap();
}

fn rewrite_record(folder: &TempDir, change: impl FnOnce(&mut Value)) {
    rewrite(folder, "prepared.json", |bytes| {
        let mut record = serde_json::from_slice(&bytes).unwrap();
        change(&mut record);
        record.to_string().into_bytes()
    });
}

/// The predictor stays up, does not serve, and says this everywhere.
async fn check_never_serves(predictor: Predictor, reason: &str) {
    let told = |ready: &Result<(), String>| {
        ready.as_ref().is_err_and(|why| !why.ends_with("loading") && !why.ends_with("proving"))
    };
    let why = predictor.until(told).await.unwrap_err();
    assert!(why.starts_with(&format!("model demo.default: {reason}")), "{why}");
    let why = why.trim_start_matches("model demo.default: ");

    let health = get(predictor.address, "/health").await;
    assert_eq!(health.status, 503);
    let health: Value = serde_json::from_str(&health.body).unwrap();
    assert_eq!((&health["status"], &health["reason"]), (&"unhealthy".into(), &why.into()));
    for reply in [post(predictor.address, ROW).await, get(predictor.address, "/model").await] {
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!((reply.status, &body["detail"]), (503, &format!("Model not ready: {why}").into()));
        assert!(reply.head.contains("canopy-revision: 6f3a9c1e"), "{}", reply.head);
    }
    assert!(!predictor.ended.is_finished(), "it ended");
    predictor.end().await;
}

#[tokio::test]
async fn a_prepared_model_is_proven_and_then_serves() {
    let (_folder, predictor) = Predictor::ready(LIMITS, Duration::ZERO).await;
    let reply = post(predictor.address, ROW).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(reply.body.starts_with(r#"{"prediction":1,"confidence":"#), "{}", reply.body);
    assert_eq!(get(predictor.address, "/health").await.status, 200);
    let model: Value = serde_json::from_str(&get(predictor.address, "/model").await.body).unwrap();
    assert_eq!(model["digest"], preparation().report.digest);
    predictor.end().await;
}

#[tokio::test]
async fn it_is_unready_before_it_has_done_anything() {
    let readiness = Readiness::new();
    let never_polled = unpolled("default", &readiness).await;
    assert_eq!(readiness.check(), Err("model demo.default: loading".to_owned()));
    drop(never_polled);
}

#[tokio::test]
async fn two_models_of_one_name_are_each_waited_for() {
    let readiness = Readiness::new();
    let never_polled = (unpolled("default", &readiness).await, unpolled("shop", &readiness).await);
    let both = "model demo.default: loading; model demo.shop: loading";
    assert_eq!(readiness.check(), Err(both.to_owned()));
    drop(never_polled);
}

/// A predictor in a process with this readiness, before anybody has looked at it.
async fn unpolled(
    namespace: &str,
    readiness: &Readiness,
) -> impl Future<Output = Result<(), ServeError>> + use<> {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let process = Process {
        workers: Workers::here(),
        metrics,
        readiness: readiness.clone(),
        shutdown: Shutdown::new(readiness.clone()),
    };
    let folder = tempfile::tempdir().unwrap().path().to_owned();
    let config = config(&[&json!({ "namespace": namespace })]);
    let serving = Serving {
        config,
        folder,
        limits: LIMITS,
        drain: Duration::ZERO,
        gives_up: None,
        hosts: AllowedHosts::Any,
    };
    run(serving, TcpListener::bind("127.0.0.1:0").await.unwrap(), process)
}

#[tokio::test]
async fn a_byte_flipped_in_the_artifact_keeps_it_unready() {
    let length = preparation().artifact.len();
    for at in [0, 9, 20, 44, length / 2, length - 1] {
        let folder = prepared();
        rewrite(&folder, "model.canopy", |mut bytes| {
            bytes[at] ^= 1;
            bytes
        });
        check_never_serves(Predictor::of(&folder).await, "artifact_corrupt: artifact has SHA-256 ").await;
    }
}

#[tokio::test]
async fn a_byte_flipped_and_sealed_by_its_digest_is_found_by_the_artifacts_own_checksum() {
    let folder = prepared();
    rewrite(&folder, "model.canopy", |mut bytes| {
        bytes[100] ^= 1;
        bytes
    });
    let digest = artifact::digest(&files::read(&folder.path().join("model.canopy"), 1 << 30).unwrap());
    rewrite_record(&folder, |record| record["prepared"]["report"]["digest"] = digest.into());
    let reason = "artifact_corrupt: artifact does not match its own checksum";
    check_never_serves(Predictor::of(&folder).await, reason).await;
}

#[tokio::test]
async fn a_changed_record_keeps_it_unready() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 6] = [
        (
            |record| record["prepared"]["report"]["digest"] = "00".into(),
            "artifact_corrupt: artifact has SHA-256 ",
        ),
        (
            |record| record["prepared"] = Value::Null,
            "artifact_corrupt: prepared.json is not a valid record of prepare: ",
        ),
        (
            |record| record["prepared"]["golden"]["answer"]["prediction"] = 7.into(),
            "golden_mismatch: golden row was answered ",
        ),
        (
            |record| {
                let confidence = record["prepared"]["golden"]["answer"]["confidence"].as_f64().unwrap();
                record["prepared"]["golden"]["answer"]["confidence"] = confidence.next_up().into();
            },
            "golden_mismatch: golden row was answered ",
        ),
        (
            |record| record["prepared"]["golden"]["features"] = json!([1.0]),
            "golden_mismatch: golden row was answered with 400 Bad Request: ",
        ),
        (
            |record| record["prepared"]["golden"]["features"][1] = (-11).into(),
            "golden_mismatch: golden row was answered with 400 Bad Request: ",
        ),
    ];
    for (change, reason) in changes {
        let folder = prepared();
        rewrite_record(&folder, change);
        check_never_serves(Predictor::of(&folder).await, reason).await;
    }
    let folder = prepared();
    rewrite(&folder, "prepared.json", |bytes| bytes[..bytes.len() / 2].to_vec());
    let reason = "artifact_corrupt: prepared.json is not a valid record of prepare: ";
    check_never_serves(Predictor::of(&folder).await, reason).await;
}

#[tokio::test]
async fn a_process_that_may_end_ends_for_a_bad_artifact_with_the_reason() {
    let corrupt = prepared();
    rewrite(&corrupt, "model.canopy", |bytes| bytes[1..].to_vec());
    let forgetful = prepared();
    rewrite_record(&forgetful, |record| record["prepared"]["golden"]["answer"]["prediction"] = 7.into());
    for (folder, code) in [(corrupt, "artifact_corrupt"), (forgetful, "golden_mismatch")] {
        let ended = gives_up(&folder).await.ended;
        let ended = timeout(PATIENCE, ended).await.expect("it does not end").unwrap();
        let Err(ServeError::Refused(refusal)) = ended else { panic!("{ended:?}") };
        assert_eq!(refusal.code, code);
    }
}

#[tokio::test]
async fn one_that_is_to_give_up_stays_where_prepare_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = Refusal { code: "gate_missed".to_owned(), message: "too low".to_owned() };
    Record::Refused(refusal).write(folder.path(), None).unwrap();
    check_never_serves(gives_up(&folder).await, "gate_missed: too low").await;
}

/// A predictor that ends at once for a bad artifact.
async fn gives_up(folder: &TempDir) -> Predictor {
    let (config, folder) = (synthetic(), folder.path().to_owned());
    let gives_up = Some(Duration::ZERO);
    Predictor::serving(Serving {
        config,
        folder,
        limits: LIMITS,
        drain: Duration::ZERO,
        gives_up,
        hosts: AllowedHosts::Any,
    })
    .await
}

#[tokio::test]
async fn a_whole_model_that_answers_otherwise_is_not_served() {
    let other = config(&[&json!({"train": {"algorithm": {"randomForest": {"seed": 8}}}})]);
    let other = prepare(&other, Trainer::Native, &|_, _| ()).unwrap();
    let record = Record::Prepared { report: other.report, golden: preparation().golden, made_from: None };
    let folder = tempfile::tempdir().unwrap();
    record.write(folder.path(), Some(&other.artifact)).unwrap();
    check_never_serves(Predictor::of(&folder).await, "golden_mismatch: golden row was answered ").await;
}

#[tokio::test]
async fn a_model_of_another_revision_is_not_served() {
    let mut earlier = synthetic();
    earlier.revision = "00000000".to_owned();
    let preparation = prepare(&earlier, Trainer::Native, &|_, _| ()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    preparation.record().write(folder.path(), Some(&preparation.artifact)).unwrap();
    let reason =
        "artifact_corrupt: artifact is revision 00000000 of demo, but revision 6f3a9c1e of demo is to be";
    check_never_serves(Predictor::of(&folder).await, reason).await;
}

#[tokio::test]
async fn a_refused_preparation_is_reported_and_not_retried() {
    let strict = config(&[&json!({"train": {"gate": {"metric": "Accuracy", "min": 1.0}}})]);
    let Err(PrepareError::Refused(refused)) = prepare(&strict, Trainer::Native, &|_, _| ()) else {
        panic!("the gate was reached");
    };
    let refusal = refused.told;
    let reason = format!("gate_missed: {}", refusal.message);
    // Over a model that was prepared before: the refusal holds.
    let folder = prepared();
    Record::Refused(refusal).write(folder.path(), None).unwrap();
    check_never_serves(Predictor::of(&folder).await, &reason).await;
}

#[tokio::test]
async fn a_folder_without_a_model_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let predictor = Predictor::of(&folder).await;
    let error = timeout(PATIENCE, predictor.ended).await.unwrap().unwrap().unwrap_err().to_string();
    let expected = format!("failed to read {}/prepared.json: No such file", folder.path().display());
    assert!(error.starts_with(&expected) && error.contains("run prepare first"), "{error}");
}

#[tokio::test]
async fn a_slow_client_gets_408_and_others_are_served_meanwhile() {
    let limits = Limits { body_timeout: Duration::from_millis(200), ..LIMITS };
    let (_folder, predictor) = Predictor::ready(limits, Duration::ZERO).await;
    let mut slow = TcpStream::connect(predictor.address).await.unwrap();
    slow.write_all(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: 28\r\n\r\n{\"feat")
        .await
        .unwrap();
    assert_eq!(post(predictor.address, ROW).await.status, 200);
    let reply = receive(&mut slow).await;
    let expected = r#"{"detail":"Body too slow: it must arrive within 0.2 seconds"}"#;
    assert_eq!((reply.status, reply.body.as_str()), (408, expected));
    closed(&mut slow).await;
    predictor.end().await;
}

#[tokio::test]
async fn huge_cut_and_deep_bodies_are_answered_and_the_next_is_served() {
    let (_folder, predictor) = Predictor::ready(LIMITS, Duration::ZERO).await;
    let mut huge = TcpStream::connect(predictor.address).await.unwrap();
    huge.write_all(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: 999999999999\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(receive(&mut huge).await.status, 413);
    closed(&mut huge).await;

    let mut cut = TcpStream::connect(predictor.address).await.unwrap();
    cut.write_all(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{\"feat")
        .await
        .unwrap();
    drop(cut);
    for (body, status) in [
        (&ROW[..ROW.len() - 3], 422),
        (&*format!("{}{}", r#"{"features":"#, "[".repeat(500_000)), 422),
        (&*format!(r#"{{"instances":[{}[1,2]]}}"#, "[1,2,3,4],".repeat(10_000)), 400),
        (ROW, 200),
    ] {
        assert_eq!(post(predictor.address, body).await.status, status, "{}…", &body[..20]);
    }
    predictor.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_one_row_are_served_beside_clients_of_many() {
    let (_folder, predictor) = Predictor::ready(LIMITS, Duration::ZERO).await;
    let address = predictor.address;
    let many = format!(r#"{{"instances":[{}[1,2,-0.5,0.3]]}}"#, "[1,2,-0.5,0.3],".repeat(20_000));
    let alone: Value = serde_json::from_str(&post(address, ROW).await.body).unwrap();
    let clients = (0..16).map(|client| {
        let (many, alone) = (many.clone(), alone.clone());
        tokio::spawn(async move {
            if client % 4 > 0 {
                for _ in 0..50 {
                    let reply: Value = serde_json::from_str(&post(address, ROW).await.body).unwrap();
                    assert_eq!(reply, alone);
                }
            } else {
                let reply: Value = serde_json::from_str(&post(address, &many).await.body).unwrap();
                let predictions = reply["predictions"].as_array().unwrap();
                assert_eq!(predictions.len(), 20_001);
                assert!(
                    predictions.iter().all(|prediction| *prediction == alone),
                    "a row among many differs"
                );
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        timeout(PATIENCE, client).await.unwrap().unwrap();
    }
    predictor.end().await;
}

#[tokio::test]
async fn while_draining_it_answers_and_closes_connections() {
    let (_folder, predictor) = Predictor::ready(LIMITS, Duration::from_secs(1)).await;
    let mut kept = TcpStream::connect(predictor.address).await.unwrap();
    send(&mut kept, "POST /predict", ROW).await;
    assert!(!receive(&mut kept).await.head.contains("connection: close"));

    predictor.shutdown.trigger();
    assert_eq!(predictor.readiness.check(), Err("shutting down".to_owned()));
    let mut new = TcpStream::connect(predictor.address).await.unwrap();
    for stream in [&mut kept, &mut new] {
        send(stream, "POST /predict", ROW).await;
        let reply = receive(stream).await;
        assert!(reply.status == 200 && reply.head.contains("connection: close"), "{reply:?}");
        closed(stream).await;
    }
    timeout(PATIENCE, predictor.ended).await.unwrap().unwrap().unwrap();
    let is_closed = async { while TcpStream::connect(predictor.address).await.is_ok() {} };
    timeout(PATIENCE, is_closed).await.expect("the port is still open");
}
