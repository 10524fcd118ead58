//! `canopy up` while it serves: its summary is correct.

use std::process::Command;

use anyhow::{Context as _, Result};
use canopy_tests::wait::{SOON, until};
use serde_json::{Value, json};

use crate::program::{DEMO, Folder, IRIS, Up, golden, start};

#[tokio::test]
async fn the_printed_example_works() -> Result<()> {
    let folder = Folder::new()?;
    let mut process = start(&folder.path("data"), &[])?;
    let line = until("the line to try", SOON, async || {
        process.still_runs()?;
        let lines = process.lines();
        let line = lines.iter().find_map(|line| line.strip_prefix("  curl "));
        line.map(|rest| format!("curl {rest}")).with_context(|| format!("it said {lines:?}"))
    });
    let curl = Command::new("sh").args(["-c", &line.await?]).output().context("failed to run curl")?;
    let answer: Value = serde_json::from_slice(&curl.stdout)?;
    assert_eq!(answer["success"], true, "{answer}");
    assert_eq!(answer["service"], "demo");
    assert_eq!(answer["prediction"]["class"].as_u64().map(|class| class < 2), Some(true), "{answer}");
    assert!(answer["confidence"].as_f64() > Some(0.9), "the confidence is too low: {answer}");

    let table = process.lines().join("\n");
    for part in
        ["gateway     http://127.0.0.1:", "docs        http://", "metrics     http://", "model demo  http://"]
    {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    assert!(table.contains("training demo 100/100 steps"), "{table}");
    Ok(())
}

#[tokio::test]
async fn model_files_of_other_libraries_are_served_through_the_gateway() -> Result<()> {
    let folder = Folder::new()?;
    let (classes, values) = (golden("library/lgb_binary.txt"), golden("library/xgb_regression.ubj"));
    let flags = ["--model", &classes, "--model", &values];
    let up = Up::start_with(&folder.path("data"), &flags).await?;
    let row = json!({"features": [0.1, -0.2, 0.3, 0.4, -0.5, 2.0]});
    let answer = up.post(&up.gateway("/api/models/lgb-binary/predict"), &row).await?.json()?;
    assert!(answer["prediction"]["class"].as_u64() < Some(2) && answer["confidence"].is_f64(), "{answer}");
    let model = up.get(&up.gateway("/api/models/xgb-regression")).await?.json()?;
    assert_eq!(model["task"], "Regression", "{model}");
    let inputs = model["features"].as_array().map_or(0, Vec::len);
    let rows = json!({"instances": vec![vec![0.5; inputs]; 2]});
    let answer = up.post(&up.gateway("/api/models/xgb-regression/predict"), &rows).await?.json()?;
    let predictions = &answer["predictions"];
    assert!(predictions[0]["value"].is_f64() && predictions[0] == predictions[1], "{answer}");
    assert_eq!((&answer["confidence"], &predictions[0]["class"]), (&Value::Null, &Value::Null), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_model_file_needs_another_name_than_the_models_of_manifests() -> Result<()> {
    let folder = Folder::new()?;
    let (demo, file) = (folder.write("demo.yaml", DEMO)?, golden("library/lgb_binary.txt"));
    let mut process = start(&folder.path("data"), &["-f", &demo, "--model", &file, "--name", "demo"])?;
    assert_eq!(process.ended().await?.code(), Some(1));
    let expected =
        "error: the model demo is in a manifest, too: give the model of the file another name with --name";
    assert_eq!(process.lines(), [expected]);
    Ok(())
}

/// A model of scikit-learn in a manifest, with examples.
const LEVELS: &str = include_str!("../../../deploy/samples/levels.yaml");

#[tokio::test]
async fn the_model_file_of_a_manifest_is_served_once_its_examples_are_answered() -> Result<()> {
    let folder = Folder::new()?;
    let up = Up::start(&folder.path("data"), &[&folder.write("levels.yaml", LEVELS)?]).await?;
    for (value, label) in [(0, "mid"), (-1, "low"), (1000, "high")] {
        let row = json!({"features": [value, value, value, value, value, value]});
        let answer = up.post(&up.gateway("/api/models/levels/predict"), &row).await?.json()?;
        assert_eq!(answer["prediction"]["label"], label, "{answer}");
    }

    let wrong = folder.write("wrong.yaml", &LEVELS.replace("{label: low}", "{label: high}"))?;
    let mut process = start(&folder.path("other"), &["-f", &wrong])?;
    assert_eq!(process.ended().await?.code(), Some(3));
    let said = process.lines().join("\n");
    let expected = "error: model levels is refused: example_mismatch: examples[1]: expected \"high\", but the model answers \
                    \"low\" with probability ";
    assert!(said.starts_with(expected), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_model_whose_only_example_has_a_missing_value_is_served() -> Result<()> {
    let folder = Folder::new()?;
    let (model, _) = LEVELS.split_once("spec:\n").context("a spec")?;
    let spec = "spec:\n  version: a\n  artifact: {source: {configMap: {name: m, key: m}}}\n  examples:\n  - features: \
                ['', 0, 0, 0, 0, 0]\n    expected: {class: 0}\n---\n";
    let file = std::fs::read_to_string(golden("library/lgb_binary.txt"))?;
    let lines: String = file.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    let data = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata:\n  m: |\n{lines}");
    let up =
        Up::start(&folder.path("data"), &[&folder.write("m.yaml", &format!("{model}{spec}{data}"))?]).await?;
    let example = up.summary["example"].as_str().context("an example")?;
    assert!(example.ends_with("'{\"features\":[null,0,0,0,0,0]}'"), "{example}");
    Ok(())
}

#[tokio::test]
async fn several_models_are_served_each_by_its_own_predictor() -> Result<()> {
    let folder = Folder::new()?;
    let (iris, demo) = (folder.write("iris.yaml", IRIS)?, folder.write("demo.yaml", DEMO)?);
    let up = Up::start(&folder.path("data"), &[&iris, &demo]).await?;

    let versicolor = json!({"features": [5.9, 2.8, 4.3, 1.3]});
    let answer = up.post(&up.gateway("/api/models/iris/predict"), &versicolor).await?.json()?;
    assert_eq!(answer["prediction"]["label"], "versicolor", "{answer}");
    assert_eq!(answer["prediction"]["class"], 1);

    let positive = json!({"features": [2.0, 2.0, 0.0, 0.0]});
    for path in ["/api/predict", "/api/models/demo/predict", "/api/models/demo.default/predict"] {
        let answer = up.post(&up.gateway(path), &positive).await?.json()?;
        assert_eq!(answer["prediction"]["class"], 1, "{path}: {answer}");
        assert_eq!(answer["service"], "demo");
    }

    for (index, (name, row, class)) in
        [("iris", &versicolor, 1), ("demo", &positive, 1)].into_iter().enumerate()
    {
        let served = &up.summary["models"][index];
        assert_eq!(served["model"], name, "{}", up.summary);
        let predictor = served["predictor"].as_str().unwrap_or_default();
        assert_eq!(up.post(&format!("{predictor}/predict"), row).await?.json()?["prediction"], class);
        let about = up.get(&format!("{predictor}/model")).await?.json()?;
        for member in ["model", "version", "revision", "quality"] {
            assert_eq!(about[member], served[member], "{member} of {name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn predictions_feedback_users_and_metrics_work_together() -> Result<()> {
    let folder = Folder::new()?;
    let up = Up::start(&folder.path("data"), &[]).await?;
    assert_eq!(up.get(&up.gateway("/api/test")).await?.status, 200);
    assert_eq!(up.get(&up.gateway("/api/users")).await?.json()?["users"][1]["name"], "Bob");
    assert_eq!(up.get(up.summary["docs"].as_str().unwrap_or_default()).await?.status, 200);

    up.post(&up.gateway("/api/predict"), &json!({"features": [1, 2, -0.5, 0.3]})).await?;
    // The question and the answer with which the README begins.
    let readme = json!({"features": [1.2, 0.4, -0.3, 2.0]});
    let answer = up.post(&up.gateway("/api/predict"), &readme).await?.json()?;
    assert_eq!(
        (&answer["prediction"]["class"], &answer["confidence"]),
        (&json!(1), &json!(0.99)),
        "{answer}"
    );
    let feedback = format!("/api/predictions/{}/feedback", answer["id"].as_str().unwrap_or_default());
    let told = up.post(&up.gateway(&feedback), &json!({"actual": 1})).await?;
    assert_eq!((told.status, &told.json()?["correct"]), (202, &json!(1)), "{}", told.text);
    let metrics = up.summary["metrics"].as_str().unwrap_or_default();
    let text = up.get(metrics).await?.text;
    for metric in [
        "canopy_feedback_total{",
        "canopy_gateway_requests_total{",
        "canopy_predictor_requests_total{",
        "process=\"canopy\"",
    ] {
        assert!(text.contains(metric), "{metric} is not in\n{text}");
    }
    assert_eq!(up.get(&metrics.replace("/metrics", "/ready")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn without_a_model_named_demo_the_first_is_the_default() -> Result<()> {
    let folder = Folder::new()?;
    let in_shop =
        |name: &str| IRIS.replace(&format!("name: {name}\n"), &format!("name: {name}\n  namespace: shop\n"));
    let iris = folder.write(
        "iris.yaml",
        &in_shop("iris").replace("  name: iris-data\n", "  name: iris-data\n  namespace: shop\n"),
    )?;
    let up = Up::start(&folder.path("data"), &[&iris]).await?;
    assert_eq!(up.summary["models"][0]["model"], "iris.shop");
    for path in ["/api/predict", "/api/models/iris.shop/predict"] {
        let answer = up.post(&up.gateway(path), &json!({"features": [5.0, 3.4, 1.5, 0.2]})).await?.json()?;
        assert_eq!(answer["prediction"]["label"], "setosa", "{path}: {answer}");
    }
    assert_eq!(up.post(&up.gateway("/api/models/iris/predict"), &json!({})).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_model_in_the_data_folder_is_reused_until_its_manifest_changes() -> Result<()> {
    let folder = Folder::new()?;
    let data = folder.path("signs that mean something in a URL: %41?#&");
    let revision = async |manifest: &str| -> Result<Value> {
        let up = Up::start(&data, &[&folder.write("demo.yaml", manifest)?]).await?;
        assert_eq!(up.get(&up.gateway("/api/users/1")).await?.json()?["name"], "Alice");
        let answer = up.post(&up.gateway("/api/predict"), &json!({"features": [2, 2, 0, 0]})).await?;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(up.summary["models"][0]["revision"], answer.header("canopy-revision"));
        Ok(up.summary["models"][0]["revision"].clone())
    };
    let first = revision(DEMO).await?;
    assert_eq!(revision(DEMO).await?, first);
    assert_ne!(revision(&DEMO.replace("trees: 100", "trees: 10")).await?, first);
    assert!(data.join("canopy.db").is_file(), "the database is not in the folder");
    Ok(())
}

#[tokio::test]
async fn a_request_for_another_host_is_refused_on_every_port() -> Result<()> {
    let folder = Folder::new()?;
    let up = Up::start_with(&folder.path("data"), &["--allowed-hosts", "models.test,other.test"]).await?;
    let client = reqwest::Client::new();
    let predictor = up.summary["models"][0]["predictor"].as_str().context("a predictor")?;
    let metrics = up.summary["metrics"].as_str().context("the metrics")?;
    for (url, is_admin) in [
        (up.gateway("/api/models"), false),
        (format!("{predictor}/model"), false),
        (metrics.to_owned(), true),
    ] {
        let status = async |host: &str| -> Result<u16> {
            Ok(client.get(&url).header("host", host).send().await?.status().as_u16())
        };
        assert_eq!(status("evil.example").await?, 421, "{url}");
        assert_eq!(status("localhost").await?, 200, "{url}");
        assert_eq!(status("models.test").await?, if is_admin { 421 } else { 200 }, "{url}");
    }
    let refused = client.post(up.gateway("/api/predict")).header("host", "evil.example").send().await?;
    let problem: Value = refused.json().await?;
    assert_eq!(problem["code"], "misdirected_request");
    Ok(())
}
