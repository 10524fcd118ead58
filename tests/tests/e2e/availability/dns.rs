//! The cluster's DNS gone, slow, failing and restarted, while gateways keep the models that they know.
//!
//! Each phase waits until a query was affected by its fault.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use canopy_tests::api;
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::forward::Forward;
use canopy_tests::kubernetes::{apply, kubectl, on_node};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::{pass, until};
use serde_json::{Value, json};

use super::{ROWS, Scene};
use crate::canopy::{GATEWAY_PORT, exclusive};
use crate::model::TIMEOUT;
use crate::signals::signal_program;
use crate::test_gateways::TestGateways;

const SYSTEM: &str = "kube-system";
const DNS: &str = "deployment/coredns";
/// The least time that DNS is gone: longer than the lifetime of its answers.
const GONE: Duration = Duration::from_secs(12);
/// How long DNS does not answer: longer than the time-out of a resolver and the lifetime of an answer.
const PAUSE: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_keep_their_models_while_dns_is_gone_slow_or_failing() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-dns", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let corefile = api::get("configmaps", SYSTEM, "coredns")?;
        let text = corefile["data"]["Corefile"].as_str().context("the ConfigMap coredns has no Corefile")?;
        let outcome = async {
            let mut load = scene.load().await?;
            load.during("gone", gone(&scene.gateways)).await?;
            load.during("slow", slow()).await?;
            load.during("SERVFAIL", failing(text, &scene.gateways)).await?;
            load.during("restarted", async { configure(text) }).await?;
            load.calm("after").await?;
            load.stop().await.all_answered("CoreDNS gone, slow, failing, restarted")
        };
        with_cleanup(outcome, async || {
            scale(2)?;
            configure(text)
        })
        .await
    })
    .await
}

fn rolled_out() -> Result<()> {
    kubectl(&["rollout", "status", DNS, "--namespace", SYSTEM, "--timeout", "120s"]).map(drop)
}

fn scale(replicas: u32) -> Result<()> {
    kubectl(&["scale", DNS, "--namespace", SYSTEM, "--replicas", &replicas.to_string()]).map(drop)
}

fn pods() -> Result<Vec<Value>> {
    api::list("pods", Some(SYSTEM), "k8s-app=kube-dns")
}

/// The node and the uid of each pod of DNS.
fn places() -> Result<Vec<(String, String)>> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let running = pods()?.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(running.map(|pod| (word(&pod["spec"]["nodeName"]), word(&pod["metadata"]["uid"]))).collect())
}

/// No DNS. A gateway that starts meanwhile finds no model, which shows that the others use stored answers.
async fn gone(gateways: &TestGateways<'_>) -> Result<()> {
    scale(0)?;
    until("the end of the pods of DNS", TIMEOUT, async || {
        let left = api::names(&pods()?);
        ensure!(left.is_empty(), "expected no pods of DNS, got {left:?}");
        Ok(())
    })
    .await?;
    let since = Instant::now();
    gateways.start_pod("newcomer", &json!({"only": "newcomer"}), |_| ())?;
    let newcomer = Forward::open(&gateways.namespace.name, "newcomer", GATEWAY_PORT).await?;
    let reply = newcomer.predict("tiny", ROWS[0].0).await?;
    ensure!(
        matches!(reply.status, 404 | 503),
        "a gateway that never reached DNS must not know the model: expected 404 or 503, got {}: {}",
        reply.status,
        reply.text
    );
    pass(GONE.saturating_sub(since.elapsed())).await;
    scale(2)?;
    rolled_out()?;
    gateways.namespace.kubectl(&["delete", "pod", "newcomer", "--grace-period", "0", "--force"]).map(drop)
}

/// Prints the number of bytes in the receive queues of the UDP sockets at port 53 of a pod, given by its uid.
const WAITING: &str = r#"
for group in $(grep -lE "pod($1|$(echo "$1" | tr - _))" /proc/[0-9]*/cgroup); do
    cat "${group%/cgroup}/net/udp" "${group%/cgroup}/net/udp6"
    break
done | awk '$2 ~ /:0035$/ { split($5, queue, ":"); print queue[2] }'"#;

/// DNS that does not answer for a while. Returns after queries have waited in its sockets.
async fn slow() -> Result<()> {
    let places = places()?;
    ensure!(places.len() == 2, "expected two pods of DNS, got {places:?}");
    let signal = |signal| {
        let places = places.iter().map(|(node, uid)| (node.as_str(), uid.as_str()));
        signal_program("coredns", signal, places)
    };
    signal("STOP")?;
    let waiting = async {
        pass(PAUSE).await;
        until("a query that waits for DNS", TIMEOUT, async || {
            let queues: Vec<_> =
                places.iter().map(|(node, uid)| on_node(node, WAITING, &[uid])).collect::<Result<_>>()?;
            let is_waiting =
                queues.iter().flat_map(|text| text.lines()).any(|bytes| !bytes.trim_matches('0').is_empty());
            ensure!(is_waiting, "expected bytes in a receive queue, got {queues:?}");
            Ok(())
        })
        .await
    };
    with_cleanup(waiting, async || signal("CONT")).await
}

/// DNS that answers SERVFAIL. Returns after each gateway got that answer.
async fn failing(text: &str, gateways: &TestGateways<'_>) -> Result<()> {
    let fails = text.replacen(
        ".:53 {",
        ".:53 {\n    log\n    template ANY ANY cluster.local {\n        rcode SERVFAIL\n    }",
        1,
    );
    ensure!(fails != text, "expected a Corefile with \".:53 {{\", got {text}");
    configure(&fails)?;
    until("SERVFAIL for each gateway", TIMEOUT, async || {
        let logs = ["logs", "--namespace", SYSTEM, "--selector", "k8s-app=kube-dns", "--tail=-1"];
        let log = kubectl(&logs)?;
        for address in gateways.addresses()? {
            let is_answer = |line: &str| {
                line.contains(&format!(" {address}:")) && line.contains("tiny") && line.contains(" SERVFAIL ")
            };
            ensure!(log.lines().any(is_answer), "expected a SERVFAIL for {address}, got\n{log}");
        }
        Ok(())
    })
    .await
}

/// Restarts DNS with a Corefile.
fn configure(corefile: &str) -> Result<()> {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns"}, "data": {"Corefile": corefile}});
    apply(SYSTEM, &map.to_string())?;
    kubectl(&["rollout", "restart", DNS, "--namespace", SYSTEM])?;
    rolled_out()
}
