//! The gateway on a socket: clients that dawdle, and an end that loses nothing.

use std::net::SocketAddr;
use std::time::Duration;

use canopy_gateway::serve::{self, Process};
use canopy_gateway::settings::Settings;
use canopy_runtime::metrics::Registry;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::workers::Workers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::gateway::{ROW, settings};
use crate::predictor::{Manner, Predictor};

struct Served {
    address: SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), String>>,
}

async fn serve(settings: Settings) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::new();
    let shutdown = Shutdown::new(readiness.clone());
    let ended = tokio::spawn({
        let (readiness, shutdown) = (readiness.clone(), shutdown.clone());
        async move {
            let (workers, registry) = (Workers::here(), Registry::new());
            let process = Process { workers, registry, readiness, shutdown };
            serve::run(&settings, listener, process).await.map_err(|e| e.to_string())
        }
    });
    Served { address, readiness, shutdown, ended }
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap()
}

/// Everything that comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    in_time(stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

fn request(body: &str) -> String {
    format!(
        "POST /api/predict HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_body_that_dawdles_is_given_up_and_one_in_small_pieces_is_not() {
    let predictor = Predictor::of("demo").await;
    let mut settings = settings(&[("demo", &predictor)]);
    settings.body_timeout = Duration::from_millis(500);
    let served = serve(settings).await;
    let whole = request(ROW);

    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(&whole.as_bytes()[..whole.len() - 1]).await.unwrap();
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\"") && answer.contains("within 500ms"), "{answer}");
    assert_eq!(predictor.predictions(), 0);

    let mut pieces = TcpStream::connect(served.address).await.unwrap();
    pieces.set_nodelay(true).unwrap();
    for piece in whole.as_bytes().chunks(3) {
        pieces.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = rest(&mut pieces).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"class\":1"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_cut_or_lies_about_its_length_does_no_harm() {
    let predictor = Predictor::of("demo").await;
    let served = serve(settings(&[("demo", &predictor)])).await;
    for bytes in [
        "POST /api/predict HTTP/1.1\r\nhost: g\r\ncontent-length: 1000\r\n\r\n{\"features\":[1",
        "POST /api/predict HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n{",
        "POST /api/predict HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{",
        "POST /api/predict HTTP/1.1\r\nhost: g\r\ncontent-length: 99999999999\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        let refused = ["HTTP/1.1 400 ", "HTTP/1.1 413 "].iter().any(|status| answer.starts_with(status));
        assert!(answer.is_empty() || refused, "{bytes}: {answer}");
    }
    assert_eq!(predictor.predictions(), 0);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(request(ROW).as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn what_was_accepted_is_answered_after_the_order_to_stop() {
    let predictor = Predictor::of("demo").await;
    predictor.predicts(Manner::Slow(Duration::from_millis(300)));
    let mut settings = settings(&[("demo", &predictor)]);
    settings.drain_seconds = 0;
    let served = serve(settings).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(request(ROW).as_bytes()).await.unwrap();
    in_time(async {
        while predictor.predictions() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(served.readiness.check(), Ok(()));
    served.shutdown.order();
    assert_eq!(served.readiness.check(), Err("shutting down".to_owned()));
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    in_time(served.ended).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "the door is closed");
}

#[tokio::test]
async fn a_gateway_whose_database_cannot_be_opened_is_never_ready_and_ends_with_the_reason() {
    let mut settings = settings(&[]);
    settings.database_url = Some("sqlite:///nowhere/canopy.db".to_owned());
    let served = serve(settings).await;
    let error = in_time(served.ended).await.unwrap().unwrap_err();
    assert!(error.starts_with("failed to open database sqlite:///nowhere/canopy.db"), "{error}");
    assert_eq!(served.readiness.check(), Err("gateway: opening the database".to_owned()));
}
