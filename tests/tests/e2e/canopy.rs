//! The Canopy that the tests ask: installed once by its chart, shared by most, changed by one at a time.
//!
//! Comes in: a test that wants it for itself or with others. Goes out: a turn, and tunnels to its pods. Never: a
//! change beside a test that did not expect one.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::kubernetes::{helm, kubectl, kubectl_json};
use canopy_tests::metrics::Scrape;
use canopy_tests::slice::Slice;
use canopy_tests::wait::until;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, watch};

/// Where Canopy is installed.
pub(crate) const SYSTEM: &str = "canopy-system";
/// The namespace of the model that gateways ask where a request names none.
pub(crate) const DEFAULT: &str = "e2e-demo";

const GATEWAY_PORT: u16 = 8000;
const OPERATOR_ADMIN_PORT: u16 = 9002;

/// How long operators that are told to go may take.
const GONE_WITHIN: Duration = Duration::from_mins(2);

/// How much may go on at once: so many tests that do little, and start few pods.
const ALL: u32 = 6;
/// Of that, a test whose answers must come in time while others start pods. On three nodes each pod starts more slowly.
static SCENE: LazyLock<u32> = LazyLock::new(|| if Slice::Nodes.runs() { 3 } else { 2 });

/// Tests have gateways of their own, in their namespaces.
const FRONTS: &str = r#"networkPolicy.predictors.extraFrom=[{"namespaceSelector":{},"podSelector":{"matchLabels":{"app.kubernetes.io/name":"front"}}}]"#;

static TURNS: Semaphore = Semaphore::const_new(ALL as usize);
static INSTALLED: OnceCell<()> = OnceCell::const_new();
/// How many tests share Canopy or wait to.
static SHARING: LazyLock<watch::Sender<usize>> = LazyLock::new(watch::Sender::default);

/// A part of what may go on at once, until this is dropped.
pub(crate) struct Lock {
    _permit: SemaphorePermit<'static>,
    _counted: Option<Counted>,
}

/// One of the tests that share Canopy, from when it waits for its turn.
struct Counted;

impl Counted {
    fn new() -> Self {
        SHARING.send_modify(|count| *count += 1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        SHARING.send_modify(|count| *count -= 1);
    }
}

/// Canopy, while nobody changes it.
pub(crate) async fn shared() -> Result<Lock> {
    turn(1, Some(Counted::new())).await
}

/// The same for a test that shows how long answers take: less goes on beside it.
pub(crate) async fn under_load() -> Result<Lock> {
    turn(*SCENE, Some(Counted::new())).await
}

/// Canopy for one test exclusive, which may change it and leaves it as it was. Those that share it go first: to let one test
/// end before another begins is time in which nothing happens.
pub(crate) async fn exclusive() -> Result<Lock> {
    SHARING.subscribe().wait_for(|count| *count == 0).await?;
    turn(ALL, None).await
}

async fn turn(weight: u32, counted: Option<Counted>) -> Result<Lock> {
    let permit = TURNS.acquire_many(weight).await?;
    INSTALLED.get_or_try_init(async || install()).await?;
    Ok(Lock { _permit: permit, _counted: counted })
}

/// Installs the chart, or brings what is installed to its present state.
pub(crate) fn install() -> Result<()> {
    install_with(&[])
}

/// The same, with some values set.
pub(crate) fn install_with(set: &[String]) -> Result<()> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/canopy");
    let namespaces = "gateway.namespaces={*}".to_owned();
    let default = format!("gateway.defaultModel=demo.{DEFAULT}");
    let install = ["upgrade", "--install", "canopy", chart, "--namespace", SYSTEM, "--create-namespace"];
    let set = [&namespaces, &default].into_iter().chain(set).flat_map(|value| ["--set", value.as_str()]);
    let set: Vec<_> = set.collect();
    helm(&[&install[..], &set, &["--set-json", FRONTS, "--wait", "--timeout", "3m"]].concat())?;
    Ok(())
}

/// Returns when both Deployments have all their pods.
pub(crate) fn rolled_out() -> Result<()> {
    for name in ["deployment/canopy-operator", "deployment/canopy-gateway"] {
        kubectl(&["rollout", "status", name, "--namespace", SYSTEM, "--timeout", "120s"])?;
    }
    Ok(())
}

/// Sets how many operators there are.
pub(crate) fn scale_operators(replicas: u32) -> Result<()> {
    let replicas = replicas.to_string();
    let scale = ["scale", "deployment/canopy-operator", "--namespace", SYSTEM, "--replicas", &replicas];
    kubectl(&scale).map(drop)
}

/// Returns when there is no operator.
pub(crate) async fn without_operators() -> Result<()> {
    scale_operators(0)?;
    until("the operators to go", GONE_WITHIN, async || {
        let left = pods("operator")?;
        ensure!(left.is_empty(), "there are still {left:?}");
        Ok(())
    })
    .await
}

/// The pods of one part of Canopy that are there to stay.
pub(crate) fn pods(part: &str) -> Result<Vec<String>> {
    let selector = format!("app.kubernetes.io/name=canopy-{part}");
    let list = kubectl_json(&["get", "pods", "--namespace", SYSTEM, "--selector", &selector])?;
    let items = list["items"].as_array().context("a list has items")?;
    let stay = items.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(stay.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// A tunnel to each gateway: there are two.
pub(crate) async fn gateways() -> Result<Vec<Forward>> {
    let mut open = Vec::new();
    for pod in pods("gateway")? {
        open.push(Forward::open(SYSTEM, &pod, GATEWAY_PORT).await?);
    }
    ensure!(open.len() == 2, "there are not two gateways but {open:?}");
    Ok(open)
}

/// What an operator measures.
pub(crate) async fn measurements(pod: &str) -> Result<Scrape> {
    let reply = Forward::open(SYSTEM, pod, OPERATOR_ADMIN_PORT).await?.get("/metrics").await?;
    ensure!(reply.status == 200, "/metrics of {pod} answered {}", reply.status);
    Ok(Scrape(reply.text))
}

/// The operator that holds the Lease.
pub(crate) fn leader() -> Result<String> {
    let holder = [
        "get",
        "lease",
        "canopy-operator",
        "--namespace",
        "kube-system",
        "--output",
        "jsonpath={.spec.holderIdentity}",
    ];
    let holder = kubectl(&holder)?;
    ensure!(pods("operator")?.contains(&holder), "the Lease is held by {holder:?}, which is not there");
    Ok(holder)
}
