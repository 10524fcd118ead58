//! What Prometheus sees of Canopy: every query that ships finds something, and every alert what it watches.
//!
//! Comes in: the chart's `PodMonitor`, rules and dashboards, a model that is asked well, badly and too much. Goes out: the
//! queries that find nothing, by name. Never: whether an alert fires when it must; `tests/alerts` shows that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::kubernetes::helm;
use canopy_tests::namespace::in_namespace;
use canopy_tests::prometheus::{Pods, Prometheus};
use canopy_tests::wait::until;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use crate::canopy::{gateways, shared};
use crate::model::{Model, revision, small};
use crate::strike::strike;

/// By when every query has found something: rates need two scrapes after a change.
const SEEN_WITHIN: Duration = Duration::from_mins(2);
/// How many are asked at once of one pod that hangs: more than a gateway lets wait for it.
const TOO_MANY: usize = 160;
/// Rows in one request: enough for a predictor to tell their drift.
const ROWS: usize = 600;
/// What is counted only where gateways have a database, which these have not.
const NEED_A_DATABASE: [&str; 3] = ["canopy_feedback_total", "canopy:feedback:", "canopy:live_accuracy:"];
const ROW: [f64; 4] = [1.0; 4];
const OTHER_ROW: [f64; 4] = [-1.0; 4];

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/canopy")
}

/// A query, and where it is from.
struct Query {
    from: String,
    expression: String,
}

/// The pods that the chart's `PodMonitor` names.
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

/// Every query of every panel, with the variables' values put in.
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
                });
            }
        }
    }
    Ok(found)
}

/// Every series that rules record, and every selector of an alert.
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
        ensure!(!expressions.is_empty(), "nothing is asked for by {rule}");
        let from = rule["record"].as_str().or(rule["alert"].as_str()).unwrap_or_default();
        found.extend(expressions.into_iter().map(|expression| Query { from: from.to_owned(), expression }));
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

/// Asks well and badly, and gives the operator something to look at.
async fn traffic(gateways: &[Forward], model: &Model<'_>, round: usize) -> Result<()> {
    for gateway in gateways {
        let path = format!("/api/models/{}/predict", model.full_name());
        for (body, status) in [
            (json!({"features": ROW}), 200),
            (
                json!({"instances": (0..ROWS).map(|row| if row % 2 == 0 { ROW } else { OTHER_ROW }).collect::<Vec<_>>()}),
                200,
            ),
            (json!({"features": ["x"]}), 422),
        ] {
            let reply = gateway.post(&path, &body).await?;
            ensure!(reply.status == status, "{body}: {} {}", reply.status, reply.text);
        }
        let reply = gateway.predict(&format!("nobody.{}", model.namespace.name), &ROW).await?;
        ensure!(reply.status == 404, "{}: {}", reply.status, reply.text);
    }
    let mark = format!("round={round}");
    model.namespace.kubectl(&["annotate", "--overwrite", "predictormodel", model.name, &mark])?;
    Ok(())
}

/// Asks more than can wait, of a pod that hangs meanwhile: some requests are refused, the others are late.
async fn too_much(gateway: &Forward, model: &Model<'_>) -> Result<()> {
    let (pods, name) = (model.pods(&revision(&model.read()?)?)?, model.full_name());
    strike("STOP", pods.values())?;
    let mut asked: FuturesUnordered<_> = (0..TOO_MANY).map(|_| gateway.predict(&name, &ROW)).collect();
    let first = asked.next().await;
    strike("CONT", pods.values())?;
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

#[tokio::test]
async fn every_query_that_ships_finds_something_and_every_alert_what_it_watches() -> Result<()> {
    let _turn = shared().await?;
    in_namespace("e2e-monitoring", async |namespace| {
        let rules = chart().join("files/rules.yaml").canonicalize()?;
        namespace.apply(&small("seen", &json!({"replicas": 1})))?;
        let model = Model { namespace, name: "seen" };
        model.ready()?;
        let prometheus = Prometheus::start(&monitored()?, &rules).await?;
        let gateways = gateways().await?;
        for gateway in &gateways {
            model.ask_until(gateway, &ROW, "a prediction", |reply| reply.status == 200).await?;
        }
        too_much(&gateways[0], &model).await?;

        let queries = of_panels(&[
            ("$__rate_interval", "1m"),
            ("$namespace", &namespace.name),
            ("$model", model.name),
            ("$version", ".+"),
        ])?;
        let needs_no_database =
            |query: &Query| NEED_A_DATABASE.iter().all(|name| !query.expression.contains(name));
        let all = queries.into_iter().chain(of_rules(&rules)?);
        let queries: Vec<_> = all.filter(needs_no_database).collect();
        let mut round = 0;
        until("every query to find something", SEEN_WITHIN, async || {
            round += 1;
            traffic(&gateways, &model, round).await?;
            let mut lost = Vec::new();
            for Query { from, expression } in &queries {
                let found = prometheus.ask(expression).await?;
                if found.iter().all(|value| value.is_nan()) {
                    lost.push(format!("{from}: {expression} finds {found:?}"));
                }
            }
            ensure!(lost.is_empty(), "of {} queries these find nothing:\n{}", queries.len(), lost.join("\n"));
            Ok(())
        })
        .await
        .with_context(|| prometheus.lines().join("\n"))?;
        println!("{} queries of dashboards and rules find something", queries.len());
        Ok(())
    })
    .await
}

#[test]
fn selectors_are_metrics_with_their_labels() {
    let found = selectors(r#"sum(rate(canopy_a_total{b="c"}[5m])) > 1 and xcanopy_d or canopy:e:rate5m"#);
    assert_eq!(found, [r#"canopy_a_total{b="c"}"#, "canopy:e:rate5m"]);
}
