//! `canopy train` and `canopy predict`: a manifest to a file, a file and a table to answers.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::program::{DEMO, Folder, IRIS, Up, golden, run};

/// The rows of the iris data, as they stand in the manifest.
fn flowers() -> Vec<Vec<&'static str>> {
    let table = IRIS.split_once("petal_width,species\n").map(|(_, rows)| rows).unwrap_or_default();
    table.lines().map(|line| line.trim().split(',').collect()).collect()
}

fn trained(folder: &Folder, more: &[&str]) -> Result<String> {
    let (manifest, model) = (folder.write("iris.yaml", IRIS)?, folder.argument("iris.canopy"));
    let ended = run(&[&["train", "-f", &manifest, "-o", &model], more].concat(), "")?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    Ok(model)
}

fn lines(output: &str) -> Result<Vec<Value>> {
    Ok(output.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn a_model_in_a_file_and_a_served_model_predict_the_same() -> Result<()> {
    let folder = Folder::new()?;
    let model = trained(&folder, &[])?;
    // The columns in another order, with one that is no feature.
    let mut table = "species,petal_width,petal_length,sepal_width,sepal_length\n".to_owned();
    let mut instances = Vec::new();
    for flower in flowers() {
        let cells: Vec<_> = flower.iter().rev().copied().collect();
        table = table + &cells.join(",") + "\n";
        instances.push(flower[..4].iter().map(|cell| cell.parse()).collect::<Result<Vec<f64>, _>>()?);
    }
    let input = folder.write("flowers.csv", &table)?;
    let ended = run(&["predict", "--model", &model, "--input", &input], "")?;
    let answers = lines(&ended.output)?;
    assert_eq!(answers.len(), 150);

    let up = Up::start(&folder.path("data"), &[&folder.argument("iris.yaml")]).await?;
    let predictor = up.summary["models"][0]["predictor"].as_str().unwrap_or_default();
    let served = up.post(&format!("{predictor}/predict"), &json!({"instances": instances})).await?.json()?;
    let names = ["setosa", "versicolor", "virginica"];
    for (index, answer) in answers.iter().enumerate() {
        let served = &served["predictions"][index];
        assert_eq!(
            (&answer["prediction"], &answer["confidence"]),
            (&served["prediction"], &served["confidence"])
        );
        assert_eq!(answer["row"], json!(index + 1));
        let class = answer["prediction"].as_u64().context("an index")?;
        assert_eq!(answer["label"], json!(names[usize::try_from(class)?]));
    }

    let with_probabilities = run(&["predict", "--model", &model, "--input", "-", "--proba"], &table)?;
    for (line, answer) in lines(&with_probabilities.output)?.iter().zip(&answers) {
        let probabilities: Vec<f64> = serde_json::from_value(line["probabilities"].clone())?;
        assert_eq!(
            (&line["prediction"], &line["confidence"]),
            (&answer["prediction"], &answer["confidence"])
        );
        let class = answer["prediction"].as_u64().context("an index")?;
        assert_eq!(json!(probabilities[usize::try_from(class)?]), answer["confidence"]);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{line}");
        assert_eq!(probabilities.len(), 3);
    }
    Ok(())
}

#[test]
fn training_reports_the_evaluation_on_the_held_out_rows() -> Result<()> {
    let folder = Folder::new()?;
    let model = folder.argument("iris.canopy");
    let ended = run(&["train", "-f", "-", "-o", &model], IRIS)?;
    let report: Vec<_> = ended.output.lines().collect();
    assert_eq!(report[0], "class       precision  recall  rows");
    assert!(report[1].starts_with("setosa "), "{report:?}");
    assert_eq!(report[4], "accuracy 0.9667 on 30 held-out rows");
    assert!(report[6].starts_with(&format!("wrote {model}: ")), "{report:?}");
    assert!(ended.errors.ends_with("training iris 100/100 steps\n"), "{}", ended.errors);

    let ended = run(&["train", "-f", "-", "-o", &model, "--output", "json"], IRIS)?;
    let told: Value = serde_json::from_str(&ended.output)?;
    assert_eq!(
        (&told["model"], &told["version"], &told["samples"]),
        (&json!("iris"), &json!("1.0"), &json!(120))
    );
    assert_eq!(told["quality"]["metric"], "Accuracy");
    assert_eq!(told["bytes"], std::fs::metadata(&model)?.len());
    assert_eq!(report[7], format!("SHA-256 {}", told["digest"].as_str().unwrap_or_default()));
    Ok(())
}

#[test]
fn linfa_trains_a_different_model_of_similar_quality() -> Result<()> {
    let folder = Folder::new()?;
    let native = std::fs::read(trained(&folder, &[])?)?;
    let linfa = trained(&folder, &["--trainer", "linfa"])?;
    assert_ne!(std::fs::read(&linfa)?, native);
    let table = IRIS.split_once("iris.csv: |\n").map(|(_, table)| table).unwrap_or_default();
    let answers = lines(&run(&["predict", "--model", &linfa, "--input", "-"], table)?.output)?;
    let names = ["setosa", "versicolor", "virginica"];
    let right = answers.iter().zip(flowers()).filter(|(answer, flower)| {
        let index = names.iter().position(|name| *name == flower[4]);
        answer["prediction"] == json!(index)
    });
    assert!(right.count() >= 135, "{answers:?}");
    Ok(())
}

#[test]
fn a_refused_model_is_not_written() -> Result<()> {
    let folder = Folder::new()?;
    let model = folder.argument("iris.canopy");
    let ended = run(&["train", "-f", "-", "-o", &model], &IRIS.replace("min: \"0.9\"", "min: 1"))?;
    assert_eq!((ended.code, ended.output.as_str()), (Some(3), ""));
    let expected = "error: model iris is refused: gate_missed: accuracy 0.9667 on 30 held-out rows is below the minimum 1\n";
    assert!(ended.errors.ends_with(expected), "{}", ended.errors);
    assert!(!folder.path("iris.canopy").exists(), "a model was written");
    Ok(())
}

#[test]
fn one_file_of_a_model_needs_one_model() -> Result<()> {
    let folder = Folder::new()?;
    let ended = run(&["train", "-f", "-", "-o", &folder.argument("x")], &format!("{IRIS}---\n{DEMO}"))?;
    assert_eq!(ended.errors, "error: - has several models (iris, demo): train them from a file each\n");
    assert_eq!(ended.code, Some(1));
    Ok(())
}

#[test]
fn an_invalid_table_is_reported_and_nothing_is_printed() -> Result<()> {
    let folder = Folder::new()?;
    let model = trained(&folder, &[])?;
    let header = "sepal_length,sepal_width,petal_length,petal_width\n";
    let check = |table: &str, expected: &str| -> Result<()> {
        let ended = run(&["predict", "--model", &model, "--input", "-"], table)?;
        let expected = format!("error: failed to read -: {expected}\n");
        assert_eq!((ended.errors, ended.output, ended.code), (expected, String::new(), Some(1)), "{table:?}");
        Ok(())
    };
    check("", "data has no header: its first line must name the columns")?;
    check(
        "5.1,3.5,1.4,0.2\n",
        "column \"sepal_length\" is not in the header, which has \"5.1\", \"3.5\", \"1.4\", \"0.2\"",
    )?;
    check(
        &header.replace(',', ";"),
        "column \"sepal_length\" is not in the header, which has \
         \"sepal_length;sepal_width;petal_length;petal_width\": its cells are separated by ';', so separate them by \
         commas instead",
    )?;
    check(
        &format!("note,{header}\"13in,5.1,3.5,1.4,0.2\n13in,5.1,3.5,1.4,0.2\n"),
        "line 2 column 1: a quote opens a cell that does not end on this line: one row is one line, so close the \
         quote, or write a quote inside a quoted cell twice",
    )?;
    check(
        &format!("{header}5.1,3.5,1.4,0.2\n5.1,3.5,1.4\n"),
        "row 2 (line 3) has 3 cells, but the header has 4",
    )?;
    check(
        &format!("{header}5.1,3.5,1.4,wide\n"),
        "row 1 (line 2), column \"petal_width\": must be a finite number, but is \"wide\"",
    )?;
    check(
        &format!("{header}5.1,3.5,1.4,21\n"),
        "row 1 (line 2), column \"petal_width\": must be between 0 and 20, but is 21",
    )
}

#[test]
fn a_table_without_rows_is_an_error() -> Result<()> {
    let folder = Folder::new()?;
    let model = trained(&folder, &[])?;
    let table = "sepal_length,sepal_width,petal_length,petal_width\n";
    let ended = run(&["predict", "--model", &model, "--input", "-"], table)?;
    let expected = "error: failed to read -: data has a header but no rows below it\n";
    assert_eq!((ended.output.as_str(), ended.errors.as_str(), ended.code), ("", expected, Some(1)));
    Ok(())
}

#[test]
fn a_file_that_is_not_a_model_is_an_error() -> Result<()> {
    let folder = Folder::new()?;
    let text = folder.write("text.canopy", "not a model\n")?;
    let ended = run(&["predict", "--model", &text, "--input", "-"], "")?;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .errors
            .starts_with(&format!("error: failed to load {text}: unknown file: the format is not known")),
        "{ended:?}"
    );

    let model = trained(&folder, &[])?;
    let mut bytes = std::fs::read(&model)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&model, bytes)?;
    let ended = run(&["predict", "--model", &model, "--input", "-"], "")?;
    assert!(ended.errors.contains("does not match its own checksum"), "{ended:?}");
    Ok(())
}

