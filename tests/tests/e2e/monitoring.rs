//! Prometheus and a store of traces with a real installation: every query of the dashboards and rules has a result, every panel is
//! drawn, and a request is one trace. `tests/alerts` shows that alerts fire.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::forward::Forward;
use canopy_tests::jaeger::Span;
use canopy_tests::kubernetes::{helm, kubectl, this_machine};
use canopy_tests::namespace::in_namespace;
use canopy_tests::postgres::Postgres;
use canopy_tests::prometheus::{Pods, Prometheus, faults};
use canopy_tests::trace_store::TraceStore;
use canopy_tests::wait::until;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::canopy::{SYSTEM, exclusive, gateways, install, install_with, measurements, pods, rolled_out};
use crate::model::{Model, revision, small};
use crate::signals::signal_pods;

/// The longest time until every query has a result: rates need two scrapes after a change.
const SEEN_WITHIN: Duration = Duration::from_mins(2);
/// The number of concurrent requests for a pod that hangs: more than a gateway queues for it.
const TOO_MANY: usize = 160;
/// Rows in one request: enough for a predictor to compute drift.
const ROWS: usize = 600;
/// The Secret with the URL of the database.
const SECRET: &str = "e2e-database";
/// The trace of a request, and the span of its client.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// The spans of a request, from the gateway to the model.
const SPANS: [(&str, &str); 4] = [
    ("canopy-gateway", "POST /api/models/{model}/predict"),
    ("canopy-gateway", "POST /predict"),
    ("canopy-predictor", "POST /predict"),
    ("canopy-predictor", "inference"),
];
const ROW: [f64; 4] = [1.0; 4];
/// Has a result after 20 s of requests, when lines in the dashboards are visible.
const STEADY: &str = "count_over_time((histogram_quantile(0.5, sum by (le) (rate(canopy_predictor_prediction_duration_seconds_bucket[5s]))) > 0)[20s:1s]) >= 20";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/canopy")
}

/// A query, and the panel or rule that has it.
struct Query {
    from: String,
    expression: String,
    /// Whether a panel shows traces beside it.
    has_traces: bool,
}

/// The pods that the chart's `PodMonitor` selects.
fn monitored() -> Result<Pods> {
    let chart = chart().display().to_string();
    let words = ["template", "canopy", &chart, "--namespace", "canopy-system"];
    let shown = ["--set", "monitoring.pods=true", "--show-only", "templates/monitoring.yaml"];
    let documents: Vec<Value> = serde_saphyr::from_multiple(&helm(&[&words[..], &shown].concat())?)?;
    let monitor = documents.iter().find(|one| one["kind"] == "PodMonitor").context("there is one")?;
    let word = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("in {monitor}"));
    let (names, endpoint) =
        (&monitor["spec"]["selector"]["matchExpressions"][0], &monitor["spec"]["podMetricsEndpoints"][0]);
    ensure!(names["key"] == "app.kubernetes.io/name" && names["operator"] == "In", "{names}");
    ensure!(monitor["spec"]["namespaceSelector"]["any"] == true, "predictors are in any namespace");
    let values = names["values"].as_array().context("a list of values")?;
    Ok(Pods {
        job: format!("{}/{}", word(&monitor["metadata"]["namespace"])?, word(&monitor["metadata"]["name"])?),
        names: values.iter().map(word).collect::<Result<_>>()?,
        port: word(&endpoint["port"])?,
        path: word(&endpoint["path"])?,
    })
}

/// All queries of all panels, with values for their variables.
fn of_panels(variables: &[(&str, &str)]) -> Result<Vec<Query>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(chart().join("files/dashboards"))? {
        let dashboard: Value = serde_json::from_slice(&std::fs::read(file?.path())?)?;
        let outer: Vec<_> = dashboard["panels"].as_array().into_iter().flatten().collect();
        let inner = outer.iter().flat_map(|panel| panel["panels"].as_array().into_iter().flatten());
        for panel in outer.iter().copied().chain(inner) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = target["expr"].as_str().context("a target has an expression")?;
                let put = |text: String, (name, value): &(&str, &str)| text.replace(name, value);
                found.push(Query {
                    from: format!("{}, {}", dashboard["title"], panel["title"]),
                    expression: variables.iter().fold(text.to_owned(), put),
                    has_traces: target["exemplar"] == true,
                });
            }
        }
    }
    Ok(found)
}

