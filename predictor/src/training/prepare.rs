//! Preparation of a model: train or import it, evaluate it, check the gate and the examples, and record a golden answer.
//!
//! A refusal is final for the same config and data; other errors may be temporary. The result does not depend on the time
//! or the number of threads.

use std::time::Instant;

use canopy_contract::code::Code;
use canopy_contract::describe::{Metric, Quality};
use canopy_contract::report::{Prepared, Warning, WarningKind};
use canopy_contract::rows::Rows;
use canopy_contract::schema::{self, Class, Feature};
use canopy_contract::serving::{
    Data, Evaluate, Import, QualityGate, ServingConfig, Source, Synthetic, Train,
};
use canopy_forest::data::holdout::TrainTest;
use canopy_forest::data::labels::whole;
use canopy_forest::data::samples::Samples;
use canopy_forest::data::seen::Seen;

use crate::artifact::{self, Artifact, ArtifactError, Card};
use crate::baseline::reference::Reference;
use crate::engine::head::{Answer, Head};
use crate::engine::interface::EngineError;
use crate::engine::loaded::LoadedModel;
use crate::engine::payload::PayloadError;
use crate::engine::training::{self, Trainer};
use crate::files::{self, FileError};
use crate::sources::download::{self, DownloadError};
use crate::sources::networks::Sources;
use crate::training::evaluation::{Evaluation, HoldOut, ValueErrors};
use crate::training::examples::{self, ExampleError};
use crate::training::import::{self, ImportError};
use crate::training::labelled::{self, Labelled};
use crate::training::record::{Golden, Record};
use crate::training::refusal::Refused;
use crate::training::schema_mapping::Arrangement;
use crate::training::warnings::{Facts, warnings};

/// The largest file of data that is read or downloaded.
pub const DATA_MAX_BYTES: u64 = 1 << 30;

/// How many rows of an evaluation may become the golden row or the example.
const CANDIDATES_MAX: usize = 1000;
/// How many rows are made up where there are none.
const RANDOM_ROWS: usize = 64;

/// A model that passed its gate.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// The artifact's bytes.
    pub artifact: Vec<u8>,
    /// The report.
    pub report: Prepared,
    /// The prediction that `serve` must reproduce before it is ready.
    pub golden: Golden,
    /// The features of the model.
    pub features: Vec<Feature>,
    /// A row within the bounds of the features, for which the model is most confident: an example for users.
    pub example: Vec<f64>,
    /// The evaluation; absent if there are no rows with a known truth.
    pub evaluation: Option<Evaluation>,
}

