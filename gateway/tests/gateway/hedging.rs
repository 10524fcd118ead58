//! Pods that are silent while others serve: no client waits for them, and none of their answers is lost.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::cluster::{Cluster, until};
use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW};

/// The least time for which a pod that is silent is waited for.
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(100);
/// What no answer may take on a machine that does much else, and far less than the deadline of 20 s.
const SOON: Duration = Duration::from_secs(3);

/// A gateway that knows both pods, and how long their answers take.
async fn warm_up(gateway: &Gateway, pods: &[FakePredictor; 2]) {
    while pods.iter().any(|pod| pod.predictions() < 5) {
        gateway.predict().await.class();
    }
}

#[tokio::test]
async fn a_pod_that_hangs_is_noticed_by_no_client_and_left_alone_until_it_answers() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let mut settings = cluster.settings();
    // Far more than the requests take that must not come to it.
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
    assert_eq!(hung.predictions() - before, 1, "one request was enough to know");
    let attempts = |outcome: &str| {
        let labels = format!(r#"model="demo",model_namespace="default",outcome="{outcome}",version="1.0""#);
        gateway.metric(&format!("canopy_gateway_upstream_requests_total{{{labels}}}"))
    };
    assert_eq!((attempts("cancelled"), attempts("deadline_exceeded")), (1, 0), "{}", gateway.metrics());
    hung.set_predict_behavior(Behavior::Normal);
    let served = good.predictions();
    while hung.predictions() < before + 10 {
        gateway.predict().await.class();
        assert!(started.elapsed() < Duration::from_secs(20), "it never came back");
    }
    assert!(good.predictions() > served, "it comes back by itself, not at once");
}

#[tokio::test]
async fn many_requests_at_once_to_a_pod_that_hangs_are_all_answered() {
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
async fn a_pod_that_answers_nobody_is_not_given_the_time_of_slow_answers() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    // After such first answers one that takes two seconds is nothing unusual.
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
    // That time is two seconds; its silence is seen after four of its mean answers, which is 0.6 s.
    assert!(started.elapsed() < Duration::from_millis(1900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn who_is_slow_is_not_given_up_and_the_first_answer_counts() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    warm_up(&gateway, &pods).await;
    // Whoever is asked first is silent for longer than usual; and one of them for ever.
    pods[0].set_predict_behavior(Behavior::Slow(HEDGE_DELAY_MIN * 4));
    pods[1].set_predict_behavior(Behavior::Hang);
    let (before, started) = (pods.each_ref().map(FakePredictor::predictions), Instant::now());
    gateway.predict().await.class();
    assert!(started.elapsed() >= HEDGE_DELAY_MIN * 4 && started.elapsed() < SOON, "{:?}", started.elapsed());
    let asked = [0, 1].map(|place| pods[place].predictions() - before[place]);
    assert_eq!(asked, [1, 1]);
}

#[tokio::test]
async fn a_failure_of_one_of_two_that_are_asked_leaves_the_other() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    warm_up(&gateway, &pods).await;
    pods[0].set_predict_behavior(Behavior::Slow(HEDGE_DELAY_MIN * 4));
    pods[1].set_predict_behavior(Behavior::Answer(500, "{}".to_owned()));
    let before = pods[1].predictions();
    until("a request is at both", async || {
        let asked = pods[1].predictions();
        gateway.predict().await.class();
        // Where the one that fails is asked first, it is asked at once; else only after the patience.
        pods[1].predictions() > asked
    })
    .await;
    assert!(pods[1].predictions() > before);
}

#[tokio::test]
async fn a_pod_that_is_alone_is_waited_for() {
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
async fn a_model_that_always_takes_long_is_not_asked_twice_for_it() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let gateway = cluster.gateway().await;
    for pod in &pods {
        pod.set_predict_behavior(Behavior::Slow(HEDGE_DELAY_MIN * 2));
    }
    for _ in 0..10 {
        gateway.predict().await.class();
    }
    let asked: usize = pods.iter().map(FakePredictor::predictions).sum();
    assert_eq!(asked, 10, "its first answers say how long it takes");
}

#[tokio::test]
async fn without_retries_who_is_silent_is_waited_for_until_the_deadline() {
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
    assert!(late > 0, "it was never asked");
}

/// Several rows at once, so that a pod which has something to do is asked too.
async fn predict_concurrently(gateway: &Gateway) {
    join_all((0..4).map(|_| gateway.predict())).await.iter().for_each(|answered| {
        answered.class();
    });
}

/// Awaits that `pod` answers 20 requests more.
async fn wait_for_predictions(gateway: &Gateway, pod: &FakePredictor) {
    let enough = pod.predictions() + 20;
    until("the pod has more answers", async || {
        predict_concurrently(gateway).await;
        pod.predictions() >= enough
    })
    .await;
}

/// The state while a request of `rows` rows is held by its pod, which answers all others: `check` is called with the place of
/// that pod, then the request is let go.
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
async fn a_batch_that_takes_long_leaves_its_pod_in_use_and_is_sent_once() {
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
async fn a_few_rows_that_take_long_are_sent_to_another_pod_and_leave_the_first_in_use() {
    let (cluster, pods) = Cluster::with_pods::<2>().await;
    let mut settings = cluster.settings();
    settings.tuning.resolve_interval = Duration::from_mins(1);
    let gateway = Gateway::new(&settings).await;
    // Slow first answers make the patience more than a second, which no answer takes by accident.
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
async fn a_batch_at_a_pod_that_answers_nobody_is_sent_to_another_one() {
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
