//! Connections to predictors are reused, and replaced when closed.

use std::time::Duration;

use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, settings};

#[tokio::test]
async fn a_connection_is_reused() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    for _ in 0..50 {
        gateway.predict().await.class();
    }
    assert_eq!((predictor.connections(), predictor.predictions()), (1, 50));
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_used() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    for round in 1..=10 {
        gateway.predict().await.class();
        assert_eq!((predictor.connections(), predictor.predictions()), (round, round));
        predictor.close_connections().await;
    }
}

#[tokio::test]
async fn a_request_on_a_closed_idle_connection_is_repeated_on_a_new_one() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    predictor.set_predict_behavior(Behavior::OncePerConnection);
    // The description uses the first connection, so each prediction meets a closed one.
    for round in 1..=10 {
        gateway.predict().await.class();
        assert_eq!(predictor.connections(), round + 1);
    }
    let counted = r#"canopy_gateway_upstream_requests_total{model="demo",model_namespace="default",outcome="ok",version="1.0"} 10"#;
    assert!(gateway.metrics().contains(counted), "{}", gateway.metrics());
}

#[tokio::test]
async fn a_request_on_a_new_connection_is_not_repeated() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.predict().await.class();
    predictor.set_predict_behavior(Behavior::Close);
    gateway.predict().await.problem(503, "predictor_failed");
    assert_eq!((predictor.connections(), predictor.predictions()), (2, 3), "one idle, one fresh");
}

#[tokio::test]
async fn concurrent_requests_have_their_own_connections_and_share_the_first_description() {
    let predictor = FakePredictor::of("demo").await;
    predictor.set_predict_behavior(Behavior::Slow(Duration::from_millis(100)));
    predictor.set_describe_behavior(Behavior::Slow(Duration::from_millis(100)));
    let gateway = Gateway::with_predictor(&predictor).await;
    let all = futures_util::future::join_all((0..20).map(|_| gateway.predict())).await;
    assert!(all.iter().all(|answered| answered.class() == 1));
    assert_eq!((predictor.descriptions(), predictor.predictions()), (1, 20));
    // The description's connection is reused.
    assert_eq!(predictor.connections(), 20);
}

#[tokio::test]
async fn requests_that_wait_for_a_description_share_its_error() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    predictor.set_describe_behavior(Behavior::Slow(Duration::from_millis(100)));
    *predictor.script.description.lock().unwrap() = serde_json::json!({"revision": "nonsense"});
    let all = futures_util::future::join_all((0..20).map(|_| gateway.predict())).await;
    assert!(all.iter().all(|answered| answered.problem(503, "predictor_failed").status == 503));
    assert_eq!(predictor.descriptions(), 1);
}

#[tokio::test]
async fn a_disconnecting_client_cancels_its_request_to_the_predictor() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    predictor.set_predict_behavior(Behavior::Hang);
    let mut asked = Box::pin(gateway.predict());
    let begun = async {
        while predictor.predictions() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut asked => panic!("answered"),
        begun = tokio::time::timeout(Duration::from_secs(10), begun) => begun.unwrap(),
    }
    assert!(gateway.metrics().contains("canopy_gateway_requests_in_flight 1\n"));
    drop(asked);
    assert!(gateway.metrics().contains("canopy_gateway_requests_in_flight 0\n"));
    predictor.set_predict_behavior(Behavior::Normal);
    gateway.predict().await.class();
    assert_eq!(
        predictor.connections(),
        2,
        "the connection of the request that was given up is not used again"
    );
}

#[tokio::test]
async fn connecting_times_out_before_the_deadline() {
    // A listener with a full backlog: the kernel does not respond to new connections.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 100, "the backlog does not fill");
    }
    let mut settings = settings(&[]);
    settings.predictors = format!("demo=http://{address}").parse().unwrap();
    let started = std::time::Instant::now();
    Gateway::new(&settings).await.predict().await.problem(503, "predictor_unavailable");
    let took = started.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}");
}
