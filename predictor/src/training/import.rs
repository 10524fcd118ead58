//! Import of a model that was trained elsewhere: a file becomes an artifact.
//!
//! The features and classes that the config declares must be those of the file, in the same order: a table whose columns
//! are in another order would otherwise get wrong answers without an error.

use std::collections::BTreeSet;
use std::path::Path;

use canopy_contract::code::Code;
use canopy_contract::schema::{Class, Feature};
use canopy_contract::serving::{Import, ModelFormat, ServingConfig, Source};
use canopy_forest::data::seen::Seen;
use canopy_forest::read::detect::detect;
use canopy_forest::read::error::{Limits, ReadError};
use canopy_forest::read::format::Format;
use canopy_forest::read::mlflow::{self, Manifest};
use canopy_forest::read::model::{ImportedModel, Input, InputKind, Output, Step};
use canopy_forest::read::preprocessing::{Preprocessing, PreprocessingError, Room};
use canopy_forest::read::reader;

use crate::artifact::{self, Artifact, ArtifactError, Card};
use crate::engine::head::Head;
use crate::engine::network::{self, LoadedNetwork, NetworkError};
use crate::engine::payload::{Payload, PayloadError};
use crate::files::{self, FileError};
use crate::sources::download::{self, DownloadError};
use crate::sources::networks::Sources;

/// Names of features or classes beyond this number are only counted.
const LISTED: usize = 10;
/// The most numbers that are computed to find out which inputs may be missing; beyond it, none may.
const PROBED_MAX: usize = 1 << 26;

/// Why a file is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read from the disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be downloaded.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The content is not a model that this program supports.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The content is not an artifact of Canopy.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The model has parameters that no engine takes.
    #[error("the file has {0}")]
    Payload(#[from] PayloadError),
    /// The neural network cannot be run, or does not have the declared classes.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// The preprocessing does not fit the model.
    #[error("{0}")]
    Preprocessing(#[from] PreprocessingError),
    /// The file has another format than the config declares.
    #[error("the file has the format {found}, but the format {declared} is declared")]
    Format {
        /// The format that is declared.
        declared: &'static str,
        /// The format that was found.
        found: String,
    },
    /// The network has a probability per class, and no classes are declared.
    #[error(
        "the network has {0} probabilities for each row, but no classes are declared: declare {0} classes with spec.classes in the \
         manifest or --classes on the command line"
    )]
    Scores(usize),
    /// The features or classes of the config are not those of the file.
    #[error("{0}")]
    Declared(String),
}

impl ImportError {
    /// The code of a refusal; none where another attempt may succeed.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::File(FileError::TooLarge { .. }) => Some(Code::ModelInvalid),
            Self::File(_) | Self::Download(DownloadError::Failed { .. }) => None,
            Self::Download(DownloadError::Digest { .. }) => Some(Code::DigestMismatch),
            Self::Download(_)
            | Self::Read(_)
            | Self::Artifact(_)
            | Self::Payload(_)
            | Self::Network(_)
            | Self::Preprocessing(_)
            | Self::Format { .. }
            | Self::Scores(_)
            | Self::Declared(_) => Some(Code::ModelInvalid),
        }
    }
}

/// Reads the model file of `import` and makes the artifact that `config` describes from it. The card has no quality yet.
pub fn import(import: &Import, config: &ServingConfig, sources: &Sources) -> Result<Artifact, ImportError> {
    let Import { source, format } = import;
    let limits = Limits::default();
    match source {
        Source::Path(folder) if folder.is_dir() => {
            check_format(*format, Format::Mlflow, "MLflow")?;
            of_folder(folder, &limits, config)
        }
        Source::Path(path) => of_bytes(&files::read(path, limits.bytes as u64)?, *format, config),
        Source::Download(download) => {
            of_bytes(&download::fetch(download, limits.bytes as u64, sources)?, *format, config)
        }
    }
}

/// Makes an artifact from the bytes of a model file.
pub fn of_bytes(
    bytes: &[u8],
    format: Option<ModelFormat>,
    config: &ServingConfig,
) -> Result<Artifact, ImportError> {
    if artifact::is_artifact(bytes) {
        return match format {
            None | Some(ModelFormat::Canopy) => own(&Artifact::decode(bytes)?, config),
            Some(declared) => {
                Err(ImportError::Format { declared: name(declared), found: "Canopy".to_owned() })
            }
        };
    }
    if detect(bytes) == Format::Onnx && network::is_network(bytes) {
        check_format(format, Format::Onnx, "ONNX")?;
        return of_network(LoadedNetwork::read(bytes)?, config);
    }
    let model = reader::read(bytes, &Limits::default())?;
    check_format(format, model.format, &model.format.to_string())?;
    of_model(model, config)
}

