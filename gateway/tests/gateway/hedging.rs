//! Slow and unresponsive pods: hedging, ejection, and what clients see.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::cluster::{Cluster, until};
use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW};

/// The shortest hedge delay.
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(100);
/// Longer than any hedged response takes on a busy machine, and much less than the deadline of 20 s.
const SOON: Duration = Duration::from_secs(3);

/// Gives the gateway latency samples of both pods.
async fn warm_up(gateway: &Gateway, pods: &[FakePredictor; 2]) {
    while pods.iter().any(|pod| pod.predictions() < 5) {
        gateway.predict().await.class();
    }
}

#[tokio::test]
async fn no_client_notices_a_hung_pod_and_it_is_ejected_until_it_responds() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let mut settings = cluster.settings();
    // Longer than the requests take that must not reach the ejected pod.
    settings.resilience.eject_time = Duration::from_secs(4);
    let gateway = Gateway::new(&settings).await;
    warm_up(&gateway, &pods).await;
    let [good, hung] = &pods;
    hung.set_predict_behavior(Behavior::Hang);
    let (before, started) = (hung.predictions(), Instant::now());
    until("the pod is asked", async || {
        gateway.predict().await.class();
        hung.predictions() > before
    })
    .await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    for _ in 0..50 {
        gateway.predict().await.class();
    }
    assert_eq!(hung.predictions() - before, 1, "one request is enough to eject it");
    let attempts = |outcome: &str| {
        let labels = format!(r#"model="demo",model_namespace="default",outcome="{outcome}",version="1.0""#);
        gateway.metric(&format!("canopy_gateway_upstream_requests_total{{{labels}}}"))
    };
    assert_eq!((attempts("cancelled"), attempts("deadline_exceeded")), (1, 0), "{}", gateway.metrics());
    hung.set_predict_behavior(Behavior::Normal);
    let served = good.predictions();
    while hung.predictions() < before + 10 {
        gateway.predict().await.class();
        assert!(started.elapsed() < Duration::from_secs(20), "the pod never returned");
    }
    assert!(good.predictions() > served, "it comes back by itself, not at once");
}

#[tokio::test]
async fn concurrent_requests_to_a_hung_pod_are_all_answered() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    warm_up(&gateway, &pods).await;
    pods[1].set_predict_behavior(Behavior::Hang);
    let started = Instant::now();
    for answered in join_all((0..50).map(|_| gateway.predict())).await {
        answered.class();
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_pod_that_answers_no_request_is_ejected_before_the_hedge_delay() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    // With these samples the hedge delay reaches its maximum of two seconds.
    for pod in &pods {
        pod.set_predict_behavior(Behavior::Slow(HEDGE_DELAY_MIN * 3 / 2));
    }
    warm_up(&gateway, &pods).await;
    pods[0].set_predict_behavior(Behavior::Normal);
    pods[1].set_predict_behavior(Behavior::Hang);
    let started = Instant::now();
    for answered in join_all((0..20).map(|_| gateway.predict())).await {
        answered.class();
    }
    // The hedge delay is two seconds; the pod is unresponsive after four times its mean latency, which is 0.6 s.
    assert!(started.elapsed() < Duration::from_millis(1900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_slow_attempt_is_not_cancelled_and_the_first_response_wins() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    warm_up(&gateway, &pods).await;
    // The first pod is slower than the hedge delay, and one of the two never responds.
    pods[0].set_predict_behavior(Behavior::Slow(HEDGE_DELAY_MIN * 4));
    pods[1].set_predict_behavior(Behavior::Hang);
    let (before, started) = (pods.each_ref().map(FakePredictor::predictions), Instant::now());
    gateway.predict().await.class();
    assert!(started.elapsed() >= HEDGE_DELAY_MIN * 4 && started.elapsed() < SOON, "{:?}", started.elapsed());
    let asked = [0, 1].map(|place| pods[place].predictions() - before[place]);
    assert_eq!(asked, [1, 1]);
}

#[tokio::test]
async fn if_one_of_two_attempts_fails_the_other_one_counts() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    warm_up(&gateway, &pods).await;
    let [slow, failing] = &pods;
    failing.set_predict_behavior(Behavior::Answer(500, "{}".to_owned()));
    // A request that reaches the slow pod first gets a hedge, which fails while the first attempt is held.
    until("a hedge fails", async || {
        slow.hold_batches();
        let before = [slow.batches(), failing.batches()];
        let release = async {
            until("the slow pod has the rows", async || slow.batches() > before[0]).await;
            let is_hedge = failing.batches() == before[1];
            until("the failing pod has the rows", async || failing.batches() > before[1]).await;
            slow.release_batches();
            is_hedge
        };
        let (response, is_hedge) = tokio::join!(gateway.predict_rows(2), release);
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!([slow.batches(), failing.batches()], before.map(|count| count + 1));
        is_hedge
    })
    .await;
}

#[tokio::test]
async fn a_single_pod_gets_no_hedge() {
    let (cluster, [only]) = Cluster::with_pods::<1>().await;
    let gateway = cluster.gateway().await;
    for _ in 0..5 {
        gateway.predict().await.class();
    }
    only.set_predict_behavior(Behavior::Slow(HEDGE_DELAY_MIN * 4));
    let before = only.predictions();
    gateway.predict().await.class();
    assert_eq!(only.predictions(), before + 1);
}

#[tokio::test]
async fn a_model_that_is_always_slow_gets_no_hedges() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    for pod in &pods {
        pod.set_predict_behavior(Behavior::Slow(HEDGE_DELAY_MIN * 2));
    }
    for _ in 0..10 {
        gateway.predict().await.class();
    }
    let asked: usize = pods.iter().map(FakePredictor::predictions).sum();
    assert_eq!(asked, 10, "the first samples set the hedge delay");
}

