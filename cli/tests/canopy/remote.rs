//! Data on another machine: `canopy train` and `canopy up` honour the address in a manifest as a cluster does.

use anyhow::{Context as _, Result};
use canopy_predictor::artifact;
use canopy_tests::fake_predictor::FakePredictor;
use canopy_tests::process::free_address;
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::program::{Ended, Folder, IRIS, Up, run};

/// The iris table as the manifest has it in its `ConfigMap`.
fn table() -> Result<String> {
    let (_, table) = IRIS.split_once("iris.csv: |\n").context("a table")?;
    Ok(table.lines().flat_map(|line| [line.trim(), "\n"]).collect())
}

/// The model of that manifest alone, with its data at `uri`.
fn model(uri: &str, sha256: &str) -> Result<String> {
    let (model, _) = IRIS.split_once("\n---\n").context("two documents")?;
    let remote = format!("uri: '{uri}'\n          sha256: {sha256}");
    Ok(model.replace("configMap: {name: iris-data, key: iris.csv}", &remote))
}

/// A machine that answers every request with this status and this text.
async fn machine(status: &str, text: &str) -> Result<(FakePredictor, String)> {
    let address = free_address()?;
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    let liar = FakePredictor::start(address, format!("{head}{text}").as_bytes()).await?;
    Ok((liar, format!("http://user:secret@{address}/iris.csv?signature=secret")))
}

async fn train(manifest: String) -> Result<Ended> {
    let out = Folder::new()?;
    let path = out.argument("iris.canopy");
    // The machine with the data lives in this thread.
    spawn_blocking(move || run(&["train", "-f", "-", "-o", &path], &manifest)).await?
}

#[tokio::test]
async fn a_downloaded_table_gives_the_same_model_as_one_in_the_manifest() -> Result<()> {
    let (_machine, uri) = machine("200 OK", &table()?).await?;
    let manifest = model(&uri, &artifact::digest(table()?.as_bytes()))?;
    let ended = train(manifest.clone()).await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.output.contains("accuracy 0.9667 on 30 held-out rows"), "{ended:?}");
    let (address, _) = uri.split_once('?').context("a query")?;
    let said = format!("downloading the data of iris from {}\n", address.replace("user:secret@", ""));
    assert!(ended.errors.starts_with(&said), "{ended:?}");
    assert!(!ended.errors.contains("secret"), "{ended:?}");

    let folder = Folder::new()?;
    let up = Up::start(&folder.path("data"), &[&folder.write("iris.yaml", &manifest)?]).await?;
    let answer = up
        .post(&up.gateway("/api/models/iris/predict"), &json!({"features": [5.9, 2.8, 4.3, 1.3]}))
        .await?
        .json()?;
    assert_eq!(answer["prediction"]["label"], "versicolor", "{answer}");
    Ok(())
}

#[tokio::test]
async fn another_file_refuses_the_model_and_a_missing_one_fails() -> Result<()> {
    let (_machine, uri) = machine("200 OK", &table()?).await?;
    let ended = train(model(&uri, &"ab".repeat(32))?).await?;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let refused = "error: model iris is refused: digest_mismatch: http://";
    assert!(ended.errors.contains(refused) && !ended.errors.contains("secret"), "{ended:?}");

    let (_machine, uri) = machine("404 Not Found", "").await?;
    let ended = train(model(&uri, &"ab".repeat(32))?).await?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failed = "error: failed to prepare model iris: failed to download http://";
    assert!(
        ended.errors.contains(failed) && ended.errors.contains("the server responded 404 Not Found"),
        "{ended:?}"
    );
    Ok(())
}
