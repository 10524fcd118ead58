//! Many models at once, and then nothing: what it takes until they answer, and what an operator does when idle.
//!
//! Comes in: 1, 10 and 50 models, 2,000 strangers' `ConfigMap`s. Goes out: seconds, bytes, and every write in the API server's own
//! log. Never: a look at what the operator says of itself where the API server can be asked.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::kubernetes::{create, kubectl};
use canopy_tests::metrics::Scrape;
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::slice::Slice;
use canopy_tests::wait::{pass, until};
use serde_json::{Value, json};

use crate::audit::{is_operators, writes};
use crate::canopy::{SYSTEM, exclusive, gateways, leader, measurements};
use crate::model::{Model, small};

const MODELS: usize = 50;
const STRANGERS: usize = 500;
const STRANGERS_FULL: usize = 2_000;
const STRANGER_BYTES: usize = 100_000;
/// How long it is quiet, unless the slice `scale` runs.
const QUIET: Duration = Duration::from_secs(45);
const QUIET_FULL: Duration = Duration::from_mins(10);
/// What the operator's memory may differ by though nothing happened to its models.
const BYTES_MOVED_MAX: f64 = 4e6;
const LIMIT: Duration = Duration::from_mins(6);
/// How long a namespace with a thousand models may take to go.
pub(crate) const GONE_WITHIN: Duration = Duration::from_mins(15);
const MEMORY: &str = "process_resident_memory_bytes";

#[tokio::test]
async fn fifty_models_are_served_and_then_the_operator_writes_nothing_but_its_lease() -> Result<()> {
    let _lock = exclusive().await?;
    let gateway = gateways().await?.remove(0);
    // Figures for people, which assert no more than the test below.
    let fewer: &[usize] = if is_full() { &[1, 10] } else { &[] };
    for &count in fewer {
        in_namespace(&format!("e2e-many-{count}"), async |namespace| {
            let (first, all) = served(namespace, &gateway, count).await?;
            println!("figure: {count} models: first answer after {first:.1} s, all after {all:.1} s");
            Ok(())
        })
        .await?;
    }
    in_namespace("e2e-many", async |namespace| {
        let (first, all) = served(namespace, &gateway, MODELS).await?;
        println!("figure: {MODELS} models: first answer after {first:.1} s, all after {all:.1} s");
        until("all models to be settled", LIMIT, async || settled(namespace)).await?;
        until("the models of earlier tests to be gone", GONE_WITHIN, async || only_in(namespace)).await?;

        let operator = leader()?;
        let before = measurements(&operator).await?.sum(MEMORY, &[])?;
        let gateway_bytes = Forward::open(SYSTEM, &gateway.pod, 9000).await?.get("/metrics").await?;
        let gateway_bytes = Scrape(gateway_bytes.text).sum(MEMORY, &[])?;
        println!(
            "figure: memory with {MODELS} models: operator {before} bytes, gateway {gateway_bytes} bytes"
        );
        strangers()?;
        // To make them is much work for a small node: pods may have missed a probe, and it is the operator's to say so.
        until("all models to be settled again", LIMIT, async || settled(namespace)).await?;
        let mark = writes()?.len();
        pass(quiet()).await;
        let after = measurements(&operator).await?.sum(MEMORY, &[])?;
        println!("figure: operator's memory with {} strangers' ConfigMaps: {after} bytes", strangers_count());
        ensure!(
            (after - before).abs() < BYTES_MOVED_MAX,
            "the operator's memory went from {before} to {after}"
        );

        let log = writes()?;
        let (mut renewals, mut others) = (0, Vec::new());
        for write in log.iter().skip(mark).filter(|write| is_operators(write)) {
            if write["objectRef"]["resource"] == "leases" {
                renewals += 1;
            } else {
                others.push(format!(
                    "{} {} {}",
                    write["verb"], write["objectRef"]["resource"], write["objectRef"]["name"]
                ));
            }
        }
        println!(
            "figure: writes by the operators in a quiet time: {renewals} renewals of the Lease, {} others",
            others.len()
        );
        ensure!(others.is_empty(), "an idle operator wrote {others:?}");
        ensure!(renewals > 0, "not even the Lease was renewed: is this cluster's audit log on?");
        Ok(())
    })
    .await
}

