//! Models that serve: from `kubectl apply` of the samples to predictions through every gateway, and to their deletion.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::{kubectl, kubectl_json};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::{Value, json};

use crate::canopy::{DEFAULT, gateways, shared};
use crate::model::{Model, TIMEOUT, revision, small};

const DEMO: &str = include_str!("../../../deploy/samples/demo.yaml");
const IRIS: &str = include_str!("../../../deploy/samples/iris.yaml");

#[tokio::test]
async fn the_demo_model_answers_through_every_gateway_and_wrong_input_is_refused_by_field() -> Result<()> {
    let _lock = shared().await?;
    in_namespace(DEFAULT, async |namespace| {
        namespace.apply(DEMO)?;
        let demo = Model { namespace, name: "demo" };
        let ready = demo.ready()?;
        for gateway in gateways().await? {
            let reply = demo
                .predict_until(&gateway, &[2.0, 2.0, 0.0, 0.0], "a prediction", |r| r.status == 200)
                .await?;
            let answer = reply.json()?;
            ensure!(answer["prediction"]["class"] == 1 && answer["version"] == "1.0", "{answer}");
            ensure!(answer["service"] == "demo", "{answer}");
            ensure!(reply.header("canopy-revision") == revision(&ready)?, "{:?}", reply.headers);
            // It is also the default model.
            let reply = gateway.post("/api/predict", &json!({"features": [-2, -2, 0, 0]})).await?;
            ensure!(reply.json()?["prediction"]["class"] == 0, "{}", reply.text);

            for (features, field) in [
                (json!([1, 2, "x", 4]), "features.2"),
                (json!([1, 2, 3]), "features"),
                (json!([1, 2, 3, 11]), "features.3"),
                (json!("x"), "features"),
            ] {
                let reply = gateway.post("/api/predict", &json!({"features": features})).await?;
                let named = &reply.json()?["errors"][field];
                ensure!(
                    reply.status == 422 && named.is_array(),
                    "{features}: {} {}",
                    reply.status,
                    reply.text
                );
            }
            let reply = gateway.predict(&format!("unknown.{}", namespace.name), &[0.0]).await?;
            ensure!(reply.status == 404, "an unknown model answered {}: {}", reply.status, reply.text);

            let listed = gateway.get("/api/models").await?.json()?;
            let names: Vec<_> =
                listed["models"].as_array().into_iter().flatten().map(|m| &m["model"]).collect();
            ensure!(names == [&json!("demo")], "the list of models is {listed}");
            let users = gateway.get("/api/users").await?.json()?;
            ensure!(
                users["users"][0]["name"] == "Alice",
                "without a database the users are the seed: {users}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn iris_from_a_config_map_answers_with_class_names_and_is_listed_by_kubectl() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-iris", async |namespace| {
        namespace.apply(IRIS)?;
        let iris = Model { namespace, name: "iris" };
        let ready = iris.ready()?;
        for gateway in gateways().await? {
            for (features, label) in [([5.1, 3.5, 1.4, 0.2], "setosa"), ([6.5, 3.0, 5.8, 2.2], "virginica")] {
                let reply =
                    iris.predict_until(&gateway, &features, "a prediction", |r| r.status == 200).await?;
                ensure!(reply.json()?["prediction"]["label"] == label, "{}", reply.text);
            }
        }
        for condition in ["Available", "Ready", "Prepared"] {
            iris.condition(condition, "True", if condition == "Prepared" { "Prepared" } else { "Serving" })
                .await?;
        }
        let quality = &ready["status"]["quality"];
        ensure!(quality["metric"] == "Accuracy" && quality["samples"] == 30, "the quality is {quality}");

        let table = namespace.kubectl(&["get", "pm"])?;
        // Only its age differs from run to run.
        let rows: Vec<_> =
            table.lines().map(|line| line.rsplit_once(' ').map_or(line, |(row, _)| row).trim_end()).collect();
        let kept = include_str!("get-pm.txt");
        ensure!(rows.join("\n") == kept.trim_end(), "kubectl get pm prints\n{table}\nand not\n{kept}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pods_have_no_privileges_no_token_and_no_writable_root() -> Result<()> {
    let _lock = shared().await?;
    // The namespace admits only pods of the restricted level, so their existence shows most of this.
    in_namespace("e2e-restricted", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        Model { namespace, name: "tiny" }.ready()?;
        let pods = namespace.list("pods", "")?;
        let spec = &pods.first().context("the model has no pods")?["spec"];
        ensure!(spec["automountServiceAccountToken"] == false, "{spec}");
        let volumes = spec["volumes"].as_array().context("a pod has volumes")?;
        ensure!(
            volumes.iter().all(|volume| volume["projected"].is_null()),
            "a token is mounted: {volumes:?}"
        );
        for kind in ["initContainers", "containers"] {
            let context = &spec[kind][0]["securityContext"];
            ensure!(context["readOnlyRootFilesystem"] == true, "{kind}: {context}");
            ensure!(context["capabilities"] == json!({"drop": ["ALL"]}), "{kind}: {context}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nothing_is_left_of_a_deleted_model() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-delete", async |namespace| {
        let before = objects(&namespace.name)?;
        for name in ["first", "second"] {
            namespace.apply(&small(name, &json!({})))?;
        }
        let (first, second) = (Model { namespace, name: "first" }, Model { namespace, name: "second" });
        first.ready()?;
        second.ready()?;
        let gateway = gateways().await?.remove(0);
        first.predict_until(&gateway, &[1.0; 4], "a prediction", |r| r.status == 200).await?;

        namespace.kubectl(&["delete", "predictormodel", "first"])?;
        // The list of models stays while there is a model.
        until("the end of the first model", TIMEOUT, async || {
            let left = objects(&namespace.name)?;
            let of_first = left.iter().any(|object| object.contains("/first"));
            ensure!(!of_first, "there is still {left:?}");
            ensure!(left.iter().any(|object| object == "service/predictors"), "no list of models: {left:?}");
            Ok(())
        })
        .await?;
        first.predict_until(&gateway, &[1.0; 4], "404", |r| r.status == 404).await?;
        second.predict_until(&gateway, &[1.0; 4], "a prediction", |r| r.status == 200).await?;

        namespace.kubectl(&["delete", "predictormodel", "second"])?;
        until("nothing", TIMEOUT, async || {
            let left = objects(&namespace.name)?;
            ensure!(left == before, "there is still {left:?}");
            Ok(())
        })
        .await
    })
    .await
}

/// All objects of all kinds in a namespace, except Events and metrics.
fn objects(namespace: &str) -> Result<Vec<String>> {
    let kinds = kubectl(&["api-resources", "--namespaced", "--verbs=list", "--output", "name"])?;
    // Events expire by themselves.
    let kinds: Vec<_> = kinds
        .lines()
        .filter(|kind| !kind.starts_with("events") && !kind.ends_with("metrics.k8s.io"))
        .collect();
    let list = kubectl_json(&["get", &kinds.join(","), "--namespace", namespace])?;
    let items = list["items"].as_array().context("a list has items")?;
    let mut names: Vec<_> = items
        .iter()
        .map(|item| {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!("{}/{}", word(&item["kind"]).to_lowercase(), word(&item["metadata"]["name"]))
        })
        .collect();
    names.sort();
    Ok(names)
}
