//! `canopy serve`: model files become predictors, or one clear error.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::outputs::manifest as table;
use crate::program::{Folder, Serving, golden, run, serve};

/// Runs `canopy serve` on free ports; it must end by itself. Returns its exit code and its output.
async fn refused(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut process = serve(arguments)?;
    let status = process.ended().await?;
    Ok((status.code(), process.lines().join("\n")))
}

#[tokio::test]
async fn the_printed_example_of_a_model_file_is_answered_as_printed() -> Result<()> {
    let serving = Serving::start(1, &[&golden("library/lgb_multiclass.txt")]).await?;
    let lines = serving.process.lines();
    let example = lines.iter().position(|line| line.starts_with("  curl ")).context("a line to try")?;
    let curl = Command::new("sh").args(["-c", &lines[example]]).output().context("failed to run curl")?;
    let answer: Value = serde_json::from_slice(&curl.stdout)?;
    assert!(answer["prediction"].as_u64() < Some(3) && answer["confidence"].as_f64() > Some(0.3), "{answer}");
    assert_eq!(serde_json::from_str::<Value>(&lines[example + 1])?, answer);
    let took = lines.iter().find_map(|line| line.strip_prefix("ready in ")?.strip_suffix(" ms"));
    assert!(took.is_some_and(|took| took.parse::<u32>().is_ok()), "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn the_printed_example_of_a_model_of_canopy_is_within_its_bounds() -> Result<()> {
    let folder = Folder::new()?;
    // Two decimals would round every value of these features out of its bounds.
    let bounds = "  features:\n  - {name: x, min: \"0.001\", max: \"0.004\"}\n";
    let manifest =
        folder.write("t.yaml", &table("x,y\n0.001,a\n0.002,a\n0.003,b\n0.004,b\n0.0015,a\n", bounds))?;
    let model = folder.argument("t.canopy");
    let trained = run(&["train", "-f", &manifest, "-o", &model], "")?;
    assert_eq!(trained.code, Some(0), "{trained:?}");
    let serving = Serving::start(1, &[&model]).await?;
    let lines = serving.process.lines();
    assert!(lines.iter().any(|line| line.starts_with("  {\"prediction\":")), "{lines:?}");
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

#[tokio::test]
async fn two_files_of_one_name_need_names() -> Result<()> {
    let (text, json) = (golden("library/xgb_binary.json"), golden("library/xgb_binary.ubj"));
    let (code, said) = refused(&[&text, &json]).await?;
    let expected = format!(
        "error: two models are called xgb-binary, of {text} and {json}: give each model a unique name with --name, in the \
         order of the files"
    );
    assert_eq!((code, said), (Some(1), expected));
    let (code, said) = refused(&[&text, &json, "--name", "a"]).await?;
    let expected = "error: --name must be given once for each model file, got 1 for 2 files";
    assert_eq!((code, said.as_str()), (Some(1), expected));
    let (code, said) = refused(&[&text, "--name", "Not_A_Name"]).await?;
    assert!(code == Some(2) && said.contains("'Not_A_Name' for '--name <NAME>'"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_file_of_another_format_than_the_declared_one_is_refused() -> Result<()> {
    let file = golden("library/xgb_binary.json");
    let (code, said) = refused(&[&file, "--format", "lightgbm"]).await?;
    let expected = "error: model xgb-binary is refused: model_invalid: the file has the format XGBoost JSON, but the format \
                    LightGBM is declared";
    assert_eq!((code, said.as_str()), (Some(3), expected));
    let (code, said) = refused(&[&file, "--format", "catboost"]).await?;
    let expected = "error: invalid value 'catboost' for '--format <FORMAT>'\n  [possible values: ONNX, LightGBM, XGBoost, \
                    Skops, MLflow, Canopy]\n";
    assert!(code == Some(2) && said.starts_with(expected), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_model_is_not_served() -> Result<()> {
    let folder = Folder::new()?;
    let (code, said) = refused(&[&folder.write("model.txt", "hello")?]).await?;
    assert_eq!(code, Some(3), "{said}");
    let expected = "error: model model is refused: model_invalid: unknown file: the format is not known";
    assert!(said.contains(expected), "{said}");
    let (code, said) = refused(&[&folder.argument("absent")]).await?;
    assert!(code == Some(1) && said.contains("absent"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_network_without_labels_is_served_with_declared_classes() -> Result<()> {
    let file = golden("neural/keras_mlp.onnx");
    let (code, said) = refused(&[&file]).await?;
    let expected = "the network has 3 probabilities for each row, but no classes are declared: declare 3 classes with \
                    spec.classes in the manifest or --classes on the command line";
    assert!(code == Some(3) && said.ends_with(expected), "{said}");

    let serving = Serving::start(1, &[&file, "--classes", "low,mid,high"]).await?;
    let (_, address) = serving.models().swap_remove(0);
    let model = serving.get(&format!("{address}/model")).await?;
    assert_eq!(model["classes"], serde_json::json!(["low", "mid", "high"]));
    let (code, said) =
        refused(&[&file, &golden("library/lgb_binary.txt"), "--classes", "low,mid,high"]).await?;
    let expected = "error: --classes must be given with exactly one model file, got 2: serve the other files with a command of \
                    their own";
    assert_eq!((code, said.as_str()), (Some(1), expected));
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_read_safely_is_refused_with_what_to_do() -> Result<()> {
    let folder = Folder::new()?;
    let pickle = folder.write("forest.pkl", "\u{80}\u{4}")?;
    std::fs::write(&pickle, b"\x80\x04\x95\x10\0\0\0\0\0\0\0")?;
    let cut = folder.argument("cut.ubj");
    let whole = std::fs::read(golden("library/xgb_binary.ubj"))?;
    std::fs::write(&cut, &whole[..whole.len() / 2])?;
    for (file, words) in [
        (pickle, ["model forest is refused: model_invalid: pickle file: ", "skops"]),
        (cut, ["model cut is refused: model_invalid: XGBoost UBJ file", "cut"]),
        (golden("mlflow"), ["a folder must be one of MLflow", "give the model file"]),
        (
            golden("mlflow/sklearn_REFUSE_pickle"),
            ["is refused: MLflow file, MLmodel: ", "serialization_format=\"skops\""],
        ),
    ] {
        let (code, said) = refused(&[&file]).await?;
        assert!(code == Some(3) && said.lines().count() == 1, "{said}");
        assert!(said.starts_with("error: ") && words.iter().all(|word| said.contains(word)), "{said}");
    }
    Ok(())
}
