//! `canopy train`: trains the model of a manifest and writes it to a file.
//!
//! An output that cannot be written is reported before training. A refused model is not written.

use std::path::Path;
use std::slice;

use anyhow::{Context as _, Result, anyhow, bail};
use canopy_contract::report::Prepared;
use canopy_predictor::files::Destination;
use canopy_predictor::training::prepare::Preparation;
use canopy_resource::model::PredictorModel;
use canopy_resource::resolve::ResolvedModel;
use serde::Serialize;

use crate::arguments::{Output, TrainArguments};
use crate::{console, manifests, training};

/// Trains the one model of a manifest and writes it.
pub(crate) fn train(arguments: &TrainArguments) -> Result<()> {
    let TrainArguments { file, out, trainer, output } = arguments;
    let manifests = manifests::load(slice::from_ref(file))?;
    let model = only(&manifests.models, file)?;
    let is_output = out.as_os_str() == "-";
    let destination = if is_output { None } else { Some(Destination::new(out)?) };
    if destination.as_ref().is_some_and(|destination| destination.is(file)) {
        bail!("-o {} is the manifest itself: choose another file for the model", out.display());
    }
    // The data are in the manifest; this copy lasts as long as the training.
    let folder = tempfile::tempdir().context("failed to make a folder for the data")?;
    let plan = training::plan(model, &manifests.config_maps, folder.path())?;
    let preparation = training::train(&plan, *trainer)?;
    let report = match output {
        Output::Text => for_people(&preparation, out),
        Output::Json => for_programs(&plan, &preparation)?,
    };
    if let Some(destination) = destination {
        destination.write(&preparation.artifact)?;
        return console::print(&report)
            .with_context(|| format!("wrote {}, but not the report", out.display()));
    }
    // A partial model is useless, so a closed pipe is an error here.
    console::print_bytes(&preparation.artifact).map_err(|error| anyhow!("the model: {error:#}"))?;
    console::say(report.trim_end());
    Ok(())
}

fn only<'a>(models: &'a [PredictorModel], file: &Path) -> Result<&'a PredictorModel> {
    match models {
        [model] => Ok(model),
        several => {
            let names: Vec<_> = several.iter().filter_map(|model| model.metadata.name.as_deref()).collect();
            bail!("{} has several models ({}): train them from a file each", file.display(), names.join(", "))
        }
    }
}

fn for_people(preparation: &Preparation, out: &Path) -> String {
    let Preparation { report, evaluation, .. } = preparation;
    let Prepared { digest, bytes, quality: _, samples, seconds, warnings: _ } = report;
    let file = if out.as_os_str() == "-" { "standard output".to_owned() } else { out.display().to_string() };
    let evaluation = evaluation.as_ref().map(|evaluation| format!("{evaluation}\n\n")).unwrap_or_default();
    let made = if *samples == 0 { "imported".to_owned() } else { format!("trained on {samples} rows") };
    format!("{evaluation}wrote {file}: {bytes} bytes, {made} in {seconds:.2} s\nSHA-256 {digest}\n")
}

#[derive(Serialize)]
struct Trained<'a> {
    model: &'a str,
    namespace: &'a str,
    version: &'a str,
    revision: &'a str,
    #[serde(flatten)]
    report: &'a Prepared,
}

fn for_programs(plan: &ResolvedModel, preparation: &Preparation) -> Result<String> {
    let config = &plan.config;
    let trained = Trained {
        model: config.model.as_str(),
        namespace: &config.namespace,
        version: &config.version,
        revision: &config.revision,
        report: &preparation.report,
    };
    Ok(serde_json::to_string(&trained)? + "\n")
}
