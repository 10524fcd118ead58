//! A number in a manifest: a whole number, or a decimal in quotes such as `"0.95"`.
//!
//! Kubernetes APIs have no floats, because two programs may format the same float differently.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the text of a decimal looks like. Two digits of exponent at most, so that every one of them is finite.
const PATTERN: &str = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$";
const LENGTH_MAX: u32 = 32;

/// A number as it stands in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Decimal {
    /// Without quotes.
    Whole(i64),
    /// In quotes.
    Text(String),
}

impl Decimal {
    /// The number, where the text is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(number) => Some(*number as f64),
            Self::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }
}

impl JsonSchema for Decimal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "pattern": PATTERN, "maxLength": LENGTH_MAX})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_a_whole_number_or_text_that_is_a_finite_number() {
        let number = |json| serde_json::from_str::<Decimal>(json).unwrap().number();
        assert_eq!(number("-10"), Some(-10.0));
        assert_eq!(number("\"0.95\""), Some(0.95));
        assert_eq!(number("\"1e3\""), Some(1000.0));
        assert_eq!(number("\"ten\""), None);
        assert_eq!(number("\"1e999\""), None);
        assert_eq!(number("\"NaN\""), None);
    }

    #[test]
    fn every_number_that_matches_the_pattern_is_finite() {
        let longest = format!("{}e99", "9".repeat(LENGTH_MAX as usize - 3));
        assert!(regex::Regex::new(PATTERN).unwrap().is_match(&longest));
        assert!(Decimal::Text(longest).number().is_some());
    }
}