#[test]
fn a_closed_pipe_is_not_an_error() -> Result<()> {
    let folder = Folder::new()?;
    let (model, input) = (trained(&folder, &[])?, folder.argument("flowers.csv"));
    let table = IRIS.split_once("iris.csv: |\n").map(|(_, table)| table).unwrap_or_default();
    std::fs::write(&input, table)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_canopy"));
    command.args(["predict", "--model", &model, "--input", &input]).stdin(Stdio::null());
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let ended = command.stdout(writer).stderr(Stdio::piped()).output()?;
    assert_eq!((ended.status.code(), String::from_utf8(ended.stderr)?), (Some(0), String::new()));
    Ok(())
}

#[test]
fn a_model_of_another_library_is_described() -> Result<()> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/boosted");
    let ended = run(&["inspect", &format!("{golden}/lightgbm_pandas.txt")], "")?;
    let expected = "\
format: LightGBM text
size: 8282 bytes
inputs: 5: a, city (category: 4: Bern, New York, Oslo, Łódź), b, c, size (category: 3: 0, 10, 20)
model: 6 trees, 78 nodes
link: logistic
classes: 2: 0, 1
";
    assert_eq!((ended.code, ended.output.as_str()), (Some(0), expected));
    let ended = run(&["inspect", &format!("{golden}/xgboost_quantile.ubj")], "")?;
    assert!(ended.output.starts_with("format: XGBoost UBJ\nsize: "), "{ended:?}");
    assert!(ended.output.ends_with("values: 2: prediction_0, prediction_1\n"), "{ended:?}");
    Ok(())
}

