//! The CEL rules of the CRD and of `ConfigMap`s, checked without an API server. Messages are those of the CRD.

use canopy_contract::names::ModelName;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::decimal::Decimal;
use crate::feature::{
    BOUNDS_ARE_IN_ORDER, CATEGORIES_HAVE_NO_BOUNDS, CATEGORIES_HAVE_VALUES, Feature, FeatureType,
};
use crate::field_error::{FieldError, entry};
use crate::imported::{Expected, ONE_EXPECTED_ANSWER, TOLERANCE_OF_A_VALUE};
use crate::model::{
    CATEGORIES_OF_AN_ARTIFACT, EVALUATE_OF_AN_ARTIFACT, EVERY_SYNTHETIC_FEATURE_IS_NAMED,
    ONE_KIND_OF_ALGORITHM, ONE_KIND_OF_DATA, PredictorModel, PredictorModelSpec, SYNTHETIC_CLASSES_ARE_TWO,
    SYNTHETIC_FEATURES, TRAIN_OR_ARTIFACT, TRAINING_MAKES_CLASSIFIERS, Train,
};
use crate::quality::{GATE_HAS_ITS_BOUND, GATE_IS_A_SHARE, GATE_IS_NOT_NEGATIVE, Metric, QualityGate};
use crate::source::{ONE_KIND_OF_SOURCE, Rule, SHA256_IS_HEXADECIMAL, Source, URI_HAS_A_DIGEST, URI_IS_HTTP};

/// The most bytes that the API server takes in all values of a `ConfigMap` together.
pub(crate) const CONFIG_MAP_MAX_BYTES: usize = 1 << 20;

/// The rules that `model` breaks.
pub(crate) fn check(model: &PredictorModel) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if let Err(error) = ModelName::try_from(model.name_any()) {
        faults.push(FieldError::at("metadata.name", error.why()));
    }
    faults.extend(namespace_fault(model.meta()));
    check_spec(&model.spec, &mut faults);
    faults
}

/// The rules of the API server that `config_map` breaks.
pub(crate) fn check_config_map(config_map: &ConfigMap) -> Vec<FieldError> {
    let mut faults = Vec::from_iter(namespace_fault(config_map.meta()));
    let text = config_map.data.iter().flatten().map(|(_, text)| text.len());
    let binary = config_map.binary_data.iter().flatten().map(|(_, bytes)| bytes.0.len());
    let bytes: usize = text.chain(binary).sum();
    if bytes > CONFIG_MAP_MAX_BYTES {
        let why = format!(
            "has {bytes} bytes, but Kubernetes takes at most {CONFIG_MAP_MAX_BYTES} in a ConfigMap: put the file on a \
             web server and name it by uri"
        );
        faults.push(FieldError::at("data", why));
    }
    faults
}

/// A namespace is a DNS label (RFC 1123).
fn namespace_fault(metadata: &ObjectMeta) -> Option<FieldError> {
    let namespace = metadata.namespace.as_deref()?;
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let is_label = (1..=63).contains(&namespace.len())
        && namespace.bytes().all(inner)
        && !namespace.starts_with('-')
        && !namespace.ends_with('-');
    let shown: String = namespace.chars().take(64).collect();
    let why = format!(
        "must have lower-case letters, digits and '-' only, begin and end with a letter or a digit, and be at most 63 \
         characters long, but is {shown:?}"
    );
    (!is_label).then(|| FieldError::at("metadata.namespace", why))
}

/// The broken rules.
struct Checker<'a>(&'a mut Vec<FieldError>);

