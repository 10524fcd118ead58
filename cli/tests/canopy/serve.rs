//! `canopy serve`: model files become predictors, or one clear error.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::program::{Ended, Folder, Serving, golden, run};

/// Runs `canopy serve` on free ports; it must end by itself.
fn refused(arguments: &[&str]) -> Result<Ended> {
    run(&[&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], arguments].concat(), "")
}

#[tokio::test]
async fn the_printed_example_of_a_model_file_works() -> Result<()> {
    let serving = Serving::start(1, &[&golden("library/lgb_multiclass.txt")]).await?;
    let lines = serving.process.lines();
    let line = lines.iter().find(|line| line.starts_with("  curl ")).context("a line to try")?;
    let curl = Command::new("sh").args(["-c", line]).output().context("failed to run curl")?;
    let answer: Value = serde_json::from_slice(&curl.stdout)?;
    assert!(answer["prediction"].as_u64() < Some(3) && answer["confidence"].as_f64() > Some(0.3), "{answer}");
    Ok(())
}

#[tokio::test]
async fn several_files_are_served_under_the_names_on_the_command_line() -> Result<()> {
    let files = [golden("library/lgb_binary.txt"), golden("library/xgb_regression.ubj")];
    let flags = ["--name", "fraud", "--name", "price"];
    let serving = Serving::start(2, &[&[&files[0][..], &files[1]][..], &flags].concat()).await?;
    let models = serving.models();
    let names: Vec<_> = models.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fraud", "price"]);
    for ((name, address), task) in models.iter().zip(["Classification", "Regression"]) {
        let model = serving.get(&format!("{address}/model")).await?;
        assert_eq!((&model["model"], &model["task"]), (&Value::from(name.as_str()), &Value::from(task)));
    }
    Ok(())
}

#[test]
fn two_files_of_one_name_need_names() -> Result<()> {
    let (text, json) = (golden("library/xgb_binary.json"), golden("library/xgb_binary.ubj"));
    let ended = refused(&[&text, &json])?;
    let expected = format!(
        "error: two models are called xgb-binary, of {text} and {json}: give each model a unique name with --name, in the \
         order of the files\n"
    );
    assert_eq!((ended.code, ended.errors), (Some(1), expected));
    let ended = refused(&[&text, &json, "--name", "a"])?;
    let expected = "error: --name must be given once for each model file, got 1 for 2 files\n";
    assert_eq!((ended.code, ended.errors.as_str()), (Some(1), expected));
    let ended = refused(&[&text, "--name", "Not_A_Name"])?;
    assert!(ended.code == Some(2) && ended.errors.contains("'Not_A_Name' for '--name <NAME>'"), "{ended:?}");
    Ok(())
}

#[test]
fn a_file_of_another_format_than_the_declared_one_is_refused() -> Result<()> {
    let file = golden("library/xgb_binary.json");
    let ended = refused(&[&file, "--format", "lightgbm"])?;
    let expected = "error: model xgb-binary is refused: model_invalid: the file has the format XGBoost JSON, but the format \
                    LightGBM is declared\n";
    assert_eq!((ended.code, ended.errors.as_str()), (Some(3), expected));
    let ended = refused(&[&file, "--format", "catboost"])?;
    let expected = "error: invalid value 'catboost' for '--format <FORMAT>'\n  [possible values: ONNX, LightGBM, XGBoost, \
                    Skops, MLflow, Canopy]\n";
    assert!(ended.code == Some(2) && ended.errors.starts_with(expected), "{ended:?}");
    Ok(())
}

#[test]
fn a_file_that_is_no_model_is_not_served() -> Result<()> {
    let folder = Folder::new()?;
    let ended = refused(&[&folder.write("model.txt", "hello")?])?;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let expected = "error: model model is refused: model_invalid: unknown file: the format is not known";
    assert!(ended.errors.contains(expected), "{ended:?}");
    let missing = refused(&[&folder.argument("absent")])?;
    assert!(missing.code == Some(1) && missing.errors.contains("absent"), "{missing:?}");
    Ok(())
}
