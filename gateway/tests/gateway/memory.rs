//! The memory for request bodies is limited over all requests.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::Request;
use tokio::task::JoinSet;

use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW, TestResponse, settings};

/// The memory limit: six mebibytes for large bodies, and two for small ones.
const MEMORY: usize = 8 << 20;
const MANY: usize = 40;

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_mins(5), future).await.unwrap()
}

async fn gateway(predictor: &FakePredictor) -> Arc<Gateway> {
    let mut settings = settings(&[("demo", predictor)]);
    settings.body_memory_bytes = Some(MEMORY);
    // Hanging requests hang until the test ends them.
    settings.upstream_timeout = Duration::from_hours(1);
    settings.body_timeout = Duration::from_hours(1);
    Arc::new(Gateway::new(&settings).await)
}

fn held(gateway: &Gateway) -> usize {
    usize::try_from(gateway.metric("canopy_request_body_bytes")).unwrap()
}

/// A body a little shorter than 2 MiB.
fn large() -> Bytes {
    let rows = vec!["[0,0,0,0]"; (19 << 20) / 100].join(",");
    format!("{{\"instances\":[{rows}]}}").into()
}

fn all(gateway: &Arc<Gateway>, count: usize, body: impl Fn() -> Body) -> JoinSet<TestResponse> {
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let (gateway, body) = (gateway.clone(), body());
        asking.spawn(async move { gateway.post("/api/predict", body).await });
    }
    asking
}

#[tokio::test]
async fn large_bodies_are_limited_and_small_requests_still_pass() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = gateway(&predictor).await;
    gateway.predict().await.class();
    predictor.set_predict_behavior(Behavior::Hang);
    let body = large();
    assert!((1_900_000..2 << 20).contains(&body.len()), "{}", body.len());
    let mut asking = all(&gateway, MANY, || Body::from(body.clone()));
    // Three bodies fit.
    for _ in 3..MANY {
        let answered = in_time(asking.join_next()).await.unwrap().unwrap();
        let problem = answered.problem(503, "overloaded");
        assert!(problem.detail.contains("the memory for request bodies is in use"), "{problem:?}");
        assert!(held(&gateway) <= MEMORY, "{}", held(&gateway));
    }
    assert_eq!(held(&gateway), 3 * body.len());
    in_time(async {
        while predictor.predictions() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    predictor.set_predict_behavior(Behavior::Normal);
    for _ in 0..20 {
        gateway.predict().await.class();
    }
    asking.abort_all();
    while asking.join_next().await.is_some() {}
    assert_eq!(held(&gateway), 0);
    let closed = r#"canopy_gateway_requests_total{code="499",model="demo",model_namespace="default",reason="client_closed",version="1.0"}"#;
    assert_eq!(gateway.metric(closed), 3, "the cancelled requests");
    let answered = gateway.post("/api/predict", body).await;
    assert_eq!(answered.status, 200, "the memory is free again");
}

#[tokio::test]
async fn unfinished_bodies_count_for_the_bytes_received() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = gateway(&predictor).await;
    let half = |bytes: usize| {
        let arrived = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes]))]);
        Body::from_stream(arrived.chain(stream::pending()))
    };
    let slow = all(&gateway, 200, || half(100));
    in_time(async {
        while held(&gateway) < 200 * 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(
        gateway.post("/api/predict", large()).await.status,
        200,
        "they keep no room that they do not use"
    );

    let mut greedy = all(&gateway, 20, || half(1 << 20));
    in_time(greedy.join_next()).await.unwrap().unwrap().problem(503, "overloaded");
    assert!(held(&gateway) <= MEMORY, "{}", held(&gateway));
    gateway.predict().await.class();
    drop((slow, greedy));
    in_time(async {
        while held(&gateway) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn compressed_bodies_and_byte_order_marks_are_reported() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = gateway(&predictor).await;
    let gzip: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let send = async |encoding: &str, body: &[u8]| {
        let request = Request::post("/api/predict").header("content-encoding", encoding);
        gateway.send(request.body(Body::from(body.to_vec())).unwrap()).await
    };
    let problem = send("gzip", gzip).await.problem(415, "unsupported_encoding");
    assert_eq!(problem.detail, "the body has the encoding \"gzip\"; send JSON without Content-Encoding");
    send("identity", ROW.as_bytes()).await.class();
    send("identity", b"{").await.problem(400, "malformed_json");

    let marked = [b"\xef\xbb\xbf", ROW.as_bytes()].concat();
    let problem = gateway.post("/api/predict", marked).await.problem(400, "malformed_json");
    assert!(problem.detail.starts_with("the body begins with a byte order mark"), "{problem:?}");
}
