//! Pods that will not become ready: what is told of them, and how a model recovers without anyone's help.

use canopy_resource::status::RefusedRevision;

use super::bench::{Bench, SYNTHETIC};
use super::world::Fate;

/// A model that serves with two pods.
async fn serving() -> Bench {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench
}

/// The same, of which one pod was lost and the next is refused, as where its file was changed meanwhile.
async fn refused() -> (Bench, String) {
    let mut bench = serving().await;
    let revision = bench.asked();
    bench.fate_of_next(Fate::Turned("digest_mismatch"));
    bench.delete("pods", &format!("iris-{revision}-1"));
    bench.settle().await;
    (bench, revision)
}

/// Lets time pass, and the operator look again when it asked to.
async fn wait(bench: &mut Bench, seconds: i64) {
    bench.world().wait(seconds);
    bench.settle().await;
}

/// The reason of the condition Ready.
fn reason(bench: &Bench) -> String {
    let ready = &bench.conditions()[1];
    ready.split(' ').nth(2).unwrap_or_default().trim_end_matches(':').to_owned()
}

fn uid(bench: &Bench, pod: &str) -> String {
    bench.world().get("pods", pod).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refused_pod_of_a_revision_that_has_served_is_the_reason_and_the_others_serve_on() {
    let (bench, revision) = refused().await;
    let told = format!(
        "DigestMismatch: pod iris-{revision}-1 cannot serve, and is replaced after a pause: as it was told"
    );
    let conditions = bench.conditions();
    assert_eq!(
        conditions[0],
        format!("Available True Serving: revision {revision} answers with 1 of 2 pods")
    );
    assert_eq!(conditions[1], format!("Ready False {told}"));
    assert!(conditions[2].starts_with("Prepared True"), "{conditions:?}");
    assert!(bench.world().events.iter().any(|event| event.contains("Warning DigestMismatch")));
    assert_eq!(bench.revisions()[&revision], (2, 1));
    assert_eq!(bench.model().status.unwrap().refused, None, "what has served is not refused");
}

#[tokio::test]
async fn it_recovers_by_itself_once_the_file_is_back() {
    let (mut bench, revision) = refused().await;
    let pod = format!("iris-{revision}-1");
    let first = uid(&bench, &pod);
    wait(&mut bench, 29).await;
    assert_eq!(uid(&bench, &pod), first, "it is replaced before its time");
    wait(&mut bench, 1).await;
    let second = uid(&bench, &pod);
    assert_ne!(second, first, "it is not replaced");
    assert_eq!((reason(&bench), bench.revisions()[&revision]), ("DigestMismatch".to_owned(), (2, 1)));

    bench.fate_of_next(Fate::Good);
    wait(&mut bench, 30).await;
    assert_eq!(
        bench.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
    assert_eq!(bench.revisions()[&revision], (2, 2));
    bench.tells_of_no_repair();
}

#[tokio::test]
async fn pauses_between_two_pods_grow_up_to_five_minutes() {
    let (mut bench, revision) = refused().await;
    let pod = format!("iris-{revision}-1");
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let before = uid(&bench, &pod);
        let next = bench.pass().await.unwrap().expect("it is looked at again").as_secs();
        pauses.push(next);
        wait(&mut bench, i64::try_from(next).unwrap()).await;
        assert_ne!(uid(&bench, &pod), before, "{pauses:?}");
    }
    assert_eq!(pauses, [30, 30, 60, 120, 240, 300]);
}

#[tokio::test]
async fn all_pods_are_replaced_where_all_are_refused() {
    let (mut bench, revision) = refused().await;
    bench.delete("pods", &format!("iris-{revision}-0"));
    bench.settle().await;
    assert_eq!(bench.revisions()[&revision], (2, 0));
    assert!(bench.conditions()[0].starts_with("Available False DigestMismatch"), "{:?}", bench.conditions());
    bench.fate_of_next(Fate::Good);
    wait(&mut bench, 30).await;
    assert_eq!((reason(&bench), bench.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
}

#[tokio::test]
async fn a_first_revision_that_is_refused_is_not_tried_again() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.fate_of_next(Fate::Refused("digest_mismatch"));
    bench.settle().await;
    let revision = bench.asked();
    bench.world().writes.clear();
    wait(&mut bench, 24 * 3600).await;
    assert_eq!((reason(&bench), bench.revisions()[&revision]), ("DigestMismatch".to_owned(), (0, 0)));
    assert_eq!(bench.pass().await.unwrap(), None);
    assert_eq!(bench.world().writes, Vec::<String>::new());
}

#[tokio::test]
async fn an_artifact_that_fails_its_proof_is_told_and_its_pod_is_replaced() {
    for (word, expected) in [("artifact_corrupt", "ArtifactCorrupt"), ("golden_mismatch", "GoldenMismatch")] {
        let mut bench = Bench::new(SYNTHETIC);
        bench.fate_of_next(Fate::Unproven(word));
        bench.settle().await;
        let revision = bench.asked();
        assert_eq!(
            bench.conditions()[1],
            format!(
                "Ready False {expected}: container serve of pod iris-{revision}-0 ended with status 1: as it was told"
            )
        );
        let pod = format!("iris-{revision}-0");
        let first = uid(&bench, &pod);
        wait(&mut bench, 30).await;
        assert_ne!(uid(&bench, &pod), first);
        bench.fate_of_next(Fate::Good);
        bench.settle().await;
        assert_eq!((reason(&bench), bench.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
    }
}

#[tokio::test]
async fn a_pod_that_takes_no_step_for_ten_minutes_is_named() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.fate_of_next(Fate::Unready);
    bench.settle().await;
    let revision = bench.asked();
    assert_eq!(
        bench.conditions()[1],
        format!("Ready False Starting: 0 of 2 pods of revision {revision} are ready")
    );
    assert_eq!(bench.pass().await.unwrap().unwrap().as_secs(), 600);
    wait(&mut bench, 600).await;
    assert_eq!(
        bench.conditions()[1],
        format!(
            "Ready False PodsNotReady: pod iris-{revision}-0 is not ready and has taken no step for 10 minutes: see \
             kubectl describe pod iris-{revision}-0 and its log"
        )
    );
    assert!(bench.world().events.iter().any(|event| event.contains("Warning PodsNotReady")));
    bench.fate_of_next(Fate::Good);
    bench.settle().await;
    assert_eq!(reason(&bench), "Serving");
}

#[tokio::test]
async fn a_pod_of_a_revision_that_serves_is_named_where_it_trains_for_too_long() {
    let mut bench = serving().await;
    let revision = bench.asked();
    bench.fate_of_next(Fate::Slow);
    bench.delete("pods", &format!("iris-{revision}-1"));
    bench.settle().await;
    assert_eq!(reason(&bench), "Starting");
    let left = bench.pass().await.unwrap().unwrap().as_secs();
    wait(&mut bench, i64::try_from(left).unwrap()).await;
    let told = format!("DeadlineExceeded: pod iris-{revision}-1 did not finish training within {left} s");
    assert!(bench.conditions()[1].starts_with(&format!("Ready False {told}")), "{:?}", bench.conditions());
    assert_eq!(bench.revisions()[&revision], (2, 1), "it may still end well");
}

/// A model whose training takes longer than it may.
async fn late() -> (Bench, String) {
    let mut bench =
        Bench::new(&SYNTHETIC.replace("{randomForest: {}}", "{randomForest: {}}, deadlineSeconds: 30"));
    bench.fate_of_next(Fate::Slow);
    bench.settle().await;
    wait(&mut bench, 30).await;
    let revision = bench.asked();
    (bench, revision)
}

#[tokio::test]
async fn training_that_takes_too_long_is_tried_again_after_growing_pauses() {
    let (mut bench, revision) = late().await;
    let mut pauses = Vec::new();
    for attempt in 1..=7 {
        let told = format!(
            "Ready False DeadlineExceeded: pod iris-{revision}-0 did not finish training within 30 s: raise \
             spec.train.deadlineSeconds or spec.train.resources, or train on less. Attempt {attempt}; the next is at "
        );
        assert!(bench.conditions()[1].starts_with(&told), "{:?}", bench.conditions());
        assert_eq!(bench.revisions(), [(revision.clone(), (0, 0))].into());
        let RefusedRevision { attempts, retry_after, .. } = bench.model().status.unwrap().refused.unwrap();
        assert_eq!(attempts, Some(attempt));
        let now = bench.world().now;
        let pause = retry_after.unwrap().0.duration_since(now).as_secs();
        assert_eq!(bench.pass().await.unwrap().unwrap().as_secs(), u64::try_from(pause).unwrap());
        pauses.push(pause);
        wait(&mut bench, pause).await;
        assert_eq!((reason(&bench), bench.revisions()[&revision]), ("Preparing".to_owned(), (1, 0)));
        wait(&mut bench, 30).await;
    }
    assert_eq!(pauses, [120, 240, 480, 960, 1920, 3600, 3600]);
}

#[tokio::test]
async fn training_that_was_too_slow_once_may_go_well_the_next_time() {
    let (mut bench, revision) = late().await;
    bench.fate_of_next(Fate::Good);
    wait(&mut bench, 120).await;
    assert_eq!((reason(&bench), bench.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
    assert_eq!(bench.model().status.unwrap().refused, None);
}

#[tokio::test]
async fn a_deadline_that_an_earlier_operator_took_for_good_is_tried_again() {
    let (mut bench, revision) = late().await;
    bench.edit("predictormodels", "iris", |model| {
        let refused = model["status"]["refused"].as_object_mut().unwrap();
        refused.remove("attempts");
        refused.remove("retryAfter");
    });
    bench.fate_of_next(Fate::Good);
    bench.settle().await;
    assert_eq!((reason(&bench), bench.revisions()[&revision]), ("Serving".to_owned(), (2, 2)));
}
