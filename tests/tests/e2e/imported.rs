//! A model from a file of another library: it serves the answers of that library, and a wrong file or example never serves.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::namespace::{Namespace, in_namespace};
use serde_json::{Value, json};

use crate::canopy::{gateways, shared};
use crate::model::{Model, revision};

/// The model and its `ConfigMap`.
const SAMPLE: &str = include_str!("../../../deploy/samples/levels.yaml");
const ROWS: &str = include_str!("../../golden/models/onnx/skl_scaler_logreg_zipmap_strings.input.json");
const ANSWERS: &str = include_str!("../../golden/models/onnx/skl_scaler_logreg_zipmap_strings.expected.json");

const FEATURES: usize = 6;

/// The rows and the labels that scikit-learn gives them.
fn golden() -> Result<Vec<(Vec<f64>, String)>> {
    let (rows, answers): (Value, Value) = (serde_json::from_str(ROWS)?, serde_json::from_str(ANSWERS)?);
    let rows: Vec<f64> = serde_json::from_value(rows["inputs"][0]["data"].clone())?;
    let labels: Vec<String> = serde_json::from_value(answers["outputs"][0]["data"].clone())?;
    ensure!(rows.len() == labels.len() * FEATURES, "{} values for {} labels", rows.len(), labels.len());
    Ok(rows.chunks(FEATURES).map(<[f64]>::to_vec).zip(labels).collect())
}

#[tokio::test]
async fn a_model_file_serves_the_answers_of_its_library_and_a_wrong_one_never_serves() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-imported", async |namespace| {
        namespace.apply(SAMPLE)?;
        let levels = Model { namespace, name: "levels" };
        levels.patch(&json!({"replicas": 1, "retireSeconds": 5}))?;
        let first = revision(&levels.ready()?)?;
        let status = levels.read()?["status"].clone();
        ensure!(status["quality"].is_null(), "a model that is not evaluated has no quality: {status}");
        let gateway = gateways().await?.remove(0);
        answers_as_expected(&levels, &gateway, &first).await?;
        rows_by_name_have_the_same_answers(&namespace.name, &gateway).await?;

        // A wrong example.
        let mut examples = levels.read()?["spec"]["examples"].clone();
        examples[0]["expected"]["label"] = "low".into();
        levels.patch(&json!({"examples": examples}))?;
        let words = ["examples[0]", "low", "mid"];
        let message = levels.condition_with("Ready", "False", "ExampleMismatch", &words).await?;
        levels.has_event("ExampleMismatch", &message).await?;
        answers_as_expected(&levels, &gateway, &first).await?;
        examples[0]["expected"]["label"] = "mid".into();
        levels.patch(&json!({"examples": examples}))?;
        ensure!(revision(&levels.ready()?)? == first, "the same spec and file made another revision");

        // A truncated file is another revision, which is refused.
        let file = namespace.json("configmaps", "levels-model")?["binaryData"]["levels.onnx"].clone();
        let file = file.as_str().context("the model is binary")?;
        // Four characters of base64 are three bytes.
        exchange(namespace, &file[..file.len() / 8 * 4])?;
        levels.condition("Ready", "False", "ModelInvalid").await?;
        let refused = levels.read()?["status"]["refused"]["revision"].clone();
        ensure!(
            refused.is_string() && refused != *first,
            "an edit of the file is another revision, got {refused}"
        );
        answers_as_expected(&levels, &gateway, &first).await?;
        exchange(namespace, file)?;
        ensure!(revision(&levels.ready()?)? == first, "the same file made another revision");
        Ok(())
    })
    .await
}

/// A row by name, in the reverse order, has the answer of the row by position, and the probabilities of all labels.
async fn rows_by_name_have_the_same_answers(namespace: &str, gateway: &Forward) -> Result<()> {
    let path = format!("/api/models/levels.{namespace}/predict");
    let (row, label) = golden()?.remove(0);
    let named: Value =
        row.iter().enumerate().rev().map(|(index, value)| (format!("x{index}"), json!(value))).collect();
    let by_name = gateway.post(&path, &json!({"features": named, "probabilities": true})).await?.json()?;
    let by_position = gateway.post(&path, &json!({"features": row})).await?.json()?;
    let (named, listed) = (&by_name["prediction"], &by_position["prediction"]);
    ensure!(named["label"] == *label && named["proba"] == listed["proba"], "{by_name}\n{by_position}");
    let probabilities = named["probabilities"].as_object().context("there are no probabilities")?;
    let sum: f64 = probabilities.values().filter_map(Value::as_f64).sum();
    ensure!(probabilities.len() == 3 && (sum - 1.0).abs() < 1e-6, "{by_name}");
    ensure!(probabilities[&label] == named["proba"], "{by_name}");
    Ok(())
}

/// Changes the `ConfigMap` of the user to a file in base64.
fn exchange(namespace: &Namespace, file: &str) -> Result<()> {
    namespace.patch("configmaps", "levels-model", &json!({"binaryData": {"levels.onnx": file}}))
}

async fn answers_as_expected(levels: &Model<'_>, gateway: &Forward, serving: &str) -> Result<()> {
    let rows = golden()?;
    let (row, _) = rows.first().context("there are no rows")?;
    levels
        .predict_until(gateway, row, "an answer of the revision", |reply| {
            reply.status == 200 && reply.header("canopy-revision") == serving
        })
        .await?;
    for (row, label) in rows.iter().step_by(10) {
        let (answer, _) = levels.predict(gateway, row).await?;
        ensure!(answer["prediction"]["label"] == *label, "{row:?}: expected {label}, got {answer}");
    }
    Ok(())
}
