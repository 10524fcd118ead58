//! What people are told, fate by fate.

use serde_json::json;

use super::bench::{Bench, SYNTHETIC};
use super::world::{Fate, container};

pub(crate) const CSV: &str = "
apiVersion: canopy.rs/v1alpha1
kind: PredictorModel
metadata: {name: iris, namespace: shop}
spec:
  version: '1.0'
  train:
    data: {csv: {source: {configMap: {name: iris-data, key: iris.csv}}, target: species}}
    algorithm: {randomForest: {}}
  replicas: 2
";
pub(crate) const DATA: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: iris-data}
data: {iris.csv: \"a,species\\n1,x\\n2,y\\n\"}
";

/// What is said of a model whose pods have this fate, from its first moment on.
#[track_caller]
fn check(fate: Fate, expected: [&str; 4]) {
    let told = run(async {
        let mut bench = Bench::new(SYNTHETIC);
        bench.fate_of_next(fate);
        bench.settle().await;
        bench.conditions().join("\n").replace(&bench.asked(), "R")
    });
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

/// What is said where a revision served before, and the pods of the next have this fate.
#[track_caller]
fn check_after(fate: Fate, expected: [&str; 4]) {
    let told = run(async {
        let mut bench = Bench::new(SYNTHETIC);
        bench.settle().await;
        let old = bench.asked();
        bench.edit_spec(|spec| spec["version"] = "1.1".into());
        bench.fate_of_next(fate);
        bench.settle().await;
        bench.conditions().join("\n").replace(&bench.asked(), "R").replace(&old, "OLD")
    });
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

const PREPARED: &str = "Prepared True Prepared: revision R was trained on 120 samples in 0.2 s (83120 bytes): Accuracy 0.9667 of 30 samples";
const OLD_ANSWERS: &str = "Available True Serving: revision OLD answers with 2 of 2 pods";

#[test]
fn a_model_that_serves() {
    check(
        Fate::Good,
        [
            "Available True Serving: revision R answers with 2 of 2 pods",
            "Ready True Serving: revision R answers with all 2 pods",
            PREPARED,
            "Progressing False Settled: nothing is left to do",
        ],
    );
}

#[test]
fn a_model_that_is_being_trained() {
    const TOLD: &str = "Preparing: revision R is being trained in the first pod of Deployment iris-R";
    let told = |type_and_status: &str| format!("{type_and_status} {TOLD}");
    let [available, ready, prepared, progressing] =
        ["Available False", "Ready False", "Prepared Unknown", "Progressing True"].map(told);
    check(Fate::Slow, [&available, &ready, &prepared, &progressing]);
    check_after(Fate::Slow, [OLD_ANSWERS, &ready, &prepared, &progressing]);
}

#[test]
fn a_model_whose_pods_do_not_get_ready() {
    check(
        Fate::Unready,
        [
            "Available False Starting: 0 of 2 pods of revision R are ready",
            "Ready False Starting: 0 of 2 pods of revision R are ready",
            PREPARED,
            "Progressing True Starting: 0 of 2 pods of revision R are ready",
        ],
    );
}

#[test]
fn a_model_that_is_refused() {
    const TOLD: &str = "False GateMissed: as it was told";
    let [available, ready, prepared, progressing] =
        ["Available", "Ready", "Prepared", "Progressing"].map(|type_| format!("{type_} {TOLD}"));
    check(Fate::Refused("gate_missed"), [&available, &ready, &prepared, &progressing]);
    check_after(Fate::Refused("gate_missed"), [OLD_ANSWERS, &ready, &prepared, &progressing]);
}

#[test]
fn a_model_whose_image_cannot_be_pulled() {
    const TOLD: &str = "False ImageUnavailable: pod iris-R-0 cannot have its image predictor:1: gone; it is the operator's setting CANOPY_PREDICTOR_IMAGE";
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "gone"}});
    let status = json!({"initContainerStatuses": [container("prepare", &waiting)]});
    let [available, ready, prepared, progressing] =
        ["Available", "Ready", "Prepared", "Progressing"].map(|type_| format!("{type_} {TOLD}"));
    check(Fate::Stuck(status.clone()), [&available, &ready, &prepared, &progressing]);
    check_after(Fate::Stuck(status), [OLD_ANSWERS, &ready, &prepared, &progressing]);
}

#[test]
fn pods_that_prepared_different_artifacts() {
    check(
        Fate::Different,
        [
            "Available True Serving: revision R answers with 2 of 2 pods",
            "Ready True Serving: revision R answers with all 2 pods",
            "Prepared True ArtifactsDiffer: pods of revision R prepared different artifacts (000000000000, 111111111111): do the nodes have different processors? see kubectl get pods -o wide",
            "Progressing False Settled: nothing is left to do",
        ],
    );
}

#[tokio::test]
async fn a_model_that_was_scaled_to_zero_says_so_and_comes_back() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.edit_spec(|spec| spec["replicas"] = 0.into());
    bench.settle().await;
    let revision = bench.asked();
    assert_eq!(
        bench.conditions(),
        [
            "Available False ScaledToZero: spec.replicas is 0: raise it, or kubectl scale, to serve again",
            "Ready False ScaledToZero: spec.replicas is 0: raise it, or kubectl scale, to serve again",
            &format!("Prepared True Prepared: revision {revision} was prepared before"),
            "Progressing False ScaledToZero: spec.replicas is 0: raise it, or kubectl scale, to serve again",
        ]
    );
    let status = bench.model().status.unwrap();
    assert_eq!((status.replicas, status.quality.unwrap().value.as_str()), (0, "0.9667"));
}

