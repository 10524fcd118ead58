//! Whole controllers that watch some namespaces and leave all others alone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use canopy_runtime::metrics::Registry;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::shutdown::Shutdown;
use clap::Parser as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::fake_api_server::{Fault, InjectedFault, client};
use super::fake_cluster::{FakeCluster, key};
use super::harness::SYNTHETIC;
use crate::api::call::Clients;
use crate::api::fence::Fence;
use crate::controller::run_controllers;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// A cluster with the same model in three namespaces.
fn cluster() -> Arc<Mutex<FakeCluster>> {
    let mut cluster = FakeCluster::new();
    let model: Value = serde_saphyr::from_str(SYNTHETIC).unwrap();
    for namespace in ["shop", "fraud", "other"] {
        let mut model = model.clone();
        model["metadata"] = json!({"name": "iris"});
        let stored = cluster.store(key("predictormodels", namespace, "iris"), model);
        // The fake gives objects of one name the same uid.
        let uid = format!("uid-of-{namespace}");
        cluster.objects.get_mut(&key("predictormodels", namespace, "iris")).unwrap()["metadata"]["uid"] =
            uid.into();
        assert_eq!(stored["metadata"]["namespace"], namespace);
    }
    Arc::new(Mutex::new(cluster))
}

/// Runs the controllers of an operator until `is_done`, and then to their end.
async fn run(cluster: &Arc<Mutex<FakeCluster>>, namespaces: &str, is_done: impl Fn(&FakeCluster) -> bool) {
    let line = ["canopy-operator", "--predictor-image", "predictor:1", "--identity", "one"];
    let settings = Settings::try_parse_from(line.into_iter().chain(["--namespaces", namespaces])).unwrap();
    let clients = Clients { calls: client(cluster.clone()), watches: client(cluster.clone()) };
    let (fence, metrics) = (Fence::default(), Metrics::register(&Registry::new()).unwrap());
    fence.open_until(Instant::now() + Duration::from_hours(24));
    let shutdown = Shutdown::new(Readiness::new());
    let running = tokio::spawn(run_controllers(clients, fence, settings, metrics, shutdown.clone()));
    let began = Instant::now();
    while !is_done(&cluster.lock().unwrap()) {
        assert!(began.elapsed() < Duration::from_mins(5), "{:?}", cluster.lock().unwrap().writes);
        sleep(Duration::from_millis(100)).await;
    }
    shutdown.trigger();
    running.await.unwrap().unwrap();
}

/// Whether a namespace has what a pass over its model writes last, and the Service that lists its models.
fn is_served(cluster: &FakeCluster, namespace: &str) -> bool {
    let model = &cluster.objects[&key("predictormodels", namespace, "iris")];
    let lists = cluster.objects.contains_key(&key("services", namespace, "predictors"));
    !model["status"].is_null() && lists
}

/// The namespaces that were listed; an empty one where a list was of all.
fn listed(cluster: &FakeCluster) -> BTreeSet<String> {
    let of = |path: &String| {
        let rest = path.split_once("/namespaces/").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default().to_owned()
    };
    cluster.lists.iter().map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn models_of_other_namespaces_are_neither_read_nor_written() {
    let cluster = cluster();
    let of_other = |cluster: &FakeCluster| -> Vec<_> {
        let own = cluster.objects.iter().filter(|((_, namespace, _), _)| namespace == "other");
        own.map(|(key, object)| (key.clone(), object.clone())).collect()
    };
    let before = of_other(&cluster.lock().unwrap());
    let named = BTreeSet::from(["fraud", "shop"].map(str::to_owned));
    for _restart in 0..2 {
        cluster.lock().unwrap().lists.clear();
        run(&cluster, "shop,fraud", |cluster| {
            cluster.lists.len() >= 20 && is_served(cluster, "shop") && is_served(cluster, "fraud")
        })
        .await;
        let cluster = cluster.lock().unwrap();
        assert_eq!(listed(&cluster), named, "{:?}", cluster.lists);
        assert_eq!(of_other(&cluster), before);
        let deployed: BTreeSet<_> = cluster
            .objects
            .keys()
            .filter(|(kind, ..)| kind == "deployments")
            .map(|key| key.1.clone())
            .collect();
        assert_eq!(deployed, named);
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_without_rights_delays_no_other_and_is_served_once_it_has_them() {
    let cluster = cluster();
    let forbidden = InjectedFault {
        method: "GET",
        path: "namespaces/fraud/poddisruptionbudgets".to_owned(),
        times: 3,
        how: Fault::FailsBefore(403),
    };
    cluster.lock().unwrap().injected_faults.push(forbidden);
    let first = Mutex::new(None);
    run(&cluster, "shop,fraud", |cluster| {
        let served = [is_served(cluster, "shop"), is_served(cluster, "fraud")];
        if served.contains(&true) {
            first.lock().unwrap().get_or_insert(served);
        }
        served == [true, true]
    })
    .await;
    assert_eq!(*first.lock().unwrap(), Some([true, false]), "a store that was not filled was acted on");
}