/// Why preparation failed.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The config or the data are refused; another attempt would not help.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The data could not be read, which may be temporary.
    #[error("{0}")]
    Unavailable(String),
    /// The model could not be encoded.
    #[error("failed to encode the artifact: {0}")]
    Artifact(#[from] ArtifactError),
    /// The model could not predict the held-out rows.
    #[error("failed to evaluate the new model: {0}")]
    Predict(#[from] EngineError),
    /// The order of features and classes could not be changed.
    #[error("failed to reorder the features and classes of the new model: {0}")]
    Model(#[from] PayloadError),
}

impl Preparation {
    /// The record that is written beside the artifact. Its warnings contain no values of the data, because its readers may
    /// not be allowed to read the data.
    pub fn record(&self) -> Record {
        let mut report = self.report.clone();
        report.warnings.iter_mut().for_each(|warning| warning.example = None);
        Record::Prepared { report, golden: self.golden.clone(), made_from: None }
    }
}

/// Prepares the model that `config` describes; data may come from any network. After each step `progress` is called with
/// the number of finished steps and of all steps. It blocks, and uses every CPU for the training.
pub fn prepare(
    config: &ServingConfig,
    trainer: Trainer,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Preparation, PrepareError> {
    prepare_from(&Sources::Anywhere, config, trainer, progress)
}

/// Like [`prepare`], with files from these sources only.
pub fn prepare_from(
    sources: &Sources,
    config: &ServingConfig,
    trainer: Trainer,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Preparation, PrepareError> {
    let started = Instant::now();
    let mut preparation = match (&config.train, &config.artifact) {
        (Some(training), _) => train(training, sources, config, trainer, progress)?,
        (None, Some(file)) => read_model(file, sources, config)?,
        (None, None) => return Err(invalid("the config has neither train nor artifact")),
    };
    preparation.report.seconds = started.elapsed().as_secs_f64();
    Ok(preparation)
}

/// Trains a model and evaluates it on held-out rows.
fn train(
    training: &Train,
    sources: &Sources,
    config: &ServingConfig,
    trainer: Trainer,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Preparation, PrepareError> {
    let Train { data, algorithm, standardize: _, test_percent, gate } = training;
    let samples = read(data, sources, &config.classes)?;
    let arrangement = Arrangement::new(&config.features, &config.classes, &samples).map_err(Refused::from)?;
    let TrainTest { train, test } =
        samples.split(u32::from(*test_percent), algorithm.seed()).map_err(Refused::from)?;

    let fitted = training::train(trainer, training, &train, progress).map_err(Refused::from)?;
    let (scaler, merged) =
        (arrangement.scaler(&fitted.scaler).map_err(Refused::from)?, fitted.merged.clone());
    let payload = fitted.reordered(arrangement.columns(), arrangement.labels())?;

    let head = Head::default();
    let model = LoadedModel::new(&scaler, None, payload.engine(), head);
    let rows = Rows::instances(test.rows().map(|row| arrangement.row(row)));
    let answers = model.predict(&rows)?;
    let has = test.targets().iter().map(|&label| arrangement.class(label));
    let given = answers.iter().filter_map(Answer::class).map(|class| class as usize);
    let hold_out = HoldOut::compare(arrangement.classes(), has.zip(given));
    let facts = Facts {
        samples: &samples,
        arrangement: &arrangement,
        hold_out: &hold_out,
        merged: &merged,
        target: target(data).filter(|_| config.classes.is_empty()),
    };
    let warnings = warnings(&facts);
    judge(gate.as_ref(), &hold_out.quality(), &warnings)?;
    examples::check(&config.examples, &model, arrangement.features(), arrangement.classes())?;
    let Extremes { golden, example } = extremes(&rows, &answers, arrangement.features())?;

    let card = Card {
        model: config.model.clone(),
        version: config.version.clone(),
        revision: config.revision.clone(),
        features: arrangement.features().to_vec(),
        classes: arrangement.classes().to_vec(),
        outputs: Vec::new(),
        quality: Some(hold_out.quality()),
        head,
    };
    let reference = Reference::learn(&train, arrangement.columns(), hold_out.given());
    let artifact = Artifact::new(card, scaler, reference, payload)?.encode()?;
    let report = Prepared {
        digest: artifact::digest(&artifact),
        bytes: artifact.len() as u64,
        quality: Some(hold_out.quality()),
        samples: train.len(),
        seconds: 0.0,
        warnings,
    };
    let features = arrangement.features().to_vec();
    Ok(Preparation {
        artifact,
        report,
        golden,
        features,
        example,
        evaluation: Some(Evaluation::Classes(hold_out)),
    })
}

/// Imports a model, answers the examples and evaluates it on a labelled table.
fn read_model(file: &Import, sources: &Sources, config: &ServingConfig) -> Result<Preparation, PrepareError> {
    let artifact = import::import(file, config, sources)?;
    let (model, card) = (artifact.load(), artifact.card());
    let mut candidates = examples::check(&config.examples, &model, &card.features, &card.classes)?;
    let evaluated = match &config.evaluate {
        None => None,
        Some(_) if card.outputs.len() > 1 => {
            return Err(invalid(format!(
                "a table has one target, but the model has {} outputs: remove evaluate",
                card.outputs.len()
            )));
        }
        Some(Evaluate { data, gate }) => {
            let table = labelled(data, sources, &card.features)?;
            let evaluation = evaluate(&table, &model, card)?;
            let metric = gate.as_ref().map_or(evaluation.default_metric(), |gate| gate.metric);
            let Some(quality) = evaluation.quality(metric) else {
                let kind = if card.classes.is_empty() { "regression" } else { "classification" };
                return Err(invalid(format!("the gate is on {metric:?}, but the model is a {kind}")));
            };
            judge(gate.as_ref(), &quality, &[])?;
            candidates.extend(table.rows.iter().take(CANDIDATES_MAX).map(<[f64]>::to_vec));
            Some((evaluation, quality))
        }
    };
    if candidates.is_empty() {
        candidates = random_rows(&model, &card.features)?;
    }
    let rows = Rows::instances(candidates);
    let Extremes { mut golden, example } = extremes(&rows, &model.predict(&rows)?, &card.features)?;
    // `serve` sends the row alone, and the 32-bit sums of a network differ in their last bits among other rows.
    let alone = model.predict(&Rows::single(golden.features.clone()))?;
    golden.answer = alone.into_iter().next().unwrap_or(golden.answer);
    let (evaluation, quality) = evaluated.unzip();
    let features = card.features.clone();
    let artifact = artifact.with_quality(quality.clone()).encode()?;
    let report = Prepared {
        digest: artifact::digest(&artifact),
        bytes: artifact.len() as u64,
        quality,
        samples: 0,
        seconds: 0.0,
        warnings: Vec::new(),
    };
    Ok(Preparation { artifact, report, golden, features, example, evaluation })
}

fn labelled(data: &Data, sources: &Sources, features: &[Feature]) -> Result<Labelled, PrepareError> {
    match data {
        Data::Synthetic(_) => Err(invalid("a model is evaluated on a table: give evaluate.data.csv")),
        Data::Csv { source, target } => {
            Ok(labelled::read(&bytes(source, sources)?, features, Some(target)).map_err(Refused::from)?)
        }
    }
}

/// Compares the answers for the rows of a table with its target.
fn evaluate(table: &Labelled, model: &LoadedModel, card: &Card) -> Result<Evaluation, PrepareError> {
    let (features, classes) = (&card.features, &card.classes);
    let answers = model.predict(&table.rows).map_err(|error| match error {
        EngineError::Input { row, column, must, .. } => {
            let name = features.get(column).map_or("", |feature| &feature.name);
            invalid(format!("row {}: feature {} {must}", row + 1, Seen::new(name)))
        }
        EngineError::Values { .. } | EngineError::Failed(_) => PrepareError::Predict(error),
    })?;
    if classes.is_empty() {
        let truth = |(row, target): (usize, &String)| {
            target
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite())
                .ok_or_else(|| invalid(format!("row {}: the target must be a finite number", row + 1)))
        };
        let truths = table.targets.iter().enumerate().map(truth).collect::<Result<Vec<f64>, _>>()?;
        let values = answers.iter().map(|answer| answer.value().unwrap_or(f64::NAN));
        let pairs: Vec<_> = truths.into_iter().zip(values).collect();
        return Ok(Evaluation::Values(ValueErrors::compare(&pairs)));
    }
    let index_of = |(row, target): (usize, &String)| {
        classes.iter().position(|class| is_label(class, target)).ok_or_else(|| {
            invalid(format!("row {}: the target is not one of the {} classes", row + 1, classes.len()))
        })
    };
    let truths = table.targets.iter().enumerate().map(index_of).collect::<Result<Vec<_>, _>>()?;
    let given = answers.iter().filter_map(Answer::class).map(|class| class as usize);
    Ok(Evaluation::Classes(HoldOut::compare(classes, truths.into_iter().zip(given))))
}

/// Whether a cell of a table is this class; `1.0` is the class 1.
fn is_label(class: &Class, cell: &str) -> bool {
    match class {
        Class::Name(name) => name == cell,
        Class::Index(index) => whole(cell).is_some_and(|digits| *digits == index.to_string()),
    }
}

/// Rows of standard normal values within the bounds of the features; a category is the first. A feature of which the
/// model does not take these values is 0, or the first whole number within the bounds.
fn random_rows(model: &LoadedModel, features: &[Feature]) -> Result<Vec<Vec<f64>>, PrepareError> {
    let samples = Samples::synthetic(RANDOM_ROWS, features.len().max(2), 0).map_err(Refused::from)?;
    let value = |(value, feature): (&f64, &Feature)| {
        let value = if feature.categories.is_empty() { *value } else { 0.0 };
        value.max(feature.min.unwrap_or(f64::NEG_INFINITY)).min(feature.max.unwrap_or(f64::INFINITY))
    };
    let mut rows: Vec<Vec<f64>> =
        samples.rows().map(|row| row.iter().zip(features).map(value).collect()).collect();
    for _ in features {
        let Err(EngineError::Input { column, .. }) = model.predict(&Rows::instances(rows.clone())) else {
            break;
        };
        let whole = features.get(column).and_then(|feature| feature.min).unwrap_or(0.0).max(0.0).ceil();
        rows.iter_mut().filter_map(|row| row.get_mut(column)).for_each(|value| *value = whole);
    }
    Ok(rows)
}

fn target(data: &Data) -> Option<&str> {
    match data {
        Data::Synthetic(_) => None,
        Data::Csv { source: _, target } => Some(target),
    }
}

fn read(data: &Data, sources: &Sources, classes: &[String]) -> Result<Samples, PrepareError> {
    match data {
        Data::Synthetic(Synthetic { samples, features, seed }) => {
            Ok(Samples::synthetic(*samples as usize, *features as usize, *seed).map_err(Refused::from)?)
        }
        Data::Csv { source, target } => {
            let bytes = bytes(source, sources)?;
            Ok(Samples::from_csv_with_classes(&bytes, target, classes).map_err(Refused::from)?)
        }
    }
}

fn bytes(source: &Source, sources: &Sources) -> Result<Vec<u8>, PrepareError> {
    Ok(match source {
        Source::Path(path) => files::read(path, DATA_MAX_BYTES)?,
        Source::Download(download) => download::fetch(download, DATA_MAX_BYTES, sources)?,
    })
}

fn judge(gate: Option<&QualityGate>, quality: &Quality, warnings: &[Warning]) -> Result<(), PrepareError> {
    let Some(gate) = gate.filter(|gate| !gate.admits(quality.value)) else { return Ok(()) };
    let (name, rows) = match gate.metric {
        Metric::Accuracy => ("accuracy", "held-out rows"),
        Metric::R2 => ("R2", "rows"),
        Metric::MeanAbsoluteError => ("mean absolute error", "rows"),
        Metric::RootMeanSquaredError => ("root mean squared error", "rows"),
    };
    // Four digits, unless they would hide the difference.
    let rounded = (quality.value * 1e4).round() / 1e4;
    let value = if gate.admits(rounded) { quality.value } else { rounded };
    let bound = match (gate.min, gate.max) {
        (Some(min), _) if quality.value < min => format!("below the minimum {min}"),
        (_, Some(max)) => format!("above the maximum {max}"),
        (_, None) => "not a number".to_owned(),
    };
    let quantity = warnings.iter().find(|warning| warning.kind == WarningKind::LooksLikeAQuantity);
    let cause = quantity.map_or_else(String::new, |Warning { kind: _, name: _, count, .. }| {
        format!(
            ": the target has {count} different numbers, so it looks like a quantity and not like a class"
        )
    });
    let message = format!("{name} {value} on {} {rows} is {bound}{cause}", quality.samples);
    Err(PrepareError::Refused(Refused::new(Code::GateMissed, message)))
}

/// The held-out rows with the least and the most confident predictions.
struct Extremes {
    golden: Golden,
    example: Vec<f64>,
}

/// Selects the golden row and the example from the rows within the bounds of the features whose answer is a finite number.
/// The golden row is the least confident one, because its prediction changes first if the model differs. The most confident
/// one is the example.
fn extremes(rows: &Rows, answers: &[Answer], features: &[Feature]) -> Result<Extremes, PrepareError> {
    let admitted = |row: &&[f64]| schema::check(&Rows::single(row.to_vec()), features).is_ok();
    let candidates = || {
        let all = rows.iter().zip(answers);
        all.filter(|(row, answer)| answer.is_finite() && admitted(row))
    };
    let confidence = |answer: &Answer| answer.confidence().unwrap_or_default();
    let least = candidates().min_by(|(_, a), (_, b)| confidence(a).total_cmp(&confidence(b)));
    let most = candidates().min_by(|(_, a), (_, b)| confidence(b).total_cmp(&confidence(a)));
    match least.zip(most) {
        Some(((row, answer), (example, _))) => Ok(Extremes {
            golden: Golden { features: row.to_vec(), answer: answer.clone() },
            example: example.to_vec(),
        }),
        None if !answers.iter().any(Answer::is_finite) => {
            let message = format!(
                "the answers to all {} rows of the self-test are infinite or not a number: check the parameters of the model, \
                 or give examples with rows as it is made for",
                answers.len()
            );
            Err(PrepareError::Refused(Refused::new(Code::ModelInvalid, message)))
        }
        None => Err(invalid("no held-out row is within the bounds of the features: lower min or raise max")),
    }
}

/// A refusal whose message contains no values of the data.
fn invalid(why: impl Into<String>) -> PrepareError {
    PrepareError::Refused(Refused::new(Code::DataInvalid, why))
}

impl From<ImportError> for PrepareError {
    fn from(error: ImportError) -> Self {
        match error.code() {
            Some(code) => Self::Refused(Refused::new(code, error.to_string())),
            None => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ExampleError> for PrepareError {
    fn from(error: ExampleError) -> Self {
        match error {
            ExampleError::Model(error) => Self::Predict(error),
            ExampleError::Row { .. } | ExampleError::Answer { .. } => {
                Self::Refused(Refused::new(Code::ExampleMismatch, error.to_string()))
            }
        }
    }
}

impl From<FileError> for PrepareError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::TooLarge { .. } => invalid(error.to_string()),
            FileError::Read { .. } | FileError::Write { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<DownloadError> for PrepareError {
    fn from(error: DownloadError) -> Self {
        let why = error.to_string();
        match error {
            DownloadError::Address(_) | DownloadError::TooLarge { .. } | DownloadError::Refused { .. } => {
                invalid(why)
            }
            DownloadError::Digest { .. } => Self::Refused(Refused::new(Code::DigestMismatch, why)),
            DownloadError::Failed { .. } => Self::Unavailable(why),
        }
    }
}
