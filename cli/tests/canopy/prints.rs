//! What `canopy` prints for other programs, and its help.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::program::run;

#[test]
fn canopy_crd_prints_the_crd_in_deploy() -> Result<()> {
    let ended = run(&["crd"], "")?;
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert!(ended.output == include_str!("../../../deploy/crd.yaml"), "run: cargo xtask generate");
    Ok(())
}

#[test]
fn each_api_is_described() -> Result<()> {
    for (part, path) in [("gateway", "/api/models/{model}/predict"), ("predictor", "/predict")] {
        let ended = run(&["openapi", part], "")?;
        let api: Value = serde_json::from_str(&ended.output)?;
        assert!(api["paths"][path]["post"].is_object(), "{part} has no {path}");
        assert_eq!((ended.code, ended.output.ends_with("}\n")), (Some(0), true));
    }
    Ok(())
}

#[test]
fn help_says_how_a_command_is_used_and_how_it_ends() -> Result<()> {
    for (command, words) in [
        (
            "up",
            &["canopy up -f ", "--gateway", "CANOPY_GATEWAY", "127.0.0.1:8000", "\n  3  a model was refused"]
                [..],
        ),
        ("train", &["canopy train -f ", "native", "linfa", "\n  3  a model was refused"]),
        ("predict", &["canopy predict --model ", "header"]),
        ("inspect", &["canopy inspect ", "XGBoost"]),
        ("serve", &["canopy serve model.onnx", "--name", "--classes", "LightGBM, XGBoost, Skops"]),
        ("crd", &["kubectl apply"]),
        ("openapi", &["canopy openapi gateway"]),
    ] {
        let ended = run(&[command, "--help"], "")?;
        for word in words {
            assert!(ended.output.contains(word), "{command} --help has no {word:?}:\n{}", ended.output);
        }
    }
    Ok(())
}

#[test]
fn the_files_in_the_commands_of_the_documentation_are_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for text in [include_str!("../../../README.md"), include_str!("../../../docs/models.md")] {
        let is_file = |word: &&str| word.starts_with("tests/golden/") || word.starts_with("deploy/samples/");
        let lines = text.lines().filter(|line| line.starts_with("    "));
        let files: Vec<_> = lines.flat_map(str::split_whitespace).filter(is_file).collect();
        let missing: Vec<_> = files.iter().filter(|file| !root.join(file).exists()).collect();
        assert!(!files.is_empty() && missing.is_empty(), "{missing:?} of {files:?}");
    }
}

#[test]
fn a_wrong_command_line_has_its_own_exit_code() -> Result<()> {
    for arguments in [&["up", "--gateway", "here"][..], &["train"], &["openapi", "operator"], &[]] {
        assert_eq!(run(arguments, "")?.code, Some(2), "{arguments:?}");
    }
    Ok(())
}