impl Checker<'_> {
    fn rule(&mut self, is_kept: bool, field: &str, (_, message): Rule) {
        if !is_kept {
            self.0.push(FieldError::at(field, message));
        }
    }

    fn source(&mut self, field: &str, source: &Source) {
        let Source { config_map, uri, sha256 } = source;
        self.rule(config_map.is_some() != uri.is_some(), field, ONE_KIND_OF_SOURCE);
        self.rule(uri.as_deref().is_none_or(is_http), field, URI_IS_HTTP);
        self.rule(uri.is_some() == sha256.is_some(), field, URI_HAS_A_DIGEST);
        self.rule(sha256.as_deref().is_none_or(is_sha256), field, SHA256_IS_HEXADECIMAL);
    }

    fn gate(&mut self, field: &str, gate: &QualityGate) {
        let QualityGate { metric, min, max } = gate;
        let (needed, other) = match metric {
            Metric::Accuracy | Metric::R2 => (min, max),
            Metric::MeanAbsoluteError | Metric::RootMeanSquaredError => (max, min),
        };
        self.rule(needed.is_some() && other.is_none(), field, GATE_HAS_ITS_BOUND);
        self.rule(number(min.as_ref()).is_none_or(|min| (0.0..=1.0).contains(&min)), field, GATE_IS_A_SHARE);
        self.rule(number(max.as_ref()).is_none_or(|max| max >= 0.0), field, GATE_IS_NOT_NEGATIVE);
    }

    fn train(&mut self, train: &Train) {
        let data = &train.data;
        self.rule(data.synthetic.is_some() != data.csv.is_some(), "spec.train.data", ONE_KIND_OF_DATA);
        let algorithm = &train.algorithm;
        self.rule(algorithm.random_forest.is_some(), "spec.train.algorithm", ONE_KIND_OF_ALGORITHM);
        if let Some(gate) = &train.gate {
            self.gate("spec.train.gate", gate);
            self.rule(gate.metric == Metric::Accuracy, "spec.train", TRAINING_MAKES_CLASSIFIERS);
        }
    }

    fn expected(&mut self, field: &str, expected: &Expected) {
        let Expected { class, label, value, tolerance } = expected;
        let given = [class.is_some(), label.is_some(), value.is_some()];
        self.rule(given.into_iter().filter(|given| *given).count() == 1, field, ONE_EXPECTED_ANSWER);
        let is_allowed =
            value.is_some() && number(tolerance.as_ref()).is_some_and(|tolerance| tolerance >= 0.0);
        self.rule(tolerance.is_none() || is_allowed, field, TOLERANCE_OF_A_VALUE);
    }

    fn feature(&mut self, field: &str, feature: &Feature) {
        let Feature { name: _, r#type, values, min, max } = feature;
        let is_ordered = number(min.as_ref()).zip(number(max.as_ref())).is_none_or(|(min, max)| min <= max);
        self.rule(is_ordered, field, BOUNDS_ARE_IN_ORDER);
        let is_categorical = *r#type == Some(FeatureType::Categorical);
        self.rule(values.is_some() == is_categorical, field, CATEGORIES_HAVE_VALUES);
        let has_bounds = min.is_some() || max.is_some();
        self.rule(values.is_none() || !has_bounds, field, CATEGORIES_HAVE_NO_BOUNDS);
    }
}

fn check_spec(spec: &PredictorModelSpec, faults: &mut Vec<FieldError>) {
    let mut checker = Checker(faults);
    checker.rule(spec.train.is_some() != spec.artifact.is_some(), "spec", TRAIN_OR_ARTIFACT);
    for (field, source) in spec.sources() {
        checker.source(field, source);
    }
    if let Some(train) = &spec.train {
        checker.train(train);
    }
    for (index, example) in spec.examples.iter().flatten().enumerate() {
        let field = format!("{}.expected", entry("spec.examples", index));
        checker.expected(&field, &example.expected);
    }
    if let Some(evaluate) = &spec.evaluate {
        checker.rule(spec.artifact.is_some(), "spec", EVALUATE_OF_AN_ARTIFACT);
        if let Some(gate) = &evaluate.gate {
            checker.gate("spec.evaluate.gate", gate);
        }
    }
    let features = || spec.features.iter().flatten();
    for (index, feature) in features().enumerate() {
        checker.feature(&entry("spec.features", index), feature);
    }
    let has_categories = features().any(|feature| feature.values.is_some());
    checker.rule(spec.artifact.is_some() || !has_categories, "spec", CATEGORIES_OF_AN_ARTIFACT);
    if let Some(synthetic) = spec.train.as_ref().and_then(|train| train.data.synthetic.as_ref()) {
        let features = synthetic.features.unwrap_or(SYNTHETIC_FEATURES) as usize;
        let is_named = spec.features.as_ref().is_none_or(|named| named.len() == features);
        checker.rule(is_named, "spec", EVERY_SYNTHETIC_FEATURE_IS_NAMED);
        let are_two = spec.classes.as_ref().is_none_or(|classes| classes.len() == 2);
        checker.rule(are_two, "spec", SYNTHETIC_CLASSES_ARE_TWO);
    }
}

fn number(decimal: Option<&Decimal>) -> Option<f64> {
    decimal.and_then(Decimal::number)
}

fn is_http(uri: &str) -> bool {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
    let mut rest = rest.unwrap_or_default().chars();
    rest.next().is_some_and(|first| !"/?#".contains(first)) && rest.all(|c| c.is_ascii_graphic())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