#[tokio::test]
async fn without_retries_a_hung_pod_is_awaited_until_the_deadline() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let mut settings = cluster.settings();
    settings.resilience.retry_percent = 0;
    settings.upstream_timeout = HEDGE_DELAY_MIN * 4;
    let gateway = Gateway::new(&settings).await;
    warm_up(&gateway, &pods).await;
    pods[1].set_predict_behavior(Behavior::Hang);
    let before = pods[1].predictions();
    let all = join_all((0..20).map(|_| gateway.post("/api/predict", ROW))).await;
    let late = all.iter().filter(|answered| answered.status == 504).count();
    assert_eq!(late, pods[1].predictions() - before);
    assert!(late > 0, "the pod got no request");
}

/// Sends several requests at once, so that a busy pod gets some, too.
async fn predict_concurrently(gateway: &Gateway) {
    join_all((0..4).map(|_| gateway.predict())).await.iter().for_each(|answered| {
        answered.class();
    });
}

/// Waits until `pod` has received 20 more requests.
async fn wait_for_predictions(gateway: &Gateway, pod: &FakePredictor) {
    let enough = pod.predictions() + 20;
    until("the pod has more answers", async || {
        predict_concurrently(gateway).await;
        pod.predictions() >= enough
    })
    .await;
}

/// Holds a batch of `rows` rows at its pod, which answers other requests. Calls `check` with the index of that pod, then releases the
/// batch.
async fn while_a_batch_is_held(
    gateway: &Gateway,
    pods: &[FakePredictor; 2],
    rows: usize,
    check: impl AsyncFnOnce(usize),
) {
    for pod in pods {
        pod.set_predict_behavior(Behavior::HoldBatches);
    }
    let held = async {
        until("a pod has the batch", async || pods.iter().any(|pod| pod.batches() > 0)).await;
        check(usize::from(pods[1].batches() > 0)).await;
        pods.iter().for_each(FakePredictor::release_batches);
    };
    let (batch, ()) = tokio::join!(gateway.predict_rows(rows), held);
    assert_eq!(batch.status, 200, "{batch:?}");
}

#[tokio::test]
async fn a_slow_batch_is_sent_once_and_its_pod_stays_in_use() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    warm_up(&gateway, &pods).await;
    while_a_batch_is_held(&gateway, &pods, 100, async |holder| {
        let started = Instant::now();
        until("three times the patience is over", async || {
            predict_concurrently(&gateway).await;
            started.elapsed() > HEDGE_DELAY_MIN * 3
        })
        .await;
        wait_for_predictions(&gateway, &pods[holder]).await;
        assert_eq!(pods.iter().map(FakePredictor::batches).sum::<usize>(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_slow_small_request_is_hedged_and_its_pod_stays_in_use() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let mut settings = cluster.settings();
    settings.tuning.resolve_interval = Duration::from_mins(1);
    let gateway = Gateway::new(&settings).await;
    // Slow samples make the hedge delay more than a second, which no other response takes.
    for pod in &pods {
        pod.set_predict_behavior(Behavior::Slow(HEDGE_DELAY_MIN));
    }
    warm_up(&gateway, &pods).await;
    while_a_batch_is_held(&gateway, &pods, 2, async |holder| {
        until("the other pod has them too", async || {
            predict_concurrently(&gateway).await;
            pods[1 - holder].batches() == 1
        })
        .await;
        wait_for_predictions(&gateway, &pods[holder]).await;
        assert_eq!(cluster.dns.query_count("demo-pods"), 1, "a pod that answers is no reason to ask DNS");
    })
    .await;
}

#[tokio::test]
async fn a_batch_at_an_unresponsive_pod_is_sent_to_another_one() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    while pods.iter().any(|pod| pod.batches() < 3) {
        assert_eq!(gateway.predict_rows(100).await.status, 200);
    }
    pods[1].set_predict_behavior(Behavior::Hang);
    let before = pods[1].batches();
    let started = Instant::now();
    while pods[1].batches() == before {
        assert_eq!(gateway.predict_rows(100).await.status, 200);
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}
