//! The CEL rules of the CRD and of `ConfigMap`s, checked without an API server. Messages are those of the CRD.

use canopy_contract::names::ModelName;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::decimal::Decimal;
use crate::field_error::{FieldError, entry};
use crate::model::{
    BOUNDS_ARE_IN_ORDER, EVERY_SYNTHETIC_FEATURE_IS_NAMED, GATE_IS_A_SHARE, ONE_KIND_OF_ALGORITHM,
    ONE_KIND_OF_DATA, ONE_KIND_OF_SOURCE, PredictorModel, PredictorModelSpec, SHA256_IS_HEXADECIMAL,
    SYNTHETIC_CLASSES_ARE_TWO, SYNTHETIC_FEATURES, Source, URI_HAS_A_DIGEST, URI_IS_HTTP,
};

/// The most bytes that the API server takes in all values of a `ConfigMap` together.
const CONFIG_MAP_MAX_BYTES: usize = 1 << 20;

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
            "has {bytes} bytes, but Kubernetes takes at most {CONFIG_MAP_MAX_BYTES} in a ConfigMap: put the table on a \
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

fn check_spec(spec: &PredictorModelSpec, faults: &mut Vec<FieldError>) {
    let train = &spec.train;
    let mut rule = |kept: bool, field: &str, (_, message): (&str, &str)| {
        if !kept {
            faults.push(FieldError::at(field, message));
        }
    };

    rule(train.data.synthetic.is_some() != train.data.csv.is_some(), "spec.train.data", ONE_KIND_OF_DATA);
    if let Some(csv) = &train.data.csv {
        const FIELD: &str = "spec.train.data.csv.source";
        let Source { config_map, uri, sha256 } = &csv.source;
        rule(config_map.is_some() != uri.is_some(), FIELD, ONE_KIND_OF_SOURCE);
        rule(uri.as_deref().is_none_or(is_http), FIELD, URI_IS_HTTP);
        rule(uri.is_some() == sha256.is_some(), FIELD, URI_HAS_A_DIGEST);
        rule(sha256.as_deref().is_none_or(is_sha256), FIELD, SHA256_IS_HEXADECIMAL);
    }
    rule(train.algorithm.random_forest.is_some(), "spec.train.algorithm", ONE_KIND_OF_ALGORITHM);
    if let Some(gate) = &train.gate {
        let is_share = gate.min.number().is_some_and(|min| (0.0..=1.0).contains(&min));
        rule(is_share, "spec.train.gate", GATE_IS_A_SHARE);
    }
    for (index, feature) in spec.features.iter().flatten().enumerate() {
        let number = |bound: &Option<Decimal>| bound.as_ref().and_then(Decimal::number);
        let ordered = number(&feature.min).zip(number(&feature.max)).is_none_or(|(min, max)| min <= max);
        rule(ordered, &entry("spec.features", index), BOUNDS_ARE_IN_ORDER);
    }
    if let Some(synthetic) = &train.data.synthetic {
        let features = synthetic.features.unwrap_or(SYNTHETIC_FEATURES) as usize;
        let named = spec.features.as_ref().is_none_or(|named| named.len() == features);
        rule(named, "spec", EVERY_SYNTHETIC_FEATURE_IS_NAMED);
        rule(
            spec.classes.as_ref().is_none_or(|classes| classes.len() == 2),
            "spec",
            SYNTHETIC_CLASSES_ARE_TWO,
        );
    }
}

fn is_http(uri: &str) -> bool {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
    let mut rest = rest.unwrap_or_default().chars();
    rest.next().is_some_and(|first| !"/?#".contains(first)) && rest.all(|c| c.is_ascii_graphic())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
