//! A canonical form of values, as bytes for a digest: equal values have equal bytes.
//!
//! The form is defined here, so no version of a JSON library or of Kubernetes' types can change a digest.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

/// A value in its normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Normal {
    /// Text, or a number in the one spelling that this module gives it.
    Text(String),
    /// Values in an order that counts.
    List(Vec<Normal>),
    /// Values by name.
    Map(BTreeMap<String, Normal>),
}

impl Normal {
    /// Text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A whole number, or a switch as 0 or 1.
    pub(crate) fn whole(number: impl Into<u64>) -> Self {
        Self::Text(number.into().to_string())
    }

    /// A float, by its bits: both zeros are one.
    pub(crate) fn float(number: f64) -> Self {
        let number = if number == 0.0 { 0.0 } else { number };
        Self::Text(format!("{:016x}", number.to_bits()))
    }

    /// Members, without those that are absent.
    pub(crate) fn map<const N: usize>(members: [(&str, Option<Self>); N]) -> Self {
        let there = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Self::Map(there.collect())
    }

    /// A part of a Kubernetes object. Null, empty text and empty lists are absent, as Kubernetes has it; an empty
    /// object is not, since an empty label selector selects everything.
    pub(crate) fn json(value: &Value) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Bool(value) => Some(Self::text(if *value { "true" } else { "false" })),
            Value::Number(number) => Some(Self::text(number.to_string())),
            Value::String(text) => (!text.is_empty()).then(|| Self::text(text)),
            Value::Array(entries) => {
                let entries: Vec<_> = entries.iter().filter_map(Self::json).collect();
                (!entries.is_empty()).then_some(Self::List(entries))
            }
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| Some((name.clone(), Self::json(value)?));
                Some(Self::Map(members.iter().filter_map(member).collect()))
            }
        }
    }

    /// An amount in millionths, so that `20m` is `0.02` and `1Gi` is `1024Mi`.
    pub(crate) fn quantity(quantity: &Quantity) -> Self {
        Self::Text(millionths(&quantity.0).map_or_else(|| quantity.0.clone(), |amount| amount.to_string()))
    }

    /// Whether it is a map without members.
    pub(crate) fn is_empty_map(&self) -> bool {
        matches!(self, Self::Map(members) if members.is_empty())
    }

    /// The bytes. Each part begins with its kind and length, so distinct values have distinct bytes.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_text(text, into),
            Self::List(entries) => {
                into.extend(format!("l{}:", entries.len()).bytes());
                for entry in entries {
                    entry.write(into);
                }
            }
            Self::Map(members) => {
                into.extend(format!("m{}:", members.len()).bytes());
                for (name, value) in members {
                    write_text(name, into);
                    value.write(into);
                }
            }
        }
    }
}

fn write_text(text: &str, into: &mut Vec<u8>) {
    into.extend(format!("t{}:", text.len()).bytes());
    into.extend(text.bytes());
}

/// An amount in millionths; none where the text is no amount, or is not a whole number of them.
fn millionths(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit: u128 = match suffix {
        "m" => 1000,
        "" => 1_000_000,
        "k" => 1_000_000 * 1000,
        "M" => 1_000_000 * 1000_u128.pow(2),
        "G" => 1_000_000 * 1000_u128.pow(3),
        "T" => 1_000_000 * 1000_u128.pow(4),
        "P" => 1_000_000 * 1000_u128.pow(5),
        "E" => 1_000_000 * 1000_u128.pow(6),
        "Ki" => 1_000_000 * 1024,
        "Mi" => 1_000_000 * 1024_u128.pow(2),
        "Gi" => 1_000_000 * 1024_u128.pow(3),
        "Ti" => 1_000_000 * 1024_u128.pow(4),
        "Pi" => 1_000_000 * 1024_u128.pow(5),
        "Ei" => 1_000_000 * 1024_u128.pow(6),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let exact = digits.checked_mul(unit)?;
    (exact % scale == 0).then_some(exact / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bytes(value: &Normal) -> String {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn equal_quantities_have_the_same_form_and_different_ones_do_not() {
        let form = |text: &str| Normal::quantity(&Quantity(text.to_owned()));
        for (one, other) in [
            ("1", "1000m"),
            ("20m", "0.02"),
            ("1Gi", "1024Mi"),
            ("0.5G", "500M"),
            ("1.50", "1.5"),
            ("007", "7"),
        ] {
            assert_eq!(form(one), form(other), "{one} and {other}");
        }
        for (one, other) in [("1", "1m"), ("1Gi", "1G"), ("0.001m", "0.002m"), ("0.0001m", "0")] {
            assert_ne!(form(one), form(other), "{one} and {other}");
        }
        assert_eq!(form("many"), Normal::text("many"));
        let long = format!("{}Ti", "9".repeat(22));
        assert_eq!(form(&long), Normal::text(long));
    }

    #[test]
    fn fields_that_kubernetes_omits_are_absent_and_an_empty_selector_is_not() {
        let form = |value: &Value| Normal::json(value).map(|value| bytes(&value));
        assert_eq!(form(&json!({"a": null, "b": [], "c": ""})), form(&json!({})));
        assert_ne!(form(&json!({"labelSelector": {}})), form(&json!({})));
        assert_eq!(form(&json!({"a": 1, "b": [true]})).unwrap(), "m2:t1:at1:1t1:bl1:t4:true");
    }

    #[test]
    fn distinct_parts_have_distinct_forms() {
        let list =
            |texts: &[&str]| bytes(&Normal::List(texts.iter().map(|text| Normal::text(*text)).collect()));
        assert_ne!(list(&["ab", "c"]), list(&["a", "bc"]));
        assert_ne!(list(&["at1:b"]), list(&["a", "b"]));
        assert_eq!(bytes(&Normal::float(-0.0)), bytes(&Normal::float(0.0)));
        assert_ne!(bytes(&Normal::float(0.5)), bytes(&Normal::float(0.25)));
    }
}