#[test]
fn a_pipeline_is_described_with_its_steps_for_people_and_as_json() -> Result<()> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models");
    let ended = run(&["inspect", &format!("{golden}/skops/columns_normalizer.skops")], "")?;
    let expected = "\
inputs: 6: age, city (category: 4: Bern, New York, Oslo, Łódź), income, visits, size, paid (category: 2: no, yes)
step: 9 columns: one-hot, scale
step: normalize by L2
step: 9 columns: scale
model: 4 trees, ";
    assert!(ended.code == Some(0) && ended.output.contains(expected), "{ended:?}");
    let ended = run(&["inspect", "--output", "json", &format!("{golden}/mlflow/sklearn_texts")], "")?;
    let found: Value = serde_json::from_str(&ended.output)?;
    assert_eq!(found["format"], "MLflow with skops");
    assert_eq!(found["inputs"][3], serde_json::json!({"name": "city", "categories": ["Bern", "Oslo"]}));
    assert_eq!(found["steps"], serde_json::json!(["5 columns: one-hot"]));
    assert_eq!(
        (&found["model"], &found["link"], &found["classes"]),
        (&"linear, 1 scores".into(), &"logistic".into(), &serde_json::json!(["0", "1"]))
    );
    Ok(())
}

#[test]
fn a_network_is_described_with_its_tensors_and_operators() -> Result<()> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/neural");
    let ended = run(&["inspect", &format!("{golden}/torch_embed_two_inputs_dynamo.onnx")], "")?;
    let expected = "\
format: ONNX
size: 3412 bytes
inputs: 2: num [5], cat [2] (integer)
model: neural network, 13 operators, 307 parameters
operators: Add 1, Concat 1, Gather 4, Gemm 2, Mul 2, Sigmoid 2, Squeeze 1
outputs: 1: score
values: 1: score
";
    assert_eq!((ended.code, ended.output.as_str()), (Some(0), expected));
    let ended = run(&["inspect", "--output", "json", &format!("{golden}/skl_mlp_classifier.onnx")], "")?;
    let found: Value = serde_json::from_str(&ended.output)?;
    assert_eq!(found["inputs"], serde_json::json!([{"name": "X", "shape": [6]}]));
    assert_eq!(found["outputs"], serde_json::json!([{"name": "probabilities", "shape": [3]}]));
    assert_eq!(
        found["operators"],
        serde_json::json!({"Add": 3, "Cast": 1, "Identity": 1, "MatMul": 3, "Relu": 2, "Softmax": 1})
    );
    assert_eq!(found["classes"], serde_json::json!(["0", "1", "2"]));
    Ok(())
}