/// All series that rules record, and all selectors of alerts.
fn of_rules(rules: &Path) -> Result<Vec<Query>> {
    let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(rules)?)?;
    let groups = rules["groups"].as_array().context("rules are in groups")?;
    let mut found = Vec::new();
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()) {
        let expressions = match (rule["record"].as_str(), rule["alert"].as_str(), rule["expr"].as_str()) {
            (Some(record), None, _) => vec![record.to_owned()],
            (None, Some(_), Some(expression)) => selectors(expression),
            _ => vec![],
        };
        ensure!(!expressions.is_empty(), "expected a query in the rule {rule}");
        let from = rule["record"].as_str().or(rule["alert"].as_str()).unwrap_or_default();
        let query = |expression| Query { from: from.to_owned(), expression, has_traces: false };
        found.extend(expressions.into_iter().map(query));
    }
    Ok(found)
}

/// The metrics in an expression, each with its labels.
fn selectors(expression: &str) -> Vec<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let starts = expression.match_indices("canopy").map(|(start, _)| start);
    let starts = starts.filter(|&start| !expression[..start].ends_with(is_of_name));
    let whole = |start: usize| {
        let rest = &expression[start..];
        let name = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
        let labels = rest[name..].starts_with('{').then(|| rest.find('}')).flatten();
        rest[..labels.map_or(name, |end| end + 1)].to_owned()
    };
    starts.map(whole).collect()
}

/// Sends good and bad requests, and gives the operator something to reconcile.
async fn traffic(gateways: &[Forward], model: &Model<'_>, round: usize) -> Result<()> {
    for gateway in gateways {
        let path = format!("/api/models/{}/predict", model.full_name());
        for (body, status) in [
            (json!({"features": ROW}), 200),
            (json!({"instances": (0..ROWS).map(row).collect::<Vec<_>>()}), 200),
            (json!({"features": ["x"]}), 422),
        ] {
            let reply = gateway.post(&path, &body).await?;
            ensure!(reply.status == status, "{body}: {} {}", reply.status, reply.text);
            if status == 200 {
                send_feedback(gateway, &reply.json()?).await?;
            }
        }
        let reply = gateway.predict(&format!("unknown.{}", model.namespace.name), &ROW).await?;
        ensure!(reply.status == 404, "{}: {}", reply.status, reply.text);
        let reply = gateway.get("/api/predictions").await?;
        ensure!(reply.status == 403, "what is recorded is shown unasked: {} {}", reply.status, reply.text);
    }
    let mark = format!("round={round}");
    model.namespace.kubectl(&["annotate", "--overwrite", "predictormodel", model.name, &mark])?;
    Ok(())
}

/// Four numbers between -2 and 2, which depend on `number`.
fn row(number: usize) -> [f64; 4] {
    [13, 29, 47, 61].map(|step| (number * step % 101) as f64 / 25.0 - 2.0)
}

/// Sends feedback that a prediction was right.
async fn send_feedback(gateway: &Forward, answer: &Value) -> Result<()> {
    let id = answer["id"].as_str().with_context(|| format!("no id in {answer}"))?;
    let classes: Vec<_> =
        answer["predictions"].as_array().into_iter().flatten().map(|one| &one["class"]).collect();
    let truth = if classes.is_empty() { json!(answer["prediction"]["class"]) } else { json!(classes) };
    let reply = gateway.post(&format!("/api/predictions/{id}/feedback"), &json!({"actual": truth})).await?;
    ensure!(reply.status == 202, "{}: {}", reply.status, reply.text);
    Ok(())
}

