//! What people are told, fate by fate.

use serde_json::json;

use super::bench::{Bench, SYNTHETIC};
use super::world::{Fate, container};

const CSV: &str = "
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
const DATA: &str = "
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
async fn training_that_takes_too_long_is_refused() {
    let mut bench =
        Bench::new(&SYNTHETIC.replace("{randomForest: {}}", "{randomForest: {}}, deadlineSeconds: 30"));
    bench.fate_of_next(Fate::Slow);
    bench.settle().await;
    bench.world().wait(30);
    bench.settle().await;
    let revision = bench.asked();
    let told = format!(
        "Ready False DeadlineExceeded: pod iris-{revision}-0 did not finish training within 30 s: raise spec.train.deadlineSeconds or spec.train.resources, or train on less"
    );
    assert_eq!(bench.conditions()[1], told);
    assert_eq!(bench.revisions(), [(revision, (0, 0))].into());
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
