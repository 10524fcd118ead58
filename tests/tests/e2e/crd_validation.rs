//! The CRD on a real API server: it refuses manifests with one fault each before the operator sees them.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::kubectl;
use canopy_tests::namespace::in_namespace;

use crate::canopy::shared;

/// One file per fault; its first line has the expected words of the refusal.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/refusals");
const FIRST_LINE: &str = "# refused: ";
/// The least number of manifests, so that an empty folder does not pass.
const AT_LEAST: usize = 12;

#[tokio::test]
async fn the_api_server_refuses_wrong_manifests_with_the_expected_messages() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-wrong", async |namespace| {
        let mut files: Vec<_> = std::fs::read_dir(MANIFESTS)?.collect::<Result<_, _>>()?;
        files.sort_by_key(std::fs::DirEntry::path);
        ensure!(files.len() >= AT_LEAST, "expected {AT_LEAST} wrong manifests or more, got {}", files.len());
        for file in files {
            let text = std::fs::read_to_string(file.path())?;
            let name = file.file_name().display().to_string();
            let first = text.lines().next().and_then(|line| line.strip_prefix(FIRST_LINE));
            let words = first.with_context(|| format!("{name} does not begin with {FIRST_LINE}"))?;
            let refusal = match namespace.apply(&text) {
                Ok(said) => anyhow::bail!("{name} was not refused: {said}"),
                Err(refusal) => format!("{refusal:#}"),
            };
            ensure!(refusal.contains(words), "expected {words:?} in the refusal of {name}, got {refusal}");
        }
        let made = namespace.kubectl(&["get", "predictormodels", "--output", "name"])?;
        ensure!(made.is_empty(), "{made}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_explains_every_field() -> Result<()> {
    let _lock = shared().await?;
    let all = kubectl(&["explain", "predictormodel", "--recursive"])?;
    ensure!(all.contains("retireSeconds") && all.contains("minSamplesLeaf"), "{all}");
    for path in [
        "",
        ".spec",
        ".spec.train",
        ".spec.artifact",
        ".spec.examples",
        ".spec.examples.expected",
        ".spec.evaluate",
        ".spec.evaluate.gate",
        ".spec.train.data",
        ".spec.train.data.csv",
        ".spec.train.data.csv.source",
        ".spec.train.algorithm.randomForest",
        ".spec.features",
        ".spec.resources",
        ".spec.scheduling",
        ".status",
    ] {
        let text = kubectl(&["explain", &format!("predictormodel{path}")])?;
        ensure!(!text.contains("<no description>"), "kubectl explain predictormodel{path}:\n{text}");
    }
    let definition = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crd.yaml"));
    ensure!(definition.metadata()?.len() < 100_000, "the definition is too large for a plain kubectl apply");
    Ok(())
}
