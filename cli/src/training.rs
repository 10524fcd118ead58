//! Resolves and trains one model, with its progress and warnings on standard error.

use std::path::Path;

use anyhow::{Context as _, Result};
use canopy_contract::report::Refusal;
use canopy_contract::serving::Source;
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::files;
use canopy_predictor::sources::download;
use canopy_predictor::training::prepare::{Preparation, PrepareError, prepare};
use canopy_resource::manifest::ConfigMaps;
use canopy_resource::model::PredictorModel;
use canopy_resource::resolve::ResolvedModel;

use crate::console::{Progress, say};
use crate::errors::{Refused, called};

/// The plan for `model`, with its data in `folder`.
pub(crate) fn plan(
    model: &PredictorModel,
    data: &ConfigMaps,
    folder: &Path,
) -> Result<ResolvedModel, Refused> {
    ResolvedModel::new(model, data, folder).map_err(|refusal| {
        let name = model.metadata.name.as_deref().unwrap_or_default();
        Refused::one(name, &refusal)
    })
}

/// Writes the data of `plan` to its folder or downloads them, and trains. It blocks, and uses every CPU.
pub(crate) fn train(plan: &ResolvedModel, trainer: Trainer) -> Result<Preparation> {
    for file in &plan.files {
        files::replace(&file.path, &file.bytes)?;
    }
    let name = called(plan.config.model.as_str(), &plan.config.namespace);
    let source = plan.config.train.as_ref().and_then(|train| train.data.source());
    if let Some(Source::Download(remote)) = source {
        say(&format!("downloading the data of {name} from {}", download::shown(&remote.uri)));
    }
    let progress = Progress::new(format!("training {name}"), "steps");
    let prepared = prepare(&plan.config, trainer, &|done, of| progress.show(done, of));
    // The moving line ends before other lines are written.
    drop(progress);
    match prepared {
        Ok(preparation) => {
            for warning in &preparation.report.warnings {
                say(&format!("warning: {name}: {warning}"));
            }
            Ok(preparation)
        }
        Err(PrepareError::Refused(refused)) => {
            let Refusal { code, message } = refused.full;
            Err(Refused::one(&name, &format_args!("{code}: {message}")).into())
        }
        Err(error) => Err(error).with_context(|| format!("failed to prepare model {name}")),
    }
}