/// Applies many models at once, with a gateway asked from before; the seconds until the first and the last answered.
async fn served(namespace: &Namespace, gateway: &Forward, count: usize) -> Result<(f64, f64)> {
    let names: Vec<_> = (0..count).map(|i| format!("m{i}")).collect();
    let list: Vec<Value> = names
        .iter()
        .map(|name| serde_json::from_str(&small(name, &json!({"replicas": 1}))))
        .collect::<Result<_, _>>()?;
    let reply = gateway.predict(&format!("m0.{}", namespace.name), &[1.0; 4]).await?;
    ensure!(reply.status == 404, "before there is a model, it answered {}: {}", reply.status, reply.text);
    let start = Instant::now();
    namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": list}).to_string())?;
    let mut first = None;
    for name in &names {
        let model = Model { namespace, name };
        until(&format!("an answer of {name}"), LIMIT, async || {
            let reply = gateway.predict(&model.full_name(), &[1.0; 4]).await?;
            ensure!(reply.status == 200, "{}: {}", reply.status, reply.text);
            Ok(())
        })
        .await?;
        first.get_or_insert(start.elapsed().as_secs_f64());
    }
    Ok((first.unwrap_or_default(), start.elapsed().as_secs_f64()))
}

fn settled(namespace: &Namespace) -> Result<()> {
    let list: Value =
        serde_json::from_str(&namespace.kubectl(&["get", "predictormodels", "--output", "json"])?)?;
    for model in list["items"].as_array().context("a list has items")? {
        let conditions = model["status"]["conditions"].as_array().into_iter().flatten();
        let wrong: Vec<_> =
            conditions.filter(|is| (is["type"] == "Progressing") == (is["status"] == "True")).collect();
        ensure!(wrong.is_empty(), "{} is {wrong:?}", model["metadata"]["name"]);
    }
    Ok(())
}

/// While a namespace goes, its models do not all go at once, and the operator repairs those that are left.
pub(crate) fn only_in(namespace: &Namespace) -> Result<()> {
    let columns = "jsonpath={range .items[*]}{.metadata.namespace}{'\\n'}{end}";
    let all = kubectl(&["get", "predictormodels", "--all-namespaces", "--output", columns])?;
    let others = all.lines().filter(|of| *of != namespace.name).count();
    ensure!(others == 0, "there are {others}");
    // The operator removes the list of models of a namespace after its last model.
    let lists = ["get", "services", "--all-namespaces", "--field-selector", "metadata.name=predictors"];
    let all = kubectl(&[&lists[..], &["--output", columns]].concat())?;
    let others: Vec<_> = all.lines().filter(|of| *of != namespace.name).collect();
    ensure!(others.is_empty(), "there are lists of models in {others:?}");
    Ok(())
}

/// `ConfigMap`s that are none of Canopy's business, in a namespace of their own.
fn strangers() -> Result<()> {
    const NAMESPACE: &str = "e2e-strangers";
    const AT_ONCE: usize = 100;
    // One `kubectl` makes fifty a second, by its own will.
    const MAKERS: usize = 4;
    kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found"])?;
    kubectl(&["create", "namespace", NAMESPACE])?;
    let text = "x".repeat(STRANGER_BYTES);
    let make = |batch: usize| {
        let items: Vec<_> = (0..AT_ONCE)
            .map(|i| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("s{batch}-{i}")}, "data": {"text": text}}))
            .collect();
        create(NAMESPACE, &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
    };
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|first| {
                scope.spawn(move || (first..strangers_count() / AT_ONCE).step_by(MAKERS).try_for_each(make))
            })
            .collect();
        makers.into_iter().try_for_each(|maker| maker.join().unwrap_or_else(|_| bail!("a maker panicked")))
    })
}

/// How long it is quiet.
fn quiet() -> Duration {
    if is_full() { QUIET_FULL } else { QUIET }
}

/// How many `ConfigMap`s strangers make.
fn strangers_count() -> usize {
    if is_full() { STRANGERS_FULL } else { STRANGERS }
}

fn is_full() -> bool {
    Slice::Scale.runs()
}
