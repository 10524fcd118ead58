//! Trains or imports the models that this process serves, each in its own folder. If one is refused, none is served.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use canopy_contract::describe::Quality;
use canopy_contract::names::DEFAULT_NAMESPACE;
use canopy_contract::rows::Rows;
use canopy_contract::schema::{self, Feature};
use canopy_contract::serving::ServingConfig;
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::files;
use canopy_predictor::training::prepare::Preparation;
use canopy_resource::manifest::Manifests;
use canopy_resource::resolve::ResolvedModel;
use tokio::task::spawn_blocking;

use crate::errors::{Refused, called};
use crate::training;

/// A model to train, and its folder.
pub(crate) struct PendingModel {
    plan: ResolvedModel,
    folder: PathBuf,
}

/// A trained model.
pub(crate) struct TrainedModel {
    /// Its serving config.
    pub(crate) config: ServingConfig,
    /// The folder with its artifact and record.
    pub(crate) folder: PathBuf,
    /// Its quality on the held-out rows.
    pub(crate) quality: Option<Quality>,
    /// A row that the model classifies with high confidence: an example for people. NaN is a missing value.
    pub(crate) row: Vec<f64>,
    /// Its features.
    pub(crate) features: Vec<Feature>,
}

impl TrainedModel {
    /// What the gateway calls it.
    pub(crate) fn called(&self) -> String {
        called(self.config.model.as_str(), &self.config.namespace)
    }

    /// The example as the body of a request, for a shell: between single quotes. A missing value is null, and a category has its
    /// name.
    pub(crate) fn request(&self) -> String {
        let value = |(value, feature): (&f64, &Feature)| match feature.category(*value) {
            _ if value.is_nan() => "null".to_owned(),
            Some(name) => quoted(name),
            None => value.to_string(),
        };
        let row: Vec<_> = self.row.iter().zip(&self.features).map(value).collect();
        format!("{{\"features\":[{}]}}", row.join(","))
    }
}

/// A JSON string without quotes and control characters, which a shell or a terminal would obey.
fn quoted(name: &str) -> String {
    let escaped = name.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c == '\'' || c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

impl PendingModel {
    /// What the gateway will call it.
    pub(crate) fn called(&self) -> String {
        called(self.plan.config.model.as_str(), &self.plan.config.namespace)
    }
}

/// A planned model with its folder.
pub(crate) fn pending(plan: ResolvedModel, folder: &Path) -> PendingModel {
    PendingModel { plan, folder: folder.to_owned() }
}

/// The folder of a model in the data folder.
pub(crate) fn folder(data: &Path, name: &str, namespace: &str) -> PathBuf {
    data.join("models").join(format!("{name}.{namespace}"))
}

/// Plans every model, with a folder for each below `data`.
pub(crate) fn plan(manifests: &Manifests, data: &Path) -> Result<Vec<PendingModel>, Refused> {
    let (mut planned, mut refused) = (Vec::new(), Vec::new());
    for model in &manifests.models {
        let name = model.metadata.name.as_deref().unwrap_or_default();
        let namespace = model.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let folder = folder(data, name, namespace);
        match training::plan(model, &manifests.config_maps, &folder) {
            Ok(plan) => planned.push(PendingModel { plan, folder }),
            Err(error) => refused.push(error),
        }
    }
    Refused::check(refused).map(|()| planned)
}

/// Makes every model, one after the other: each uses every CPU.
pub(crate) async fn train(planned: Vec<PendingModel>) -> Result<Vec<TrainedModel>> {
    let (mut made, mut refused) = (Vec::new(), Vec::new());
    for planned in planned {
        match spawn_blocking(|| make(planned)).await.context("failed to train")? {
            Ok(model) => made.push(model),
            Err(error) => refused.push(error.downcast::<Refused>()?),
        }
    }
    Refused::check(refused)?;
    Ok(made)
}

fn make(planned: PendingModel) -> Result<TrainedModel> {
    let PendingModel { plan, folder } = planned;
    files::make_folder(&folder)?;
    let preparation = training::train(&plan, Trainer::Native)?;
    preparation.record().write(&folder, Some(&preparation.artifact))?;
    let Preparation { report, example, features, .. } = preparation;
    let row = short(example, &features);
    Ok(TrainedModel { config: plan.config, folder, quality: report.quality, row, features })
}

/// The row with two decimals, where that keeps it within the bounds of the features.
fn short(row: Vec<f64>, features: &[Feature]) -> Vec<f64> {
    // The sum makes a positive zero of a negative one.
    let rounded: Vec<_> = row.iter().map(|value| (value * 100.0).round() / 100.0 + 0.0).collect();
    if schema::check(&Rows::single(rounded.clone()), features).is_ok() { rounded } else { row }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_category_ends_no_quotes_of_a_shell() {
        assert_eq!(quoted("it's \"a\" \\ \u{1b}[1m"), r#""it\u0027s \"a\" \\ \u001b[1m""#);
        let name: String = serde_json::from_str(&quoted("it's \u{1b}")).unwrap();
        assert_eq!(name, "it's \u{1b}");
    }

    #[test]
    fn an_example_is_short_and_within_the_bounds() {
        let row = || vec![0.123_456, -0.001, 2.999];
        let free = ["a", "b", "c"].map(Feature::named);
        let bounded = |max| ["a", "b", "c"].map(|name| Feature { max: Some(max), ..Feature::named(name) });
        assert_eq!(short(row(), &free), [0.12, 0.0, 3.0]);
        assert_eq!(short(row(), &bounded(3.0)), [0.12, 0.0, 3.0]);
        assert_eq!(short(row(), &bounded(2.9995)), row());
        assert!(short(row(), &free)[1].is_sign_positive());
    }
}