#[test]
fn a_network_with_unknown_operators_is_refused_with_their_names() -> Result<()> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/neural");
    let mut bytes = std::fs::read(format!("{golden}/torch_mlp_softmax_dynamo.onnx"))?;
    for (known, unknown) in [(&b"Relu"[..], &b"Glow"[..]), (b"Softmax", b"Softest")] {
        while let Some(at) = bytes.windows(known.len()).position(|window| window == known) {
            bytes[at..at + known.len()].copy_from_slice(unknown);
        }
    }
    let folder = Folder::new()?;
    let file = folder.argument("model.onnx");
    std::fs::write(&file, bytes)?;
    let ended = run(&["inspect", &file], "")?;
    let expected = format!(
        "error: model {file} is refused: operator Glow (ai.onnx 20), Softest (ai.onnx 20) is not supported: export the \
         model with other operators, without loops and conditions\n"
    );
    assert_eq!((ended.code, ended.errors.as_str()), (Some(3), expected.as_str()));
    Ok(())
}

#[test]
fn a_folder_without_a_model_is_refused_with_what_to_do() -> Result<()> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models");
    let folder = format!("{golden}/mlflow");
    let ended = run(&["inspect", &folder], "")?;
    let expected = format!(
        "error: model {folder} is refused: a folder must be one of MLflow, with the file MLmodel: give the model file\n"
    );
    assert_eq!((ended.code, ended.errors.as_str()), (Some(3), expected.as_str()));
    let ended = run(&["inspect", &format!("{folder}/sklearn_REFUSE_pickle")], "")?;
    assert!(ended.code == Some(3) && ended.errors.contains("serialization_format=\"skops\""), "{ended:?}");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_the_reason() -> Result<()> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/library");
    let file = format!("{golden}/xgb_gblinear_REFUSE.json");
    let ended = run(&["inspect", &file], "")?;
    let expected = format!(
        "error: model {file} is refused: XGBoost JSON file, gradient_booster: booster `gblinear` is not supported: \
         train with booster gbtree or dart\n"
    );
    assert_eq!((ended.code, ended.errors.as_str()), (Some(3), expected.as_str()));
    Ok(())
}

#[test]
fn a_model_of_canopy_is_described() -> Result<()> {
    let folder = Folder::new()?;
    let model = trained(&folder, &[])?;
    let ended = run(&["inspect", &model], "")?;
    let words =
        ["format: Canopy\nname: iris\n", "inputs: 4: sepal_length, ", " trees, ", "classes: 3: setosa, "];
    assert!(ended.code == Some(0) && words.iter().all(|word| ended.output.contains(word)), "{ended:?}");
    Ok(())
}

