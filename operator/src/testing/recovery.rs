//! Pods that will not become ready: what is told of them, and how a model recovers without anyone's help.

use canopy_resource::status::RefusedRevision;

use super::fake_cluster::PodBehavior;
use super::harness::{Harness, SYNTHETIC};

/// A model that serves with two pods.
async fn serving() -> Harness {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness
}

/// The same, of which one pod was lost and the next is refused, as where its file was changed meanwhile.
async fn refused() -> (Harness, String) {
    let mut harness = serving().await;
    let revision = harness.target_revision();
    harness.set_next_behavior(PodBehavior::RefusesReplacements("digest_mismatch"));
    harness.delete("pods", &format!("iris-{revision}-1"));
    harness.settle().await;
    (harness, revision)
}

/// Lets time pass, and the operator look again when it asked to.
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
async fn a_refused_pod_of_a_revision_that_has_served_is_the_reason_and_the_others_serve_on() {
    let (harness, revision) = refused().await;
    let expected_message = format!(
        "DigestMismatch: pod iris-{revision}-1 cannot serve, and is replaced after a pause: as it was told"
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
async fn it_recovers_by_itself_once_the_file_is_back() {
    let (mut harness, revision) = refused().await;
    let pod = format!("iris-{revision}-1");
    let first = uid(&harness, &pod);
    wait(&mut harness, 29).await;
    assert_eq!(uid(&harness, &pod), first, "it is replaced before its time");
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
async fn pauses_between_two_pods_grow_up_to_five_minutes() {
    let (mut harness, revision) = refused().await;
    let pod = format!("iris-{revision}-1");
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let before = uid(&harness, &pod);
        let next = harness.reconcile().await.unwrap().expect("it is looked at again").as_secs();
        pauses.push(next);
        wait(&mut harness, i64::try_from(next).unwrap()).await;
        assert_ne!(uid(&harness, &pod), before, "{pauses:?}");
    }
    assert_eq!(pauses, [30, 30, 60, 120, 240, 300]);
}

#[tokio::test]
async fn all_pods_are_replaced_where_all_are_refused() {
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
async fn a_first_revision_that_is_refused_is_not_tried_again() {
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
async fn an_artifact_that_fails_its_proof_is_told_and_its_pod_is_replaced() {
    for (word, expected) in [("artifact_corrupt", "ArtifactCorrupt"), ("golden_mismatch", "GoldenMismatch")] {
        let mut harness = Harness::new(SYNTHETIC);
        harness.set_next_behavior(PodBehavior::FailsSelfTest(word));
        harness.settle().await;
        let revision = harness.target_revision();
        assert_eq!(
            harness.conditions()[1],
            format!(
                "Ready False {expected}: container serve of pod iris-{revision}-0 ended with status 1: as it was told"
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
async fn a_pod_that_takes_no_step_for_ten_minutes_is_named() {
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
            "Ready False PodsNotReady: pod iris-{revision}-0 is not ready and has taken no step for 10 minutes: see \
             kubectl describe pod iris-{revision}-0 and its log"
        )
    );
    assert!(harness.cluster().events.iter().any(|event| event.contains("Warning PodsNotReady")));
    harness.set_next_behavior(PodBehavior::Healthy);
    harness.settle().await;
    assert_eq!(reason(&harness), "Serving");
}

#[tokio::test]
async fn a_pod_of_a_revision_that_serves_is_named_where_it_trains_for_too_long() {
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

/// A model whose training takes longer than it may.
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
async fn training_that_takes_too_long_is_tried_again_after_growing_pauses() {
    let (mut harness, revision) = late().await;
    let mut pauses = Vec::new();
    for attempt in 1..=7 {
        let expected_message = format!(
            "Ready False DeadlineExceeded: pod iris-{revision}-0 did not finish training within 30 s: raise \
             spec.train.deadlineSeconds or spec.train.resources, or train on less. Attempt {attempt}; the next is at "
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
async fn training_that_was_too_slow_once_may_go_well_the_next_time() {
    let (mut harness, revision) = late().await;
    harness.set_next_behavior(PodBehavior::Healthy);
    wait(&mut harness, 120).await;
    assert_eq!((reason(&harness), harness.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
    assert_eq!(harness.model().status.unwrap().refused, None);
}

#[tokio::test]
async fn a_deadline_that_an_earlier_operator_took_for_good_is_tried_again() {
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
