//! A model that was trained elsewhere: its file, examples of its answers, and its evaluation.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]
#![expect(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::quality::QualityGate;
use crate::source::{Csv, LABEL_MAX, Rule, Source};

/// The most values in the row of an example, one for each feature.
const VALUES_MAX: u32 = 1024;
/// The maximum index of a class.
const CLASS_MAX: u32 = 65_535;

pub(crate) const ONE_EXPECTED_ANSWER: Rule = (
    "[has(self.class), has(self.label), has(self.value)].filter(given, given).size() == 1",
    "exactly one of class, label and value must be given",
);
pub(crate) const TOLERANCE_OF_A_VALUE: Rule = (
    "!has(self.tolerance) || (has(self.value) && double(self.tolerance) >= 0.0)",
    "tolerance must be at least 0, and is only allowed with value",
);

/// A model file of another library.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Where the file is. Set exactly one of configMap and uri. A ConfigMap holds at most 1 MiB.
    pub source: Source,
    /// The format of the file. A file of another format is refused. Defaults to the format that its content shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ModelFormat")]
    pub format: Option<ModelFormat>,
}

/// The format of a model file. A model of MLflow is a folder, so it is not here: name the file in it.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelFormat {
    /// ONNX.
    #[serde(rename = "ONNX")]
    Onnx,
    /// The text format of LightGBM.
    #[serde(rename = "LightGBM")]
    LightGbm,
    /// The JSON or UBJ format of XGBoost.
    #[serde(rename = "XGBoost")]
    XgBoost,
    /// The format of skops for scikit-learn.
    Skops,
    /// An artifact of Canopy.
    Canopy,
}

/// A row with the answer that the model must give.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Example {
    /// One value for each feature, in the order of the features: a whole number, a decimal in quotes, the name of a
    /// category, or "" for a missing value.
    #[schemars(length(min = 1, max = VALUES_MAX))]
    pub features: Vec<ExampleValue>,
    /// The answer. Set exactly one of class, label and value.
    pub expected: Expected,
}

/// A value of an example as it is in the manifest. Text that is a decimal is a number, unless the feature is categorical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExampleValue {
    /// Without quotes.
    Whole(i64),
    /// In quotes.
    Text(String),
}

impl JsonSchema for ExampleValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ExampleValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "maxLength": LABEL_MAX})
    }
}

/// The answer that the model must give.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = ONE_EXPECTED_ANSWER, validation = TOLERANCE_OF_A_VALUE)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// The index of the class; the first is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 0, max = CLASS_MAX))]
    pub class: Option<u32>,
    /// The name of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = LABEL_MAX))]
    pub label: Option<String>,
    /// The value of a regression: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub value: Option<Decimal>,
    /// The greatest accepted difference to value: a whole number, or a decimal in quotes. Defaults to 0.00001 of the
    /// value, or to 0.00001 if the value is between -1 and 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub tolerance: Option<Decimal>,
}

/// How a model of another library is evaluated.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluate {
    /// Rows with the right answers. They should not be rows that the model was trained on.
    pub data: LabelledData,
    /// The quality that the model must have. A model that misses it never gets requests. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QualityGate")]
    pub gate: Option<QualityGate>,
}

/// Rows with the right answers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelledData {
    /// A CSV table with a header. Its columns besides the target are the features, in any order.
    pub csv: Csv,
}