/// Sends more requests than a gateway queues for a pod that hangs: some are refused, the others are late.
async fn too_much(gateway: &Forward, model: &Model<'_>) -> Result<()> {
    let (pods, name) = (model.pods(&revision(&model.read()?)?)?, model.full_name());
    signal_pods("STOP", pods.values())?;
    let mut asked: FuturesUnordered<_> = (0..TOO_MANY).map(|_| gateway.predict(&name, &ROW)).collect();
    let first = asked.next().await;
    signal_pods("CONT", pods.values())?;
    let first = first.context("there are requests")??;
    ensure!(
        first.status == 503 && first.json()?["code"] == "overloaded",
        "the pod hangs, and yet one is answered: {} {}",
        first.status,
        first.text
    );
    while let Some(reply) = asked.next().await {
        let reply = reply?;
        ensure!(matches!(reply.status, 200 | 503), "{}: {}", reply.status, reply.text);
    }
    Ok(())
}

/// Configures gateways to record predictions, and all of Canopy to send every trace.
fn observe(store: &TraceStore, postgres: &Postgres) -> Result<()> {
    let url = format!("--from-literal=url={}", postgres.url());
    kubectl(&["create", "secret", "generic", SECRET, "--namespace", SYSTEM, &url])?;
    install_with(&[
        format!("gateway.database.secretName={SECRET}"),
        format!("tracing.endpoint={}", store.endpoint()),
        "tracing.ratio=1".to_owned(),
        // Prometheus scrapes pods through the API server, which no policy admits.
        "networkPolicy.enabled=false".to_owned(),
    ])
}

fn delete_secret() -> Result<()> {
    kubectl(&["delete", "secret", SECRET, "--namespace", SYSTEM, "--ignore-not-found"]).map(drop)
}

/// Runs all queries until each has a result, and draws all panels, while the model gets requests.
#[expect(clippy::print_stdout, reason = "people read the figures")]
async fn every_query(model: &Model<'_>, gateways: &[Forward], store: &TraceStore) -> Result<()> {
    let rules = chart().join("files/rules.yaml").canonicalize()?;
    let prometheus = Prometheus::start(&monitored()?, &rules).await?;
    too_much(&gateways[0], model).await?;
    let queries = of_panels(&[
        ("$__rate_interval", "1m"),
        ("$namespace", &model.namespace.name),
        ("$model", model.name),
        ("$version", ".+"),
    ])?;
    let queries: Vec<_> = queries.into_iter().chain(of_rules(&rules)?).collect();
    let seen = async {
        until("a result of every query", SEEN_WITHIN, async || {
            let mut lost = Vec::new();
            for Query { from, expression, has_traces } in &queries {
                let found = prometheus.ask(expression).await?;
                if found.iter().all(|value| value.is_nan()) {
                    lost.push(format!("{from}: {expression} finds {found:?}"));
                }
                if *has_traces && !is_kept(store, &prometheus.traces(expression).await?).await {
                    lost.push(format!("{from}: {expression} has no exemplar of a trace that is kept"));
                }
            }
            ensure!(lost.is_empty(), "of {} these find nothing:\n{}", queries.len(), lost.join("\n"));
            Ok(())
        })
        .await?;
        println!("{} queries of dashboards and rules find something", queries.len());
        until("visible lines", SEEN_WITHIN, async || {
            ensure!(!prometheus.ask(STEADY).await?.is_empty(), "the model did not get requests all the time");
            Ok(())
        })
        .await?;
        draw(&prometheus, model).await
    };
    let asking = async {
        for round in 0.. {
            traffic(gateways, model, round).await?;
        }
        Ok(())
    };
    let seen = tokio::select! {
        seen = seen => seen,
        failed = asking => failed,
    };
    seen.with_context(|| prometheus.lines().join("\n"))
}

/// Whether the store has the first of these traces.
async fn is_kept(store: &TraceStore, traces: &[String]) -> bool {
    // The spans of a new exemplar may not have been sent yet.
    match traces.first() {
        Some(trace) => store.trace(trace).await.is_ok(),
        None => false,
    }
}

