//! Pods that fail while others serve: no client notices, unless too many fail.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, until};
use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW};

fn answer(status: u16, body: &str) -> Behavior {
    Behavior::Answer(status, body.to_owned())
}

/// Checks that no client notices a pod with this behavior, although it gets requests.
async fn check(behavior: Behavior) {
    let (cluster, [good, bad]) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    bad.set_predict_behavior(behavior.clone());
    for _ in 0..30 {
        let answered = gateway.predict().await;
        assert_eq!(answered.status, 200, "{behavior:?}: {answered:?}");
    }
    assert_eq!(good.predictions(), 30, "{behavior:?}");
    assert!(bad.predictions() > 0, "{behavior:?}: it was never asked");
}

#[tokio::test]
async fn rows_are_retried_on_another_pod_after_any_invalid_response() {
    for behavior in [
        Behavior::Reset,
        Behavior::Close,
        Behavior::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        answer(500, r#"{"detail":"Model error"}"#),
        answer(502, "Bad Gateway"),
        answer(503, r#"{"detail":"not proven yet"}"#),
        answer(404, ""),
        answer(200, "<html>"),
        answer(200, r#"{"prediction":7,"confidence":0.5}"#),
    ] {
        check(behavior).await;
    }
}

#[tokio::test]
async fn no_client_notices_pods_that_stop() {
    let (cluster, [one, two, three]) = Cluster::with_pods::<3>().await;
    let gateway = cluster.gateway().await;
    for pod in [Some(one), Some(two), None] {
        for _ in 0..50 {
            gateway.predict().await.class();
        }
        if let Some(pod) = pod {
            pod.stop().await;
        }
    }
    assert!(three.predictions() >= 50);
}

#[tokio::test]
async fn no_client_notices_pods_that_stop_at_once() {
    let (cluster, [one, two, three, four]) = Cluster::with_pods::<4>().await;
    let gateway = cluster.gateway().await;
    gateway.predict().await.class();
    futures_util::future::join_all([one, two, three].map(FakePredictor::stop)).await;
    let all = futures_util::future::join_all((0..50).map(|_| gateway.predict())).await;
    for answered in &all {
        assert_eq!(answered.class(), 1);
    }
    assert!(four.predictions() >= 50);
}

#[tokio::test]
async fn rows_are_not_sent_to_a_third_pod_that_would_fail_too() {
    let (cluster, pods) = Cluster::with_pods::<3>().await;
    let gateway = cluster.gateway().await;
    gateway.predict().await.class();
    for pod in &pods {
        pod.set_predict_behavior(answer(500, "{}"));
    }
    let asked = || pods.iter().map(FakePredictor::predictions).sum::<usize>();
    let before = asked();
    gateway.predict().await.problem(503, "predictor_failed");
    assert_eq!(asked() - before, 2);
}

/// How many of five pods get a prediction request that each of them answers with `behavior`.
async fn reached(behavior: Behavior, code: &str) -> usize {
    let (cluster, pods) = Cluster::with_pods::<5>().await;
    let gateway = cluster.gateway().await;
    while pods.iter().any(|pod| pod.predictions() == 0) {
        gateway.predict().await.class();
    }
    let before = pods.each_ref().map(FakePredictor::predictions);
    for pod in &pods {
        pod.set_predict_behavior(behavior.clone());
    }
    gateway.predict().await.problem(503, code);
    let after = pods.each_ref().map(FakePredictor::predictions);
    before.iter().zip(after).filter(|(before, after)| *before < after).count()
}

#[tokio::test]
async fn rows_that_crash_every_pod_reach_two_pods() {
    assert_eq!(reached(Behavior::Crash, "predictor_unavailable").await, 2);
}

#[tokio::test]
async fn rows_whose_connection_is_reset_reach_two_pods() {
    assert_eq!(reached(Behavior::Reset, "predictor_unavailable").await, 2);
}

#[tokio::test]
async fn an_unreachable_pod_does_not_count_as_one_of_the_two() {
    // Pods are picked at random: some of these gateways pick the stopped pod, then the bad one.
    for _ in 0..20 {
        let (cluster, [stopped, bad, good]) = Cluster::with_pods::<3>().await;
        stopped.stop().await;
        bad.set_predict_behavior(answer(500, "{}"));
        let gateway = cluster.gateway().await;
        gateway.predict().await.class();
        assert_eq!(good.predictions(), 1);
    }
}

#[tokio::test]
async fn no_client_notices_a_pod_that_was_never_up() {
    let (cluster, [one, two]) = Cluster::with_pods::<2>().await;
    one.stop().await;
    let gateway = cluster.gateway().await;
    let all = futures_util::future::join_all((0..50).map(|_| gateway.predict())).await;
    for answered in &all {
        assert_eq!(answered.class(), 1);
    }
    assert_eq!(two.predictions(), 50);
}

#[tokio::test]
async fn a_pod_that_fails_to_describe_its_model_is_skipped() {
    let (cluster, [good, bad]) = Cluster::with_pods::<2>().await;
    for behavior in [Behavior::Reset, answer(503, "{}"), answer(200, "{}"), answer(404, "")] {
        bad.set_describe_behavior(behavior.clone());
        let started = (good.descriptions(), bad.descriptions());
        for _ in 0..10 {
            let gateway = cluster.gateway().await;
            assert_eq!(gateway.predict().await.status, 200, "{behavior:?}");
            let described = gateway.get("/api/models/demo").await;
            assert_eq!(described.json()["version"], "1.0", "{behavior:?}");
        }
        assert!(bad.descriptions() > started.1 && good.descriptions() > started.0);
    }
}

#[tokio::test]
async fn a_rejection_of_the_rows_is_not_retried() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    let asked = || pods.iter().map(FakePredictor::predictions).sum::<usize>();
    for (behavior, status, code) in [
        (answer(400, r#"{"detail":"Invalid features: too odd"}"#), 422, "invalid_features"),
        (answer(413, "{}"), 413, "body_too_large"),
    ] {
        for pod in &pods {
            pod.set_predict_behavior(behavior.clone());
        }
        let before = asked();
        gateway.predict().await.problem(status, code);
        assert_eq!(asked(), before + 1);
    }
}

#[tokio::test]
async fn a_failed_pod_is_ejected_for_a_second_although_it_is_idle() {
    let (cluster, [good, bad]) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    bad.set_predict_behavior(answer(503, r#"{"detail":"not proven yet"}"#));
    let started = Instant::now();
    while bad.predictions() == 0 {
        gateway.predict().await.class();
    }
    for _ in 0..50 {
        gateway.predict().await.class();
    }
    assert_eq!(bad.predictions(), 1);
    bad.set_predict_behavior(Behavior::Normal);
    let before = good.predictions();
    while bad.predictions() == 1 {
        gateway.predict().await.class();
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    assert!(good.predictions() > before, "the pod returns after its ejection");
}

#[tokio::test]
async fn if_every_pod_fails_the_retry_budget_allows_a_hundred_retries() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    gateway.predict().await.class();
    for pod in &pods {
        pod.set_predict_behavior(answer(500, "{}"));
    }
    let asked = || pods.iter().map(FakePredictor::predictions).sum::<usize>();
    let before = asked();
    for _ in 0..150 {
        gateway.predict().await.problem(503, "predictor_failed");
    }
    assert_eq!(asked() - before, 150 + 100);
    let attempts = r#"canopy_gateway_upstream_requests_total{model="demo",model_namespace="default",outcome="predictor_failed",version="1.0"} 250"#;
    assert!(gateway.metrics().contains(attempts), "every attempt is counted: {}", gateway.metrics());
}

#[tokio::test]
async fn the_deadline_applies_to_both_attempts_together() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let mut settings = cluster.settings();
    settings.upstream_timeout = Duration::from_secs(4);
    let gateway = Gateway::new(&settings).await;
    while pods.iter().any(|pod| pod.predictions() == 0) {
        gateway.predict().await.class();
    }
    for pod in &pods {
        pod.set_predict_behavior(Behavior::Hang);
    }
    let told = |pod: &FakePredictor| -> Duration {
        let (head, _) = pod.script.last.lock().unwrap().clone();
        let line = head.lines().find_map(|line| line.strip_prefix("canopy-timeout-milliseconds: ")).unwrap();
        Duration::from_millis(line.trim().parse().unwrap())
    };
    let before = pods.each_ref().map(FakePredictor::predictions);
    let (answered, ()) = tokio::join!(
        gateway.predict(),
        until("both are asked", async || {
            pods.iter().zip(before).all(|(pod, before)| pod.predictions() > before)
        })
    );
    answered.problem(504, "deadline_exceeded");
    let [one, other] = pods.each_ref().map(told);
    // The second attempt starts after the shortest hedge delay, and gets the remaining time only.
    assert!(one.abs_diff(other) >= Duration::from_millis(90), "{one:?} {other:?}");
    assert!(one.max(other) <= settings.upstream_timeout, "{one:?} {other:?}");
}

#[tokio::test]
async fn all_rows_of_a_request_are_retried_on_the_same_pod() {
    let (cluster, [good, bad]) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    bad.set_predict_behavior(Behavior::Close);
    let two = r#"{"instances":[[1,2,0,0],[-1,-2,0,0]]}"#;
    for _ in 0..10 {
        let answered = gateway.post("/api/predict", two).await.json();
        let classes: Vec<_> =
            answered["predictions"].as_array().unwrap().iter().map(|p| p["class"].clone()).collect();
        assert_eq!(classes, [1, 0]);
    }
    gateway.post("/api/predict", ROW).await.class();
    assert_eq!(good.predictions(), 11);
}
