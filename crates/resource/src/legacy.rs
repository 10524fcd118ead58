//! The revision names of Canopy 0.1: a digest of the spec as it was spelled, and of the data.
//!
//! A revision that has such a name keeps it, so an upgrade retrains nothing. New revisions do not get one.

use canopy_contract::names::REVISION_DIGITS;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::model::PredictorModelSpec;

/// The name that Canopy 0.1 gave to a revision of this spec, this requested restart, and these data if there are any.
pub fn legacy(
    spec: &PredictorModelSpec,
    restarted_at: Option<&str>,
    data: Option<&[u8]>,
) -> Result<String, serde_json::Error> {
    // Fields that were added to the spec later are absent in the manifests that this compares, so they change nothing.
    let spec = PredictorModelSpec { replicas: None, retire_seconds: None, paused: None, ..spec.clone() };
    let spec = sorted(serde_json::to_value(spec)?).to_string();

    let mut digest = Sha256::new();
    // With its length first, nothing in the spec can pass for data.
    digest.update((spec.len() as u64).to_le_bytes());
    digest.update(&spec);
    if let Some(data) = data {
        digest.update([1]);
        digest.update(data);
    }
    if let Some(restarted_at) = restarted_at {
        digest.update([2]);
        digest.update(restarted_at);
    }
    let [a, b, c, d, ..] = <[u8; 32]>::from(digest.finalize());
    Ok(format!("{:0width$x}", u32::from_be_bytes([a, b, c, d]), width = REVISION_DIGITS))
}

/// The value with its members in alphabetical order, so that the order of fields in the code does not count.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(entries) => entries.into_iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Resources;
    use serde_json::json;

    fn spec(version: &str, forest: &Value) -> PredictorModelSpec {
        let train = json!({"data": {"synthetic": {"seed": 7}}, "algorithm": {"randomForest": forest}});
        serde_json::from_value(json!({"version": version, "train": train})).unwrap()
    }

    #[track_caller]
    fn check(version: &str, forest: &Value, data: Option<&str>, expected: &str) {
        assert_eq!(legacy(&spec(version, forest), None, data.map(str::as_bytes)).unwrap(), expected);
    }

    /// These are in the names of objects in people's clusters: if this test fails, every model is retrained.
    #[test]
    fn revisions_do_not_change_between_versions_of_canopy() {
        check("1.0", &json!({}), None, "7489dc56");
        check("1.0", &json!({"trees": 100}), None, "af5731cf");
        check("1.1", &json!({}), None, "38860050");
        check("1.0", &json!({}), Some(""), "13343746");
        check("1.0", &json!({}), Some("a,b\n1,2\n"), "af3a07c9");
        check("1.0", &json!({}), Some("a,b\n1,3\n"), "91fde7a2");
    }

    #[test]
    fn only_resources_and_restarts_change_the_legacy_name() {
        let same = spec("1.0", &json!({}));
        let mut moved = same.clone();
        (moved.replicas, moved.retire_seconds, moved.paused) = (Some(3), Some(0), Some(true));
        assert_eq!(legacy(&moved, None, None).unwrap(), "7489dc56");
        let mut changed = same.clone();
        changed.resources = Some(Resources::default());
        assert_ne!(legacy(&changed, None, None).unwrap(), "7489dc56");
        let restarted = |at| legacy(&same, Some(at), None).unwrap();
        assert_ne!(restarted("2026-01-01"), "7489dc56");
        assert_ne!(restarted("2026-01-01"), restarted("2026-01-02"));
    }

    #[test]
    fn the_order_of_members_does_not_count() {
        let (one, other) =
            (r#"{"a":{"y":1,"x":[{"d":1,"c":2}]},"b":0}"#, r#"{"b":0,"a":{"x":[{"c":2,"d":1}],"y":1}}"#);
        let text = |json| sorted(serde_json::from_str(json).unwrap()).to_string();
        assert_eq!(text(one), text(other));
    }
}
