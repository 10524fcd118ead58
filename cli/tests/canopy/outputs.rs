//! Where `canopy train` writes a model: a file, what a link leads to, a pipe, a device, standard output.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use canopy_predictor::artifact::Artifact;

use crate::program::{DEMO, Folder, IRIS, run};

fn train(folder: &Folder, out: &str) -> Result<crate::program::Ended> {
    run(&["train", "-f", &folder.write("iris.yaml", IRIS)?, "-o", out], "")
}

#[test]
fn a_path_that_cannot_be_written_is_refused_before_training() -> Result<()> {
    let folder = Folder::new()?;
    for (name, why) in [("no/such/folder/x", "No such file or directory"), (".", "is a directory")] {
        let out = folder.argument(name);
        let ended = train(&folder, &out)?;
        assert_eq!((ended.code, ended.output.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.errors.starts_with(&format!("error: failed to write {out}: {why}")), "{ended:?}");
        assert!(!ended.errors.contains("training"), "{ended:?}");
    }
    Ok(())
}

#[test]
fn a_link_is_kept_and_its_target_is_written() -> Result<()> {
    let folder = Folder::new()?;
    symlink(folder.path("model"), folder.path("link"))?;
    let ended = train(&folder, &folder.argument("link"))?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(fs::symlink_metadata(folder.path("link"))?.is_symlink());
    Artifact::read(&folder.path("model"))?;
    Ok(())
}

#[test]
fn the_manifest_is_not_replaced_by_the_model() -> Result<()> {
    let folder = Folder::new()?;
    let manifest = folder.write("iris.yaml", IRIS)?;
    symlink(&manifest, folder.path("link"))?;
    for out in [manifest.clone(), folder.argument("link")] {
        let ended = run(&["train", "-f", &manifest, "-o", &out], "")?;
        let expected = format!("error: -o {out} is the manifest itself: choose another file for the model\n");
        assert_eq!((ended.code, ended.errors), (Some(1), expected));
        assert_eq!(fs::read_to_string(&manifest)?, IRIS);
    }
    Ok(())
}

#[test]
fn a_full_standard_output_is_named() -> Result<()> {
    let folder = Folder::new()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_canopy"));
    let out = folder.argument("model");
    command.args(["train", "-f", &folder.write("iris.yaml", IRIS)?, "-o", &out]).env_clear();
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let ended = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output()?;
    let errors = String::from_utf8(ended.stderr)?;
    let expected = format!(
        "error: wrote {out}, but not the report: failed to write to standard output: No space left on device (os error 28)\n"
    );
    assert!(errors.ends_with(&expected), "{errors}");
    assert_eq!(ended.status.code(), Some(1));
    Artifact::read(&folder.path("model"))?;
    Ok(())
}

#[test]
fn a_device_is_written_to_and_not_replaced() -> Result<()> {
    let folder = Folder::new()?;
    assert_eq!(train(&folder, "/dev/null")?.code, Some(0));
    assert!(fs::metadata("/dev/null")?.file_type().is_char_device());
    Ok(())
}

#[test]
fn a_model_is_written_to_a_pipe() -> Result<()> {
    let folder = Folder::new()?;
    let pipe = folder.argument("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let path = folder.path("pipe");
    let reader = std::thread::spawn(move || fs::read(path));
    assert_eq!(train(&folder, &pipe)?.code, Some(0));
    let bytes = reader.join().ok().context("the reader ends")??;
    Artifact::decode(&bytes)?;
    assert!(fs::metadata(&pipe)?.file_type().is_fifo());
    Ok(())
}

#[test]
fn a_dash_is_standard_output_and_the_report_goes_to_standard_error() -> Result<()> {
    let folder = Folder::new()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_canopy"));
    command.args(["train", "-f", &folder.write("iris.yaml", IRIS)?, "-o", "-"]).env_clear();
    let ended = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    let errors = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(0), "{errors}");
    Artifact::decode(&ended.stdout)?;
    assert!(errors.contains("\nwrote standard output: "), "{errors}");
    Ok(())
}

/// A manifest whose table is this one, with the target `y`.
pub(crate) fn manifest(table: &str, more: &str) -> String {
    let table = table.lines().map(|line| format!("    {line}\n")).collect::<Vec<_>>().concat();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: t}}\ndata:\n  t.csv: |\n{table}---\napiVersion: \
         canopy.rs/v1alpha1\nkind: PredictorModel\nmetadata: {{name: t}}\nspec:\n  version: a\n  train:\n    data: {{csv: \
         {{source: {{configMap: {{name: t, key: t.csv}}}}, target: \"y\"}}}}\n    algorithm: {{randomForest: {{trees: 5}}}}\n{more}"
    )
}

#[test]
fn warnings_about_a_table_are_reported_with_the_model() -> Result<()> {
    let folder = Folder::new()?;
    let rows = (0..200)
        .map(|row| format!("{},{},{}\n", row + 1, row % 2, ["b", "a"][row % 2]))
        .collect::<Vec<_>>()
        .concat();
    let text = manifest(&format!("Unnamed: 0,x,y\n{rows}"), "");
    let ended = run(&["train", "-f", "-", "-o", &folder.argument("t"), "--output", "json"], &text)?;
    let warning = "warning: t: column \"Unnamed: 0\" has a different whole number in each of 200 rows, so it looks like \
                   an id: its values do not carry over to new rows; remove it from the data\n";
    assert!(ended.errors.contains(warning), "{}", ended.errors);
    let told: serde_json::Value = serde_json::from_str(&ended.output)?;
    assert_eq!(told["warnings"][0]["kind"], "LooksLikeAnId");
    Ok(())
}

#[test]
fn a_class_name_of_any_length_does_not_panic() -> Result<()> {
    let folder = Folder::new()?;
    let text = manifest(&format!("x,y\n1,a\n2,{}\n", "b".repeat(65_536)), "");
    let ended = run(&["train", "-f", "-", "-o", &folder.argument("t")], &text)?;
    let why = "row 2 (line 3) column \"y\" has a class name of 65536 characters, but at most 128 are allowed";
    assert_eq!(ended.errors, format!("error: model t is refused: data_invalid: {why}\n"));
    assert_eq!(ended.code, Some(3));
    assert!(!folder.path("t").exists());
    Ok(())
}

#[test]
fn an_invalid_namespace_is_refused_before_training() -> Result<()> {
    let folder = Folder::new()?;
    let text = DEMO.replace("  name: demo\n", "  name: demo\n  namespace: Bad_NS\n");
    let file = folder.write("demo.yaml", &text)?;
    let train = run(&["train", "-f", &file, "-o", &folder.argument("x")], "")?;
    let up = run(&["up", "-f", &file, "--data", &folder.argument("data")], "")?;
    for ended in [train, up] {
        assert!(
            ended.errors.contains("line 8: PredictorModel demo: metadata.namespace: must have"),
            "{ended:?}"
        );
        assert_eq!(ended.code, Some(1), "{ended:?}");
    }
    Ok(())
}
