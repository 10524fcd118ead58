//! The installation of Canopy that the tests share. It is installed once with the chart; only tests that run alone change it.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use canopy_tests::api;
use canopy_tests::forward::Forward;
use canopy_tests::kubernetes::{helm, kubectl};
use canopy_tests::metrics::Scrape;
use canopy_tests::slice::Slice;
use canopy_tests::wait::until;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, watch};

/// The namespace of Canopy.
pub(crate) const SYSTEM: &str = "canopy-system";
/// The namespace of the default model.
pub(crate) const DEFAULT: &str = "e2e-demo";

/// The port of a gateway for requests.
pub(crate) const GATEWAY_PORT: u16 = 8000;
const OPERATOR_ADMIN_PORT: u16 = 9002;

/// The longest time for operators to end.
const GONE_WITHIN: Duration = Duration::from_mins(2);

/// The number of light tests that may run at once.
const ALL: u32 = 6;
/// The share of a test under load, whose responses must be in time while others start pods. It is larger on three nodes, which start
/// pods more slowly.
static UNDER_LOAD: LazyLock<u32> = LazyLock::new(|| if Slice::Nodes.runs() { 3 } else { 2 });

/// Admits the gateways of single tests, which are in the tests' namespaces.
const TEST_GATEWAYS: &str = r#"networkPolicy.predictors.extraFrom=[{"namespaceSelector":{},"podSelector":{"matchLabels":{"app.kubernetes.io/name":"test-gateway"}}}]"#;

static PERMITS: Semaphore = Semaphore::const_new(ALL as usize);
/// The outcome of the installation. After a failure, later tests do not try again.
static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
/// The number of tests that share Canopy or wait for it.
static SHARING: LazyLock<watch::Sender<usize>> = LazyLock::new(watch::Sender::default);
/// The number of tests that have Canopy alone or wait for it.
static EXCLUSIVE: LazyLock<watch::Sender<usize>> = LazyLock::new(watch::Sender::default);

/// A share of the cluster, until it is dropped.
pub(crate) struct Lock {
    _permit: SemaphorePermit<'static>,
    _counted: Option<Counted>,
}

/// Counts a test among others of its kind, from the time when it waits.
struct Counted(&'static watch::Sender<usize>);

impl Counted {
    fn new(among: &'static watch::Sender<usize>) -> Self {
        among.send_modify(|count| *count += 1);
        Self(among)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Canopy for a test that does not change it.
pub(crate) async fn shared() -> Result<Lock> {
    lock(1, Some(Counted::new(&SHARING))).await
}

/// The same for a test with limits for the time of responses: fewer others run at the same time.
pub(crate) async fn under_load() -> Result<Lock> {
    lock(*UNDER_LOAD, Some(Counted::new(&SHARING))).await
}

/// Canopy for one test alone, which may change it and restores it. All tests that share it run first, so that the cluster is never
/// idle between them.
pub(crate) async fn exclusive() -> Result<Lock> {
    let counted = Counted::new(&EXCLUSIVE);
    SHARING.subscribe().wait_for(|count| *count == 0).await?;
    lock(ALL, Some(counted)).await
}

/// The same for a test with many models, after all others: Kubernetes takes a while to delete what it leaves.
pub(crate) async fn exclusive_at_last() -> Result<Lock> {
    SHARING.subscribe().wait_for(|count| *count == 0).await?;
    EXCLUSIVE.subscribe().wait_for(|count| *count == 0).await?;
    lock(ALL, None).await
}

async fn lock(weight: u32, counted: Option<Counted>) -> Result<Lock> {
    let permit = PERMITS.acquire_many(weight).await?;
    let installed = INSTALLED.get_or_init(async || install().map_err(|error| format!("{error:#}"))).await;
    installed.as_ref().map_err(|error| anyhow!("Canopy was not installed: {error}"))?;
    Ok(Lock { _permit: permit, _counted: counted })
}

/// Installs the chart, or upgrades the installation to it.
pub(crate) fn install() -> Result<()> {
    install_with(&[])
}

/// The same with other values.
pub(crate) fn install_with(set: &[String]) -> Result<()> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/canopy");
    let namespaces = "gateway.namespaces={*}".to_owned();
    let default = format!("gateway.defaultModel=demo.{DEFAULT}");
    let install = ["upgrade", "--install", "canopy", chart, "--namespace", SYSTEM, "--create-namespace"];
    let set = [&namespaces, &default].into_iter().chain(set).flat_map(|value| ["--set", value.as_str()]);
    let set: Vec<_> = set.collect();
    helm(&[&install[..], &set, &["--set-json", TEST_GATEWAYS, "--wait", "--timeout", "3m"]].concat())?;
    Ok(())
}

/// Returns when both Deployments are rolled out.
pub(crate) fn rolled_out() -> Result<()> {
    for name in ["deployment/canopy-operator", "deployment/canopy-gateway"] {
        kubectl(&["rollout", "status", name, "--namespace", SYSTEM, "--timeout", "120s"])?;
    }
    Ok(())
}

/// Sets the number of operators.
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
        ensure!(left.is_empty(), "expected no operators, got {left:?}");
        Ok(())
    })
    .await
}

/// The pods of one part of Canopy, except those that are being deleted.
pub(crate) fn pods(part: &str) -> Result<Vec<String>> {
    let selector = format!("app.kubernetes.io/name=canopy-{part}");
    let pods = api::list("pods", Some(SYSTEM), &selector)?;
    let stay = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(stay.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// A tunnel to each of the two gateways.
pub(crate) async fn gateways() -> Result<Vec<Forward>> {
    let mut open = Vec::new();
    for pod in pods("gateway")? {
        open.push(Forward::open(SYSTEM, &pod, GATEWAY_PORT).await?);
    }
    ensure!(open.len() == 2, "expected two gateways, got {open:?}");
    Ok(open)
}

/// The metrics of an operator.
pub(crate) async fn measurements(pod: &str) -> Result<Scrape> {
    let reply = Forward::open(SYSTEM, pod, OPERATOR_ADMIN_PORT).await?.get("/metrics").await?;
    ensure!(reply.status == 200, "/metrics of {pod} answered {}", reply.status);
    Ok(Scrape(reply.text))
}

/// The operator that holds the Lease.
pub(crate) fn leader() -> Result<String> {
    let lease = api::get("leases", "kube-system", "canopy-operator")?;
    let holder = lease["spec"]["holderIdentity"].as_str().context("the Lease has no holder")?.to_owned();
    ensure!(
        pods("operator")?.contains(&holder),
        "the holder of the Lease, {holder:?}, is not a pod of the operator"
    );
    Ok(holder)
}
