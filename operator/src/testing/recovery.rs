//! Pods that will not become ready: their diagnosis and the recovery of the model.

use canopy_resource::status::RefusedRevision;

use super::fake_cluster::PodBehavior;
use super::harness::{Harness, SYNTHETIC};

/// A model that serves with two pods.
async fn serving() -> Harness {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness
}

/// The same after one pod was lost and its replacement refuses, for example because its file has changed.
async fn refused() -> (Harness, String) {
    let mut harness = serving().await;
    let revision = harness.target_revision();
    harness.set_next_behavior(PodBehavior::RefusesReplacements("digest_mismatch"));
    harness.delete("pods", &format!("iris-{revision}-1"));
    harness.settle().await;
    (harness, revision)
}

/// Advances time and reconciles.
async fn wait(harness: &mut Harness, seconds: i64) {
    harness.cluster().advance_time(seconds);
    harness.settle().await;
}

/// The reason of the condition Ready.
fn reason(harness: &Harness) -> String {
    let ready = &harness.conditions()[1];
    ready.split(' ').nth(2).unwrap_or_default().trim_end_matches(':').to_owned()
}

fn uid(harness: &Harness, pod: &str) -> String {
    harness.cluster().get("pods", pod).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refused_replacement_pod_is_reported_while_the_others_serve() {
    let (harness, revision) = refused().await;
    let expected_message = format!(
        "DigestMismatch: pod iris-{revision}-1 cannot serve and will be replaced after a delay: test refusal"
    );
    let conditions = harness.conditions();
    assert_eq!(
        conditions[0],
        format!("Available True Serving: revision {revision} answers with 1 of 2 pods")
    );
    assert_eq!(conditions[1], format!("Ready False {expected_message}"));
    assert!(conditions[2].starts_with("Prepared True"), "{conditions:?}");
    assert!(harness.cluster().events.iter().any(|event| event.contains("Warning DigestMismatch")));
    assert_eq!(harness.revisions()[&revision], (2, 1));
    assert_eq!(harness.model().status.unwrap().refused, None, "what has served is not refused");
}

#[tokio::test]
async fn a_model_recovers_once_the_file_is_restored() {
    let (mut harness, revision) = refused().await;
    let pod = format!("iris-{revision}-1");
    let first = uid(&harness, &pod);
    wait(&mut harness, 29).await;
    assert_eq!(uid(&harness, &pod), first, "it is replaced too early");
    wait(&mut harness, 1).await;
    let second = uid(&harness, &pod);
    assert_ne!(second, first, "it is not replaced");
    assert_eq!((reason(&harness), harness.revisions()[&revision]), ("DigestMismatch".to_owned(), (2, 1)));

    harness.set_next_behavior(PodBehavior::Healthy);
    wait(&mut harness, 30).await;
    assert_eq!(
        harness.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
    assert_eq!(harness.revisions()[&revision], (2, 2));
    harness.assert_no_repair_event();
}

#[tokio::test]
async fn delays_between_replacements_grow_up_to_five_minutes() {
    let (mut harness, revision) = refused().await;
    let pod = format!("iris-{revision}-1");
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let before = uid(&harness, &pod);
        let next = harness.reconcile().await.unwrap().expect("the model is requeued").as_secs();
        pauses.push(next);
        wait(&mut harness, i64::try_from(next).unwrap()).await;
        assert_ne!(uid(&harness, &pod), before, "{pauses:?}");
    }
    assert_eq!(pauses, [30, 30, 60, 120, 240, 300]);
}

#[tokio::test]
async fn all_refused_pods_are_replaced() {
    let (mut harness, revision) = refused().await;
    harness.delete("pods", &format!("iris-{revision}-0"));
    harness.settle().await;
    assert_eq!(harness.revisions()[&revision], (2, 0));
    assert!(
        harness.conditions()[0].starts_with("Available False DigestMismatch"),
        "{:?}",
        harness.conditions()
    );
    harness.set_next_behavior(PodBehavior::Healthy);
    wait(&mut harness, 30).await;
    assert_eq!((reason(&harness), harness.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
}

#[tokio::test]
async fn a_refused_first_revision_is_not_retried() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.set_next_behavior(PodBehavior::Refused("digest_mismatch"));
    harness.settle().await;
    let revision = harness.target_revision();
    harness.cluster().writes.clear();
    wait(&mut harness, 24 * 3600).await;
    assert_eq!((reason(&harness), harness.revisions()[&revision]), ("DigestMismatch".to_owned(), (0, 0)));
    assert_eq!(harness.reconcile().await.unwrap(), None);
    assert_eq!(harness.cluster().writes, Vec::<String>::new());
}

#[tokio::test]
async fn a_failed_self_test_is_reported_and_its_pod_is_replaced() {
    for (word, expected) in [("artifact_corrupt", "ArtifactCorrupt"), ("golden_mismatch", "GoldenMismatch")] {
        let mut harness = Harness::new(SYNTHETIC);
        harness.set_next_behavior(PodBehavior::FailsSelfTest(word));
        harness.settle().await;
        let revision = harness.target_revision();
        assert_eq!(
            harness.conditions()[1],
            format!(
                "Ready False {expected}: container serve of pod iris-{revision}-0 exited with status 1: test refusal"
            )
        );
        let pod = format!("iris-{revision}-0");
        let first = uid(&harness, &pod);
        wait(&mut harness, 30).await;
        assert_ne!(uid(&harness, &pod), first);
        harness.set_next_behavior(PodBehavior::Healthy);
        harness.settle().await;
        assert_eq!((reason(&harness), harness.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
    }
}

#[tokio::test]
async fn a_pod_without_progress_for_ten_minutes_is_reported() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.set_next_behavior(PodBehavior::NeverReady);
    harness.settle().await;
    let revision = harness.target_revision();
    assert_eq!(
        harness.conditions()[1],
        format!("Ready False Starting: 0 of 2 pods of revision {revision} are ready")
    );
    assert_eq!(harness.reconcile().await.unwrap().unwrap().as_secs(), 600);
    wait(&mut harness, 600).await;
    assert_eq!(
        harness.conditions()[1],
        format!(
            "Ready False PodsNotReady: pod iris-{revision}-0 is not ready and has made no progress for 10 minutes; check \
             kubectl describe pod iris-{revision}-0 and its log"
        )
    );
    assert!(harness.cluster().events.iter().any(|event| event.contains("Warning PodsNotReady")));
    harness.set_next_behavior(PodBehavior::Healthy);
    harness.settle().await;
    assert_eq!(reason(&harness), "Serving");
}

#[tokio::test]
async fn a_replacement_pod_that_exceeds_the_training_deadline_is_reported() {
    let mut harness = serving().await;
    let revision = harness.target_revision();
    harness.set_next_behavior(PodBehavior::TrainsForever);
    harness.delete("pods", &format!("iris-{revision}-1"));
    harness.settle().await;
    assert_eq!(reason(&harness), "Starting");
    let remaining = harness.reconcile().await.unwrap().unwrap().as_secs();
    wait(&mut harness, i64::try_from(remaining).unwrap()).await;
    let expected_message =
        format!("DeadlineExceeded: pod iris-{revision}-1 did not finish training within {remaining} s");
    assert!(
        harness.conditions()[1].starts_with(&format!("Ready False {expected_message}")),
        "{:?}",
        harness.conditions()
    );
    assert_eq!(harness.revisions()[&revision], (2, 1), "it may still end well");
}

/// A model whose training exceeds its deadline.
async fn late() -> (Harness, String) {
    let mut harness =
        Harness::new(&SYNTHETIC.replace("{randomForest: {}}", "{randomForest: {}}, deadlineSeconds: 30"));
    harness.set_next_behavior(PodBehavior::TrainsForever);
    harness.settle().await;
    wait(&mut harness, 30).await;
    let revision = harness.target_revision();
    (harness, revision)
}

#[tokio::test]
async fn training_that_exceeds_its_deadline_is_retried_with_backoff() {
    let (mut harness, revision) = late().await;
    let mut pauses = Vec::new();
    for attempt in 1..=7 {
        let expected_message = format!(
            "Ready False DeadlineExceeded: pod iris-{revision}-0 did not finish training within 30 s: raise \
             spec.train.deadlineSeconds or spec.train.resources, or reduce the training data (attempt {attempt}, next retry at "
        );
        assert!(harness.conditions()[1].starts_with(&expected_message), "{:?}", harness.conditions());
        assert_eq!(harness.revisions(), [(revision.clone(), (0, 0))].into());
        let RefusedRevision { attempts, retry_after, .. } = harness.model().status.unwrap().refused.unwrap();
        assert_eq!(attempts, Some(attempt));
        let now = harness.cluster().now;
        let pause = retry_after.unwrap().0.duration_since(now).as_secs();
        assert_eq!(harness.reconcile().await.unwrap().unwrap().as_secs(), u64::try_from(pause).unwrap());
        pauses.push(pause);
        wait(&mut harness, pause).await;
        assert_eq!((reason(&harness), harness.revisions()[&revision]), ("Preparing".to_owned(), (1, 0)));
        wait(&mut harness, 30).await;
    }
    assert_eq!(pauses, [120, 240, 480, 960, 1920, 3600, 3600]);
}

#[tokio::test]
async fn a_retry_after_an_exceeded_deadline_can_succeed() {
    let (mut harness, revision) = late().await;
    harness.set_next_behavior(PodBehavior::Healthy);
    wait(&mut harness, 120).await;
    assert_eq!((reason(&harness), harness.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
    assert_eq!(harness.model().status.unwrap().refused, None);
}

#[tokio::test]
async fn an_exceeded_deadline_recorded_by_an_earlier_version_is_retried() {
    let (mut harness, revision) = late().await;
    harness.edit("predictormodels", "iris", |model| {
        let refused = model["status"]["refused"].as_object_mut().unwrap();
        refused.remove("attempts");
        refused.remove("retryAfter");
    });
    harness.set_next_behavior(PodBehavior::Healthy);
    harness.settle().await;
    assert_eq!((reason(&harness), harness.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
}
