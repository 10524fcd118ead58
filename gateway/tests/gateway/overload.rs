//! Overload: excess requests are refused at once, and other models are not affected.

use std::time::Duration;

use futures_util::future::join_all;

use crate::cluster::{Cluster, until};
use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW, settings};

/// The concurrency limit of a model with one pod and little traffic.
const AT_ONCE: usize = 128;

/// The response of an overloaded predictor.
fn full() -> Behavior {
    let body = r#"{"detail":"Overloaded: try again in a second"}"#;
    let head =
        format!("HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: {}", body.len());
    Behavior::Bytes(format!("{head}\r\n\r\n{body}").into_bytes())
}

#[tokio::test]
async fn rows_refused_by_an_overloaded_pod_are_retried_on_another_one() {
    let (cluster, [good, busy]) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    busy.set_predict_behavior(full());
    while busy.predictions() == 0 {
        gateway.predict().await.class();
    }
    for _ in 0..20 {
        gateway.predict().await.class();
    }
    assert_eq!(busy.predictions(), 1, "an overloaded pod must not attract requests by refusing fast");
    assert!(good.predictions() > 20);
}

#[tokio::test]
async fn if_all_pods_are_overloaded_clients_get_503_until_one_recovers() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    gateway.predict().await.class();
    for pod in &pods {
        pod.set_predict_behavior(full());
    }
    for _ in 0..20 {
        let problem = gateway.predict().await.problem(503, "overloaded");
        assert_eq!(problem.error, "AI service unavailable");
        assert!(problem.detail.starts_with("model demo.default is overloaded"), "{}", problem.detail);
    }
    for pod in &pods {
        pod.set_predict_behavior(Behavior::Normal);
    }
    for _ in 0..20 {
        gateway.predict().await.class();
    }
}

#[tokio::test]
async fn a_flood_of_one_model_is_limited_and_does_not_affect_others() {
    let (flooded, quiet) = (FakePredictor::of("demo").await, FakePredictor::of("iris").await);
    let gateway = Gateway::new(&settings(&[("demo", &flooded), ("iris", &quiet)])).await;
    gateway.predict().await.class();
    flooded.set_predict_behavior(Behavior::HoldBatches);
    let flood = async {
        let all = join_all((0..500).map(|_| gateway.predict_rows(2))).await;
        let answered = all.iter().filter(|answered| answered.status == 200).count();
        assert_eq!(answered, AT_ONCE);
        for refused in all.iter().filter(|answered| answered.status != 200) {
            refused.problem(503, "overloaded");
        }
    };
    let others = async {
        until("all that are worked on are held", async || flooded.batches() == AT_ONCE).await;
        for _ in 0..20 {
            gateway.post("/api/models/iris/predict", ROW).await.class();
        }
        flooded.release_batches();
    };
    tokio::join!(flood, others);
    flooded.set_predict_behavior(Behavior::Normal);
    gateway.predict().await.class();
}

#[tokio::test]
async fn a_predictor_gets_the_remaining_time() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    // The description takes a part of the 20 seconds.
    let before = Duration::from_millis(300);
    predictor.set_describe_behavior(Behavior::Slow(before));
    gateway.predict().await.class();
    let (head, _) = predictor.script.last.lock().unwrap().clone();
    let told = head.lines().find_map(|line| line.strip_prefix("canopy-timeout-milliseconds: "));
    let told: u64 = told.unwrap().trim().parse().unwrap();
    assert!((15_000..=20_000 - before.as_millis() as u64).contains(&told), "{told} of 20 seconds");
}