/// Draws every dashboard with Grafana's libraries in a browser; the pictures are in `target/dashboards`.
#[expect(clippy::print_stdout, reason = "people read the figures")]
async fn draw(prometheus: &Prometheus, model: &Model<'_>) -> Result<()> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let values = [
        format!("namespace={}", model.namespace.name),
        format!("model={}", model.name),
        "scrape=1".to_owned(),
        "from=now-1m".to_owned(),
    ];
    for file in std::fs::read_dir(chart().join("files/dashboards"))? {
        let file = file?.path().canonicalize()?;
        let picture = tests.join("../target/dashboards").join(file.file_name().unwrap_or_default());
        let mut node = Command::new("node");
        node.arg(tests.join("dashboards/draw.mjs")).arg(prometheus.url()).arg(&file);
        node.arg(picture.with_extension("png")).args(&values).kill_on_drop(true);
        let drawn = node.output().await.context("failed to start node")?;
        let output =
            [drawn.stdout, drawn.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        ensure!(drawn.status.success(), "{}:\n{output}", file.display());
        println!("{}: {} panels are drawn", file.display(), output.lines().count());
    }
    Ok(())
}

/// A request within a client's trace is one trace, from the client to the model. A reconcile of the operator and its writes are
/// one trace.
async fn traces(store: &TraceStore, model: &Model<'_>, gateway: &Forward) -> Result<()> {
    let path = format!("/api/models/{}/predict", model.full_name());
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let reply = gateway.post_within(&parent, &path, &json!({"features": ROW})).await?;
    ensure!(reply.status == 200, "{}: {}", reply.status, reply.text);
    until("the trace of a request", SEEN_WITHIN, async || {
        let spans = store.trace(TRACE).await?;
        let mut parent = CALLER.to_owned();
        for (service, name) in SPANS {
            let is_next =
                |span: &&Span| span.service == service && span.name == name && span.parent == parent;
            let next = spans.iter().find(is_next);
            let next = next.with_context(|| format!("no {name} of {service} below {parent} in {spans:?}"))?;
            parent.clone_from(&next.id);
        }
        ensure!(spans.len() == SPANS.len(), "there are others: {spans:?}");
        Ok(())
    })
    .await?;
    until("the trace of a pass", SEEN_WITHIN, async || {
        let traces = store.traces("canopy-operator", "reconcile", ("canopy.model", model.name)).await?;
        let wrote = |trace: &Vec<Span>| {
            let pass = trace.iter().find(|span| span.name == "reconcile");
            pass.is_some_and(|pass| {
                trace.iter().any(|span| span.name == "apply Deployment" && span.parent == pass.id)
            })
        };
        ensure!(traces.iter().any(wrote), "no pass of {traces:?} applied a Deployment");
        Ok(())
    })
    .await
    .with_context(|| store.lines().join("\n"))
}

#[tokio::test]
async fn every_query_has_a_result_and_a_request_is_one_trace() -> Result<()> {
    let _lock = exclusive().await?;
    let here = this_machine()?;
    let (store, postgres) = (TraceStore::start(here).await?, Postgres::start(here).await?);
    // An interrupted run may have left it.
    delete_secret()?;
    let test = in_namespace("e2e-monitoring", async |namespace| {
        observe(&store, &postgres)?;
        rolled_out()?;
        namespace.apply(&small("seen", &json!({"replicas": 1})))?;
        let model = Model { namespace, name: "seen" };
        model.ready()?;
        let gateways = gateways().await?;
        for gateway in &gateways {
            model.predict_until(gateway, &ROW, "a prediction", |reply| reply.status == 200).await?;
        }
        for operator in pods("operator")? {
            let faults = faults(&measurements(&operator).await?.0).await?;
            ensure!(faults.is_empty(), "promtool warns of the metrics of {operator}: {faults}");
        }
        traces(&store, &model, &gateways[0]).await?;
        every_query(&model, &gateways, &store).await
    });
    let seen = Box::pin(with_cleanup(test, async || {
        install()?;
        delete_secret()?;
        rolled_out()
    }));
    seen.await.with_context(|| postgres.lines().join("\n"))
}

#[test]
fn selectors_are_metrics_with_their_labels() {
    let found = selectors(r#"sum(rate(canopy_a_total{b="c"}[5m])) > 1 and xcanopy_d or canopy:e:rate5m"#);
    assert_eq!(found, [r#"canopy_a_total{b="c"}"#, "canopy:e:rate5m"]);
}
