//! Model files that are given on the command line: the plan with which the predictor imports one.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use canopy_contract::names::{DEFAULT_NAMESPACE, MODEL_NAME_MAX, ModelName, REVISION_DIGITS};
use canopy_contract::serving::{Import, ServingConfig, Source};
use canopy_forest::read::error::Limits;
use canopy_forest::read::mlflow::{MANIFEST, MANIFEST_MAX, Manifest};
use canopy_predictor::{artifact, files};
use canopy_resource::resolve::ResolvedModel;

use crate::arguments::{Declared, Names};
use crate::errors::Refused;

/// The version of a model that a file gives none.
const VERSION: &str = "1.0";
/// The name of a model whose file has no usable name.
const UNNAMED: &str = "model";
const CLASSES_MIN: usize = 2;
/// The longest name of a class, in characters.
const CLASS_MAX: usize = 128;

/// The files of an `MLflow` folder that are read.
pub(crate) struct MlflowFolder {
    /// The bytes of the manifest.
    pub(crate) content: Vec<u8>,
    /// The manifest.
    pub(crate) manifest: Manifest,
    /// The model file.
    pub(crate) bytes: Vec<u8>,
}

impl MlflowFolder {
    /// Reads a folder. Another folder is refused with what to do.
    pub(crate) fn read(folder: &Path, limits: &Limits) -> Result<Self> {
        let refused = |reason: &dyn Display| Refused::one(&folder.display().to_string(), reason);
        if !folder.join(MANIFEST).exists() {
            let reason = if folder.join("saved_model.pb").exists() {
                "a TensorFlow SavedModel is not supported: convert it with python -m tf2onnx.convert --saved-model FOLDER \
                 --output model.onnx"
            } else {
                "a folder must be one of MLflow, with the file MLmodel: give the model file"
            };
            return Err(refused(&reason).into());
        }
        let content = files::read(&folder.join(MANIFEST), MANIFEST_MAX as u64)?;
        let manifest = Manifest::parse(&content).map_err(|error| refused(&error))?;
        let bytes = files::read(&folder.join(manifest.file()), limits.bytes as u64)?;
        Ok(Self { content, manifest, bytes })
    }
}

/// The plan for a model file, or for the folder of an `MLflow` model.
pub(crate) fn plan(file: &Path, name: Option<&ModelName>, declared: &Declared) -> Result<ResolvedModel> {
    let path = std::path::absolute(file).with_context(|| format!("failed to find {}", file.display()))?;
    let limits = Limits::default();
    let bytes = if path.is_dir() {
        let MlflowFolder { content, manifest: _, bytes } = MlflowFolder::read(file, &limits)?;
        [content, bytes].concat()
    } else {
        files::read(&path, limits.bytes as u64)?
    };
    check_classes(&declared.classes)?;
    // The same file with other classes gives other answers.
    let classes =
        if declared.classes.is_empty() { Vec::new() } else { serde_json::to_vec(&declared.classes)? };
    let meaning = artifact::digest(&[bytes, classes].concat());
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let config = ServingConfig {
        model: name.cloned().map_or_else(|| name_of(&stem), Ok)?,
        namespace: DEFAULT_NAMESPACE.to_owned(),
        version: VERSION.to_owned(),
        revision: meaning.chars().take(REVISION_DIGITS).collect(),
        train: None,
        artifact: Some(Import { source: Source::Path(path), format: declared.format.map(Into::into) }),
        examples: Vec::new(),
        evaluate: None,
        features: Vec::new(),
        classes: declared.classes.clone(),
    };
    Ok(ResolvedModel { config, legacy: meaning.clone(), meaning, files: Vec::new() })
}

/// The plans for several files, whose models must have different names.
pub(crate) fn plans(
    files: &[PathBuf],
    Names { names }: &Names,
    declared: &Declared,
) -> Result<Vec<ResolvedModel>> {
    ensure!(
        names.is_empty() || names.len() == files.len(),
        "--name must be given once for each model file, got {} for {} files",
        names.len(),
        files.len()
    );
    ensure!(
        declared.classes.is_empty() || files.len() == 1,
        "--classes must be given with exactly one model file, got {}: serve the other files with a command of their own",
        files.len()
    );
    ensure!(declared.format.is_none() || !files.is_empty(), "--format must be given with a model file");
    let mut plans: Vec<ResolvedModel> = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let plan = plan(file, names.get(index), declared)?;
        if let Some(twin) = plans.iter().position(|other| other.config.model == plan.config.model) {
            bail!(
                "two models are called {}, of {} and {}: give each model a unique name with --name, in the order of the \
                 files",
                plan.config.model,
                files[twin].display(),
                file.display()
            );
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// Checks names of classes as the API server does.
fn check_classes(classes: &[String]) -> Result<()> {
    let count = classes.len();
    ensure!(
        count == 0 || count >= CLASSES_MIN,
        "--classes must have at least {CLASSES_MIN} names, got {count}"
    );
    for (index, class) in classes.iter().enumerate() {
        let length = class.chars().count();
        ensure!(
            (1..=CLASS_MAX).contains(&length),
            "--classes must have names of 1 to {CLASS_MAX} characters, but name {} has {length}",
            index + 1
        );
        ensure!(!classes[..index].contains(class), "--classes must have unique names, got {class:?} twice");
    }
    Ok(())
}

/// The name of a model by that of its file: lower-case letters, digits and hyphens, beginning with a letter.
fn name_of(stem: &str) -> Result<ModelName> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = stem.chars().map(allowed).collect();
    let text = text.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let text = text[..text.len().min(MODEL_NAME_MAX)].trim_end_matches('-');
    // Some names are not allowed, such as those that end like the name of a Service.
    match text.parse() {
        Ok(name) => Ok(name),
        Err(_) => UNNAMED.parse().with_context(|| format!("{UNNAMED} is not a name of a model")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_are_checked() {
        let check = |classes: &[&str]| {
            let classes: Vec<_> = classes.iter().map(|class| (*class).to_owned()).collect();
            check_classes(&classes).map_err(|error| error.to_string())
        };
        assert_eq!((check(&[]), check(&["no", "yes"])), (Ok(()), Ok(())));
        for (classes, expected) in [
            (&["no"][..], "--classes must have at least 2 names, got 1"),
            (&["a", "b", "a"], "--classes must have unique names, got \"a\" twice"),
            (&["a", ""], "--classes must have names of 1 to 128 characters, but name 2 has 0"),
        ] {
            assert_eq!(check(classes), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_model_is_named_after_its_file() {
        for (stem, expected) in [
            ("iris", "iris"),
            ("My Model_v2", "my-model-v2"),
            ("2024-prices", "prices"),
            ("--", "model"),
            ("", "model"),
            ("größe", "gr--e"),
            ("predictors", "model"),
        ] {
            assert_eq!(name_of(stem).unwrap().as_str(), expected, "{stem:?}");
        }
        assert_eq!(name_of(&"a".repeat(100)).unwrap().as_str(), "a".repeat(MODEL_NAME_MAX));
    }
}
