//! Converts the parts of a spec that name no files into those of the serving config, with all defaults filled in.

use canopy_contract::describe;
use canopy_contract::schema;
use canopy_contract::serving;

use crate::decimal::Decimal;
use crate::feature::{Feature, FeatureType};
use crate::field_error::{FieldError, entry};
use crate::imported::{
    Example, ExampleValue, Expected, ModelFormat, ONE_EXPECTED_ANSWER, TOLERANCE_OF_A_VALUE,
};
use crate::model::{Algorithm, MaxFeatures, ONE_KIND_OF_ALGORITHM, PredictorModelSpec, RandomForest};
use crate::quality::{GATE_HAS_ITS_BOUND, Metric, QualityGate};
use crate::revision::{MIN_SAMPLES_LEAF, SEED, TREES};

/// The algorithm.
pub(crate) fn algorithm(algorithm: &Algorithm) -> Result<serving::Algorithm, FieldError> {
    let Algorithm { random_forest } = algorithm;
    let Some(forest) = random_forest else {
        return Err(FieldError::at("spec.train.algorithm", ONE_KIND_OF_ALGORITHM.1));
    };
    let RandomForest { trees, max_depth, min_samples_leaf, max_features, bootstrap, seed } = forest;
    Ok(serving::Algorithm::RandomForest(serving::RandomForest {
        trees: trees.unwrap_or(TREES),
        max_depth: *max_depth,
        min_samples_leaf: min_samples_leaf.unwrap_or(MIN_SAMPLES_LEAF),
        max_features: match max_features {
            Some(MaxFeatures::Sqrt) | None => serving::MaxFeatures::Sqrt,
            Some(MaxFeatures::Log2) => serving::MaxFeatures::Log2,
            Some(MaxFeatures::All) => serving::MaxFeatures::All,
        },
        bootstrap: bootstrap.unwrap_or(true),
        seed: seed.unwrap_or(SEED),
    }))
}

/// The gate in `field`.
pub(crate) fn gate(field: &str, gate: &QualityGate) -> Result<serving::QualityGate, FieldError> {
    let QualityGate { metric, min, max } = gate;
    let metric = match metric {
        Metric::Accuracy => describe::Metric::Accuracy,
        Metric::R2 => describe::Metric::R2,
        Metric::MeanAbsoluteError => describe::Metric::MeanAbsoluteError,
        Metric::RootMeanSquaredError => describe::Metric::RootMeanSquaredError,
    };
    let number = |bound: &Option<Decimal>| match bound {
        Some(bound) => bound.number().ok_or_else(|| FieldError::at(field, GATE_HAS_ITS_BOUND.1)).map(Some),
        None => Ok(None),
    };
    Ok(serving::QualityGate { metric, min: number(min)?, max: number(max)? })
}

/// A feature.
pub(crate) fn feature(feature: &Feature) -> schema::Feature {
    let Feature { name, r#type: _, values, min, max } = feature;
    let number = |bound: &Option<Decimal>| bound.as_ref().and_then(Decimal::number);
    schema::Feature {
        min: number(min),
        max: number(max),
        categories: values.clone().unwrap_or_default(),
        ..schema::Feature::named(name)
    }
}

/// The format of a model file.
pub(crate) fn format(format: ModelFormat) -> serving::ModelFormat {
    match format {
        ModelFormat::Onnx => serving::ModelFormat::Onnx,
        ModelFormat::LightGbm => serving::ModelFormat::LightGbm,
        ModelFormat::XgBoost => serving::ModelFormat::XgBoost,
        ModelFormat::Skops => serving::ModelFormat::Skops,
        ModelFormat::Canopy => serving::ModelFormat::Canopy,
    }
}

/// The examples.
pub(crate) fn examples(spec: &PredictorModelSpec) -> Result<Vec<serving::Example>, FieldError> {
    let of_entry = |(index, example): (usize, &Example)| {
        let Example { features, expected } = example;
        let features = features.iter().enumerate().map(|(column, found)| value(found, column, spec));
        let expected = self::expected(expected).map_err(|(_, message)| {
            FieldError::at(format!("{}.expected", entry("spec.examples", index)), message)
        })?;
        Ok(serving::Example { features: features.collect(), expected })
    };
    spec.examples.iter().flatten().enumerate().map(of_entry).collect()
}

/// A value in the row of an example. Only the spec can tell a category that looks like a number from a number.
fn value(value: &ExampleValue, column: usize, spec: &PredictorModelSpec) -> serving::ExampleValue {
    let feature = spec.features.as_ref().and_then(|features| features.get(column));
    let is_category = feature.is_some_and(|feature| feature.r#type == Some(FeatureType::Categorical));
    match value {
        ExampleValue::Text(text) if text.is_empty() => serving::ExampleValue::Missing,
        ExampleValue::Whole(number) if is_category => serving::ExampleValue::Category(number.to_string()),
        ExampleValue::Text(text) if is_category => serving::ExampleValue::Category(text.clone()),
        ExampleValue::Whole(number) => serving::ExampleValue::Number(*number as f64),
        ExampleValue::Text(text) => match Decimal::Text(text.clone()).number() {
            Some(number) => serving::ExampleValue::Number(number),
            None => serving::ExampleValue::Category(text.clone()),
        },
    }
}

fn expected(expected: &Expected) -> Result<serving::Expected, (&'static str, &'static str)> {
    let Expected { class, label, value, tolerance } = expected;
    let number = |decimal: &Option<Decimal>, rule| match decimal {
        Some(decimal) => decimal.number().ok_or(rule).map(Some),
        None => Ok(None),
    };
    Ok(serving::Expected {
        class: *class,
        label: label.clone(),
        value: number(value, ONE_EXPECTED_ANSWER)?,
        tolerance: number(tolerance, TOLERANCE_OF_A_VALUE)?,
    })
}