#[test]
fn rows_of_a_table_are_predicted_with_a_file_of_another_library() -> Result<()> {
    let folder = Folder::new()?;
    let model = format!("{}/../tests/golden/models/boosted/lightgbm_pandas.txt", env!("CARGO_MANIFEST_DIR"));
    let table = folder.write("rows.csv", "id,a,city,b,c,size\n1,0.5,,1.5,,\n2,-0.5,,0.1,0.2,\n")?;
    let ended = run(&["predict", "--model", &model, "--input", &table, "--proba"], "")?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = lines(&ended.output)?;
    assert_eq!(lines.len(), 2, "{ended:?}");
    for line in lines {
        let sum: f64 = line["probabilities"].as_array().into_iter().flatten().filter_map(Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-9 && line["prediction"].as_u64() < Some(2), "{line}");
    }
    // The categories of `size` are 0, 10 and 20. A number here is a name, so 1 is refused and is not taken as an index.
    let wrong = folder.write("size.csv", "a,city,b,c,size\n0.5,Oslo,1,1,1\n")?;
    let ended = run(&["predict", "--model", &model, "--input", &wrong], "")?;
    assert_eq!((ended.code, &ended.output[..]), (Some(1), ""), "{ended:?}");
    assert!(ended.errors.contains(r#"column "size": must be one of "0", "10", "20", but is 1"#), "{ended:?}");
    let wrong = folder.write("wrong.csv", "a,city,b,c,size\n0.5,nowhere,1,1,\n")?;
    let ended = run(&["predict", "--model", &model, "--input", &wrong], "")?;
    assert_eq!((ended.code, &ended.output[..]), (Some(1), ""), "{ended:?}");
    assert!(
        ended.errors.contains("row 1 (line 2), column \"city\": \"nowhere\" is not one of the categories"),
        "{ended:?}"
    );
    Ok(())
}

#[test]
fn a_regression_is_predicted_with_its_value_and_has_no_probabilities() -> Result<()> {
    let model = golden("library/xgb_regression.ubj");
    let table = "x0,x1,x2,x3,x4,x5\n0.5,-1,2,0.25,,1\n";
    let ended = run(&["predict", "--model", &model, "--input", "-", "--proba"], table)?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = lines(&ended.output)?.swap_remove(0);
    let members: Vec<_> = line.as_object().context("an object")?.keys().map(String::as_str).collect();
    assert_eq!(members, ["prediction", "row"], "{line}");
    assert!(line["prediction"].is_f64(), "{line}");
    Ok(())
}

#[test]
fn rows_are_predicted_by_a_network_with_declared_classes() -> Result<()> {
    let table = (0..8).map(|index| format!("x{index}")).collect::<Vec<_>>().join(",") + "\n0,0,0,0,0,0,0,0\n";
    let model = golden("neural/torch_mlp_bn_logits_legacy.onnx");
    let flags = ["--classes", "low,mid,high", "--format", "onnx", "--proba"];
    let ended = run(&[&["predict", "--model", &model, "--input", "-"], &flags[..]].concat(), &table)?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = lines(&ended.output)?.swap_remove(0);
    let label = line["label"].as_str();
    assert!(["low", "mid", "high"].iter().any(|name| label == Some(name)), "{line}");
    assert_eq!(line["probabilities"].as_array().map(Vec::len), Some(3), "{line}");
    Ok(())
}

#[test]
fn a_row_whose_answer_is_not_finite_is_an_error() -> Result<()> {
    let model = format!("{}/../tests/golden/models/skops/poisson.skops", env!("CARGO_MANIFEST_DIR"));
    let table = "x0,x1,x2,x3,x4\n1,1,1,1,1\n1e6,1e6,-1e6,1e6,1e6\n";
    let ended = run(&["predict", "--model", &model, "--input", "-"], table)?;
    assert_eq!((ended.code, &ended.output[..]), (Some(1), ""), "{ended:?}");
    assert!(ended.errors.contains("row 2 gets no finite number from the model"), "{ended:?}");
    Ok(())
}