#[tokio::test]
async fn data_that_are_not_there_yet_are_named_and_waited_for() {
    let mut bench = Bench::new(CSV);
    bench.settle().await;
    let told = "DataUnavailable: spec.train.data.csv.source.configMap.name: there is no ConfigMap iris-data in namespace shop; add it beside the model";
    assert_eq!(
        bench.conditions(),
        ["Available", "Ready", "Prepared", "Progressing"].map(|type_| format!("{type_} False {told}"))
    );
    assert_eq!(bench.world().events, [format!("Warning {}", told.replacen(':', "", 1))]);
    bench.apply(DATA);
    bench.settle().await;
    assert_eq!(
        bench.conditions()[1],
        format!("Ready True Serving: revision {} answers with all 2 pods", bench.asked())
    );
}

/// The same model with its data on another machine.
fn remote() -> String {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    CSV.replace(
        "configMap: {name: iris-data, key: iris.csv}",
        &format!("uri: 'http://data.shop/iris.csv?s=1', sha256: {sha256}"),
    )
}

#[tokio::test]
async fn data_that_cannot_be_downloaded_yet_are_told_while_pods_try_again() {
    let mut bench = Bench::new(&remote());
    let failed = json!({"failed": {
        "code": "data_unavailable",
        "message": "failed to download http://data.shop/iris.csv: the answer was 404 Not Found: put the file there, or correct uri",
    }});
    let mut status = container("prepare", &json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    status["lastState"] = json!({"terminated": {"exitCode": 1, "message": failed.to_string()}});
    bench.fate_of_next(Fate::Stuck(json!({"initContainerStatuses": [status]})));
    bench.settle().await;
    let revision = bench.asked();
    let told = format!(
        "DataUnavailable: container prepare of pod iris-{revision}-0 ended with status 1: failed to download \
         http://data.shop/iris.csv: the answer was 404 Not Found: put the file there, or correct uri"
    );
    assert_eq!(
        bench.conditions(),
        ["Available", "Ready", "Prepared", "Progressing"].map(|type_| format!("{type_} False {told}"))
    );
    let event = bench.world().events.join("\n");
    assert!(event.contains("DataUnavailable") && event.contains("404 Not Found"), "{event}");
    // Nobody gave up: the pod is still there to try again, and somebody puts the file there.
    assert_eq!(bench.revisions()[&revision].0, 1);
    bench.fate_of_next(Fate::Good);
    bench.settle().await;
    assert_eq!(
        bench.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
}

#[tokio::test]
async fn a_file_of_another_digest_is_refused_and_a_new_digest_is_tried() {
    let mut bench = Bench::new(&remote());
    bench.fate_of_next(Fate::Refused("digest_mismatch"));
    bench.settle().await;
    let refused = bench.asked();
    assert_eq!(bench.conditions()[1], "Ready False DigestMismatch: as it was told");
    assert_eq!(bench.revisions(), [(refused.clone(), (0, 0))].into());
    assert!(bench.world().get("configmaps", &format!("iris-{refused}-data")).is_none(), "there is no copy");

    bench.edit_spec(|spec| spec["train"]["data"]["csv"]["source"]["sha256"] = "0".repeat(64).into());
    bench.settle().await;
    let revision = bench.asked();
    assert_ne!(revision, refused);
    assert_eq!(
        bench.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
    let world = bench.world();
    let config = world.get("configmaps", &format!("iris-{revision}")).unwrap();
    let serving: serde_json::Value =
        serde_json::from_str(config["data"]["serving.json"].as_str().unwrap()).unwrap();
    let download = &serving["train"]["data"]["csv"]["source"]["download"];
    assert_eq!(download["uri"], "http://data.shop/iris.csv?s=1");
}

#[tokio::test]
async fn edited_data_are_a_new_revision_and_deleted_ones_leave_what_serves() {
    let mut bench = Bench::new(CSV);
    bench.apply(DATA);
    bench.settle().await;
    let old = bench.asked();
    bench.apply(&DATA.replace("2,y", "3,y"));
    bench.settle().await;
    let new = bench.asked();
    assert_eq!(bench.selected_by("iris-pods"), Some(new.clone()));
    let copied = |revision: &str| {
        let world = bench.world();
        let copy = world.get("configmaps", &format!("iris-{revision}-data")).unwrap();
        copy["data"]["data.csv"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (copied(&old).as_str(), copied(&new).as_str()),
        ("a,species\n1,x\n2,y\n", "a,species\n1,x\n3,y\n")
    );

    bench.delete("configmaps", "iris-data");
    bench.settle().await;
    assert!(bench.conditions()[0].starts_with("Available True"), "{:?}", bench.conditions());
    assert!(bench.conditions()[1].starts_with("Ready False DataUnavailable"), "{:?}", bench.conditions());
    assert_eq!(bench.revisions()[&new], (2, 2));
}

#[tokio::test]
async fn every_condition_speaks_of_a_generation_and_keeps_its_time_while_its_status_stays() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let times = |bench: &Bench| -> Vec<_> {
        let conditions = bench.model().status.unwrap().conditions;
        conditions.iter().map(|c| (c.type_.clone(), c.last_transition_time.clone())).collect()
    };
    let before = times(&bench);
    bench.world().wait(100);
    bench.edit("predictormodels", "iris", |model| model["spec"]["retireSeconds"] = 5.into());
    bench.settle().await;
    assert_eq!(times(&bench), before);
    for condition in bench.model().status.unwrap().conditions {
        assert_eq!(condition.observed_generation, Some(2), "{}", condition.type_);
    }
    bench.edit_spec(|spec| spec["replicas"] = 0.into());
    bench.settle().await;
    let after = times(&bench);
    assert_ne!(after[1], before[1], "Ready is another");
    assert_eq!(after[2], before[2], "Prepared is not");
}
