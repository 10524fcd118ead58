//! The cluster's DNS restarted, gone, slow, and failing, while models that gateways know go on serving.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::{apply, kubectl, kubectl_json};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::{pass, until};
use serde_json::{Value, json};

use super::Scene;
use crate::canopy::exclusive;
use crate::model::TIMEOUT;
use crate::signals::signal_pods;

const SYSTEM: &str = "kube-system";
const DNS: &str = "deployment/coredns";
/// How long DNS is gone.
const GONE: Duration = Duration::from_secs(20);
/// How long it fails: a gateway asks again several times.
const FAILING: Duration = Duration::from_secs(15);
/// How often, and how long each time, it does not answer where it is slow: longer than a resolver waits.
const PAUSES: u32 = 2;
const PAUSE: Duration = Duration::from_secs(6);
const BETWEEN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_dns_models_that_serve_go_on() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-dns", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let corefile = kubectl_json(&["get", "configmap", "coredns", "--namespace", SYSTEM])?;
        let outcome = async {
            let mut load = scene.load().await?;
            load.during("restarted", async { restart() }).await?;
            load.during("gone", gone()).await?;
            load.during("slow", slow()).await?;
            load.during("SERVFAIL", failing(&corefile)).await?;
            load.calm("after").await?;
            load.stop().await.all_answered("CoreDNS restarted, gone, slow, failing")
        };
        let outcome = outcome.await;
        configure(&corefile, corefile["data"]["Corefile"].as_str().context("there is a Corefile")?)?;
        scale(2)?;
        restart()?;
        outcome
    })
    .await
}

fn restart() -> Result<()> {
    kubectl(&["rollout", "restart", DNS, "--namespace", SYSTEM])?;
    kubectl(&["rollout", "status", DNS, "--namespace", SYSTEM, "--timeout", "120s"]).map(drop)
}

fn scale(replicas: u32) -> Result<()> {
    kubectl(&["scale", DNS, "--namespace", SYSTEM, "--replicas", &replicas.to_string()]).map(drop)
}

fn pods() -> Result<Vec<Value>> {
    let list = kubectl_json(&["get", "pods", "--namespace", SYSTEM, "--selector", "k8s-app=kube-dns"])?;
    Ok(list["items"].as_array().context("a list has items")?.clone())
}

async fn gone() -> Result<()> {
    scale(0)?;
    until("DNS to be gone", TIMEOUT, async || {
        let left = pods()?;
        ensure!(left.is_empty(), "{} of its pods are there", left.len());
        Ok(())
    })
    .await?;
    pass(GONE).await;
    scale(2)?;
    kubectl(&["rollout", "status", DNS, "--namespace", SYSTEM, "--timeout", "120s"]).map(drop)
}

async fn slow() -> Result<()> {
    let running: Vec<_> =
        pods()?.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
    ensure!(running.len() == 2, "there are {} pods of DNS", running.len());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let places: Vec<_> =
        running.iter().map(|pod| (word(&pod["spec"]["nodeName"]), word(&pod["metadata"]["uid"]))).collect();
    let signal = |signal| {
        let places = places.iter().map(|(node, uid)| (node.as_str(), uid.as_str()));
        signal_pods("coredns", signal, places)
    };
    for _ in 0..PAUSES {
        signal("STOP")?;
        pass(PAUSE).await;
        signal("CONT")?;
        pass(BETWEEN).await;
    }
    Ok(())
}

async fn failing(corefile: &Value) -> Result<()> {
    let text = corefile["data"]["Corefile"].as_str().context("there is a Corefile")?;
    let fails = text.replacen(
        ".:53 {",
        ".:53 {\n    template ANY ANY cluster.local {\n        rcode SERVFAIL\n    }",
        1,
    );
    ensure!(fails != text, "the Corefile has another form: {text}");
    configure(corefile, &fails)?;
    restart()?;
    pass(FAILING).await;
    configure(corefile, text)?;
    restart()
}

fn configure(found: &Value, corefile: &str) -> Result<()> {
    let name = &found["metadata"]["name"];
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"Corefile": corefile}});
    apply(SYSTEM, &map.to_string()).map(drop)
}
