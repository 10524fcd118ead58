//! The features of a model.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::source::{LABEL_MAX, Rule};

const CATEGORIES_MAX: u32 = 1024;

pub(crate) const BOUNDS_ARE_IN_ORDER: Rule = (
    "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)",
    "min must not be greater than max",
);
pub(crate) const CATEGORIES_HAVE_VALUES: Rule = (
    "has(self.values) == (has(self.type) && self.type == 'Categorical')",
    "values must be given with type Categorical, and only with it",
);
pub(crate) const CATEGORIES_HAVE_NO_BOUNDS: Rule = (
    "!has(self.values) || (!has(self.min) && !has(self.max))",
    "min and max must not be given with values: they are bounds of numbers",
);

/// One feature of a model.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = BOUNDS_ARE_IN_ORDER,
    validation = CATEGORIES_HAVE_VALUES,
    validation = CATEGORIES_HAVE_NO_BOUNDS
)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// The name of the feature.
    #[schemars(length(min = 1, max = LABEL_MAX))]
    pub name: String,
    /// Whether the value is a number or one of a list of categories. Categorical is only for a model with artifact.
    /// Defaults to Numeric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "FeatureType")]
    pub r#type: Option<FeatureType>,
    /// The names of the categories; the first is what the model knows as 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Vec<String>",
        length(min = 1, max = CATEGORIES_MAX),
        inner(length(min = 1, max = LABEL_MAX))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub values: Option<Vec<String>>,
    /// The minimum value: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub min: Option<Decimal>,
    /// The maximum value: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub max: Option<Decimal>,
}

/// The kind of values of a feature.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeatureType {
    /// A number.
    Numeric,
    /// One of the values.
    Categorical,
}
