//! Nodes that are drained and come back, and nodes that are lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::kubernetes::{docker, kubectl, kubectl_json};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::{pass, until};
use serde_json::json;

use super::Scene;
use crate::canopy::{exclusive, leader, rolled_out};
use crate::model::{TIMEOUT, revision};

/// The time after which gateways send no more requests to the pods of a lost node.
const EJECTED: Duration = Duration::from_secs(2);
/// How long a lost node stays away: longer than gateways need to eject its pods, and shorter than Kubernetes needs to notice
/// its loss.
const AWAY: Duration = Duration::from_secs(15);

/// The nodes that pods run on.
fn workers() -> Result<Vec<String>> {
    let nodes = kubectl_json(&["get", "nodes", "--selector", "!node-role.kubernetes.io/control-plane"])?;
    let names = nodes["items"].as_array().context("a list has items")?.iter();
    let names: Vec<_> =
        names.filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)).collect();
    ensure!(names.len() == 2, "these tests need two workers, but there are {names:?}");
    Ok(names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_drained_and_comes_back_fails_no_request() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-drain", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let serving = revision(&scene.model.read()?)?;
        let node = workers()?.remove(0);
        let mut load = scene.load().await?;
        let drained = async {
            kubectl(&["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout", "120s"])?;
            let now = scene.model.pods(&serving)?;
            ensure!(now.values().all(|pod| pod.node != node), "there are still {now:?}");
            kubectl(&["uncordon", &node])?;
            scene.model.ready()?;
            scene.gateways.rolled_out()
        };
        let drained = load.during("a node drained", drained);
        with_cleanup(drained, async || kubectl(&["uncordon", &node]).map(drop)).await?;
        rolled_out()?;
        until("a leader", TIMEOUT, async || leader()).await?;
        load.calm("after").await?;
        load.stop().await.all_answered("a node drained and back")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_lost_without_a_word_fails_requests_for_two_seconds_at_most() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-node", async |namespace| {
        let [with_gateways, lost] = <[String; 2]>::try_from(workers()?).map_err(|all| anyhow::anyhow!("{all:?}"))?;
        let spread = json!({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "tiny"}}});
        let spec = json!({"replicas": 4, "scheduling": {"topologySpreadConstraints": [spread]}});
        let scene = Scene::on(namespace, &spec, &with_gateways).await?;
        let serving = revision(&scene.model.read()?)?;
        let pods = scene.model.pods(&serving)?;
        let gone = pods.values().filter(|pod| pod.node == lost).count();
        ensure!((1..4).contains(&gone), "of four pods {gone} are on {lost}: {pods:?}");
        let mut load = scene.load().await?;
        let killed = async {
            docker(&["kill", &lost])?;
            pass(AWAY).await;
            docker(&["start", &lost])?;
            until("the node to be back", TIMEOUT, async || {
                let node = kubectl(&["get", "node", &lost, "--output", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"])?;
                let now = scene.model.pods(&serving)?;
                ensure!(node == "True" && now.values().filter(|pod| pod.is_ready).count() >= 4, "{node}, {now:?}");
                Ok(())
            })
            .await
        };
        let killed = load.during("a node lost", killed);
        with_cleanup(killed, async || docker(&["start", &lost]).map(drop)).await?;
        load.calm("after").await?;
        rolled_out()?;
        until("a leader", TIMEOUT, async || leader()).await?;
        let report = load.stop().await;
        report.all_answered_but_for("a node killed", EJECTED)
    })
    .await
}
