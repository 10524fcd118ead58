//! A rollout in a cluster: pods of both revisions serve for a while, and no request fails.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::cluster::{Cluster, until};
use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW, TestResponse};

/// Changes to the second revision, whose classes have names.
fn become_second_revision(pod: &FakePredictor) {
    pod.change_revision("00000002", |model| {
        model["version"] = json!("2.0");
        model["classes"] = json!(["no", "yes"]);
    });
}

/// Checks that revision, version and class name of a response belong together.
#[track_caller]
fn revision(answered: &TestResponse) -> String {
    assert_eq!(answered.status, 200, "{answered:?}");
    let (revision, body) = (answered.header("canopy-revision").to_owned(), answered.json());
    let expected = match revision.as_str() {
        "6f3a9c1e" => json!(["1.0", {"class": 1, "proba": 0.87}]),
        "00000002" => json!(["2.0", {"class": 1, "label": "yes", "proba": 0.87}]),
        other => panic!("revision {other}"),
    };
    assert_eq!(json!([body["version"], body["prediction"]]), expected, "{revision}");
    revision
}

#[tokio::test]
async fn during_a_rollout_each_response_uses_its_own_revision_and_no_request_is_repeated() {
    let (cluster, pods) = Cluster::with_pods::<4>().await;
    become_second_revision(&pods[1]);
    become_second_revision(&pods[3]);
    for pod in &pods {
        pod.set_predict_behavior(Behavior::Slow(Duration::from_millis(5)));
    }
    let gateway = cluster.gateway().await;
    let mut seen = [0, 0];
    for _ in 0..20 {
        for answered in join_all((0..8).map(|_| gateway.predict())).await {
            seen[usize::from(revision(&answered) == "00000002")] += 1;
        }
    }
    // Random, so not exactly half and half.
    assert!(seen.iter().all(|seen| (50..=110).contains(seen)), "{seen:?}");
    assert_eq!(pods.iter().map(FakePredictor::predictions).sum::<usize>(), 160);
    assert!(pods.iter().all(|pod| pod.descriptions() <= 1), "what a pod is, it is asked once");
    let counted = |version: &str, seen: usize| {
        format!(
            r#"canopy_gateway_requests_total{{code="200",model="demo",model_namespace="default",reason="ok",version="{version}"}} {seen}"#
        )
    };
    let metrics = gateway.metrics();
    for (version, seen) in ["1.0", "2.0"].into_iter().zip(seen) {
        assert!(metrics.contains(&counted(version, seen)), "{metrics}");
    }
}

#[tokio::test]
async fn no_request_fails_during_a_rollout() {
    let (cluster, [one, two, three, four]) = Cluster::with_pods::<4>().await;
    become_second_revision(&three);
    become_second_revision(&four);
    cluster.ready("demo", &[1, 2]);
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    let send = async || {
        let all = join_all((0..10).map(|_| gateway.predict())).await;
        all.iter().map(revision).collect::<Vec<_>>()
    };
    assert!(send().await.iter().all(|revision| revision == "6f3a9c1e"));
    // For some seconds DNS returns pods of both revisions, then only the new ones.
    for ready in [&[1, 2, 3][..], &[2, 3, 4], &[1, 3], &[3, 4]] {
        cluster.ready("demo", ready);
        for _ in 0..20 {
            send().await;
        }
    }
    until("only the new revision answers", async || {
        send().await.iter().all(|revision| revision == "00000002")
    })
    .await;
    until("the old pods are left alone", async || {
        let before = one.predictions() + two.predictions();
        send().await;
        one.predictions() + two.predictions() == before
    })
    .await;
    one.stop().await;
    two.stop().await;
    for _ in 0..10 {
        send().await;
    }
}

#[tokio::test]
async fn an_old_pod_that_cannot_describe_itself_fails_no_request() {
    let (cluster, [old, new]) = Cluster::with_pods::<2>().await;
    become_second_revision(&new);
    cluster.ready("demo", &[2]);
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    gateway.predict().await;
    // It predicts, but does not describe itself.
    old.set_describe_behavior(Behavior::Reset);
    cluster.ready("demo", &[1, 2]);
    until("the old pod is asked", async || {
        assert_eq!(revision(&gateway.predict().await), "00000002");
        old.predictions() > 0
    })
    .await;
    assert!(old.descriptions() > 0);
}

#[tokio::test]
async fn rows_for_the_new_revision_are_not_rejected_with_the_old_description() {
    let (cluster, [old, new]) = Cluster::with_pods::<2>().await;
    new.change_revision("00000002", |model| model["features"] = json!([{"name": "a"}, {"name": "b"}]));
    cluster.ready("demo", &[1]);
    let gateway = Gateway::new(&cluster.fast_refresh()).await;
    gateway.predict().await.class();
    gateway.post("/api/predict", r#"{"features":[1,2]}"#).await.problem(422, "invalid_features");
    cluster.ready("demo", &[2]);
    cluster.dns.wait_queries("demo-pods", 3).await;
    let answered = gateway.post("/api/predict", r#"{"features":[1,2]}"#).await;
    assert_eq!(answered.class(), 1);
    gateway.post("/api/predict", ROW).await.problem(422, "invalid_features");
    assert_eq!((old.predictions(), new.predictions(), new.descriptions()), (1, 1, 1));
}