/// Makes an artifact from a model folder of `MLflow`.
fn of_folder(folder: &Path, limits: &Limits, config: &ServingConfig) -> Result<Artifact, ImportError> {
    let manifest =
        Manifest::parse(&files::read(&folder.join(mlflow::MANIFEST), mlflow::MANIFEST_MAX as u64)?)?;
    let bytes = files::read(&folder.join(manifest.file()), limits.bytes as u64)?;
    if detect(&bytes) == Format::Onnx && network::is_network(&bytes) {
        return of_network(LoadedNetwork::read(&bytes)?, config);
    }
    of_model(manifest.read(&bytes, limits)?, config)
}

fn name(format: ModelFormat) -> &'static str {
    match format {
        ModelFormat::Onnx => "ONNX",
        ModelFormat::LightGbm => "LightGBM",
        ModelFormat::XgBoost => "XGBoost",
        ModelFormat::Skops => "Skops",
        ModelFormat::MlFlow => "MLflow",
        ModelFormat::Canopy => "Canopy",
    }
}

fn check_format(declared: Option<ModelFormat>, found: Format, shown: &str) -> Result<(), ImportError> {
    let fits = match declared {
        None => true,
        Some(ModelFormat::Onnx) => found == Format::Onnx,
        Some(ModelFormat::LightGbm) => found == Format::LightGbm,
        Some(ModelFormat::XgBoost) => matches!(found, Format::XgboostJson | Format::XgboostUbj),
        Some(ModelFormat::Skops) => found == Format::Skops,
        Some(ModelFormat::MlFlow) => found == Format::Mlflow,
        Some(ModelFormat::Canopy) => false,
    };
    match declared {
        Some(declared) if !fits => {
            Err(ImportError::Format { declared: name(declared), found: shown.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The same model under the name, version and revision of the config.
fn own(artifact: &Artifact, config: &ServingConfig) -> Result<Artifact, ImportError> {
    let card = artifact.card();
    let names: Vec<_> = card.features.iter().map(|feature| Some(feature.name.clone())).collect();
    let mut features = card.features.clone();
    if !config.features.is_empty() {
        check_features(&names, &config.features)?;
        for (feature, declared) in features.iter_mut().zip(&config.features) {
            (feature.min, feature.max) = (declared.min, declared.max);
        }
    }
    let labels: Vec<_> = card.classes.iter().enumerate().map(|(index, class)| label(index, class)).collect();
    let card = Card {
        model: config.model.clone(),
        version: config.version.clone(),
        revision: config.revision.clone(),
        features,
        classes: classes(&labels, &config.classes)?,
        outputs: card.outputs.clone(),
        quality: None,
        head: card.head,
    };
    Ok(artifact.clone().with_card(card)?)
}

fn label(index: usize, class: &Class) -> String {
    class.name().map_or_else(|| index.to_string(), str::to_owned)
}

fn of_model(model: ImportedModel, config: &ServingConfig) -> Result<Artifact, ImportError> {
    let payload = Payload::of_import(model.model)?;
    let preprocessing = Preprocessing::new(model.inputs.len(), model.steps)?;
    let missing = takes_missing(model.handles_missing, &payload, &preprocessing);
    let features = features(&model.inputs, &config.features, &missing)?;
    let (classes, head) = match &model.output {
        Output::Classes(labels) => (classes(labels, &config.classes)?, Head::Classify { link: model.link }),
        Output::Values(_) if config.classes.is_empty() => (Vec::new(), Head::Regress { link: model.link }),
        Output::Values(values) => {
            return Err(ImportError::Declared(format!(
                "{} classes are declared, but the model of the file has values: {}",
                config.classes.len(),
                list(values)
            )));
        }
    };
    let outputs = match &model.output {
        Output::Classes(_) => Vec::new(),
        Output::Values(names) => value_names(names),
    };
    let card = Card {
        model: config.model.clone(),
        version: config.version.clone(),
        revision: config.revision.clone(),
        features,
        classes,
        outputs,
        quality: None,
        head,
    };
    Ok(Artifact::imported(card, preprocessing, payload)?)
}

/// Makes an artifact from a network.
pub fn of_network(network: LoadedNetwork, config: &ServingConfig) -> Result<Artifact, ImportError> {
    let inputs: Vec<_> = network.input_names().into_iter().map(numeric).collect();
    let features = features(&inputs, &config.features, &vec![false; inputs.len()])?;
    let meaning = network.meaning(config.classes.len())?;
    if let values @ 2.. = meaning.values.len()
        && network.has_probabilities()
    {
        return Err(ImportError::Scores(values));
    }
    let card = Card {
        model: config.model.clone(),
        version: config.version.clone(),
        revision: config.revision.clone(),
        features,
        classes: classes(&meaning.labels, &config.classes)?,
        outputs: value_names(&meaning.values),
        quality: None,
        head: meaning.head,
    };
    let preprocessing = Preprocessing::new(inputs.len(), Vec::new())?;
    Ok(Artifact::imported(card, preprocessing, Payload::Network(network))?)
}

/// The names of several values: those of the file, or numbers where they are not unique. One value has no name.
fn value_names(names: &[String]) -> Vec<String> {
    if names.len() < 2 {
        return Vec::new();
    }
    let unique: BTreeSet<_> = names.iter().collect();
    if unique.len() == names.len() {
        return names.to_vec();
    }
    (0..names.len()).map(|index| format!("y{index}")).collect()
}

fn numeric(name: Option<String>) -> Input {
    Input { name, kind: InputKind::Numeric }
}

/// Which inputs may be missing: those whose NaN is replaced before it reaches the engine, or which the engine has learned
/// to handle.
fn takes_missing(handles_missing: bool, payload: &Payload, steps: &Preprocessing) -> Vec<bool> {
    if handles_missing && steps.steps().iter().all(|step| matches!(step, Step::ZeroToMissing { .. })) {
        return vec![true; steps.inputs()];
    }
    let learned = if handles_missing { vec![true; payload.inputs()] } else { payload.handles_missing() };
    if steps.steps().is_empty() {
        return learned;
    }
    if steps.inputs().saturating_mul(steps.outputs()) > PROBED_MAX {
        return vec![false; steps.inputs()];
    }
    let (mut room, mut changed) = (Room::default(), Vec::new());
    let mut row = vec![0.0; steps.inputs()];
    let mut is_handled = |input: usize| {
        row[input] = f64::NAN;
        steps.apply(&row, &mut room, &mut changed);
        row[input] = 0.0;
        changed.iter().zip(&learned).all(|(value, learned)| !value.is_nan() || *learned)
    };
    (0..steps.inputs()).map(&mut is_handled).collect()
}

/// The features of the file with the names and bounds of the declared ones.
fn features(inputs: &[Input], declared: &[Feature], missing: &[bool]) -> Result<Vec<Feature>, ImportError> {
    let names: Vec<_> = inputs.iter().map(|input| input.name.clone()).collect();
    if !declared.is_empty() {
        check_features(&names, declared)?;
    }
    let mut features = Vec::with_capacity(inputs.len());
    for (index, (input, missing)) in inputs.iter().zip(missing).enumerate() {
        let mut feature = match declared.get(index) {
            Some(declared) => declared.clone(),
            None => Feature::named(input.name.clone().unwrap_or_else(|| format!("x{index}"))),
        };
        let found: &[String] = match &input.kind {
            InputKind::Numeric => &[],
            InputKind::Categorical { categories } => categories,
        };
        if !found.is_empty() && !feature.categories.is_empty() && feature.categories != found {
            return Err(ImportError::Declared(format!(
                "feature {} has the categories {} in the file, but {} are declared",
                Seen::new(&feature.name),
                list(found),
                list(&feature.categories)
            )));
        }
        if input.kind == InputKind::Numeric && !feature.categories.is_empty() {
            return Err(ImportError::Declared(format!(
                "feature {} is a number in the file, but categories are declared",
                Seen::new(&feature.name)
            )));
        }
        if feature.categories.is_empty() {
            feature.categories = found.to_vec();
        }
        feature.missing = *missing;
        features.push(feature);
    }
    let mut sorted: Vec<_> = features.iter().map(|feature| feature.name.as_str()).collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ImportError::Declared(format!(
            "two inputs of the file are called {}: declare features with unique names",
            Seen::new(pair[0])
        ))),
        None => Ok(features),
    }
}

/// Checks the number and, where the file has names, the order of the declared features.
fn check_features(names: &[Option<String>], declared: &[Feature]) -> Result<(), ImportError> {
    if names.len() != declared.len() {
        return Err(ImportError::Declared(format!(
            "{} features are declared, but the model of the file takes {}",
            declared.len(),
            names.len()
        )));
    }
    let differs = names
        .iter()
        .zip(declared)
        .position(|(name, declared)| name.as_ref().is_some_and(|name| *name != declared.name));
    match differs {
        None => Ok(()),
        Some(index) => Err(ImportError::Declared(format!(
            "feature {index} is declared as {}, but is {} in the file: declare the features in the order of the file",
            Seen::new(&declared[index].name),
            Seen::new(names[index].as_deref().unwrap_or_default())
        ))),
    }
}

/// The classes of the file, with the declared names where the file only numbers them.
fn classes(labels: &[String], declared: &[String]) -> Result<Vec<Class>, ImportError> {
    let is_numbered = labels.iter().enumerate().all(|(index, label)| *label == index.to_string());
    let named = |names: &[String]| names.iter().cloned().map(Class::Name).collect();
    match declared {
        [] if is_numbered => Ok((0..labels.len() as u32).map(Class::Index).collect()),
        [] => Ok(named(labels)),
        _ if declared.len() != labels.len() => Err(ImportError::Declared(format!(
            "{} classes are declared, but the model of the file has {}",
            declared.len(),
            labels.len()
        ))),
        _ if is_numbered || declared == labels => Ok(named(declared)),
        _ => Err(ImportError::Declared(format!(
            "the classes {} are declared, but the file has {}: declare them in this order, or not at all",
            list(declared),
            list(labels)
        ))),
    }
}

/// The first names.
fn list(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(LISTED).map(|name| Seen::new(name).to_string()).collect();
    let more =
        if names.len() > LISTED { format!(" and {} more", names.len() - LISTED) } else { String::new() };
    shown.join(", ") + &more
}
