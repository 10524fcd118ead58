//! Checks a document against the `OpenAPI` schema of its kind, as the API server does.
//!
//! Bounds are defined only in the types from which the schema is generated.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt as _;
use regex::Regex;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::field_error::{FIELD_ERRORS_MAX, FieldError, entry, member};
use crate::model::PredictorModel;

/// The schema of a `PredictorModel`, with the metadata that the API server adds to it.
pub(crate) static PREDICTOR_MODEL: LazyLock<Value> = LazyLock::new(|| {
    let definition = json!(PredictorModel::crd());
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = of::<ObjectMeta>();
    schema["required"] = json!(["metadata", "spec"]);
    schema
});

/// The schema of a `ConfigMap`.
pub(crate) static CONFIG_MAP: LazyLock<Value> = LazyLock::new(of::<ConfigMap>);

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The errors of `value` in the order of the document; at most [`FIELD_ERRORS_MAX`].
pub(crate) fn check(value: &Value, schema: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    check_value("", value, schema, &mut faults);
    faults.truncate(FIELD_ERRORS_MAX);
    faults
}

fn check_value(field: &str, value: &Value, schema: &Value, faults: &mut Vec<FieldError>) {
    if let Some(expected) = wrong_kind(value, schema) {
        return faults.push(FieldError::at(field, format!("must be {expected}, but is {}", shown(value))));
    }
    if let Some(choices) = schema["enum"].as_array().filter(|choices| !choices.contains(value)) {
        let choices: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
        let why = format!("must be one of {}, but is {}", choices.join(", "), shown(value));
        return faults.push(FieldError::at(field, why));
    }
    match value {
        Value::Object(members) => check_object(field, members, schema, faults),
        Value::Array(entries) => check_list(field, entries, schema, faults),
        Value::String(text) => faults.extend(text_fault(text, schema).map(|why| FieldError::at(field, why))),
        Value::Number(number) => {
            let fault = number.as_f64().and_then(|number| number_fault(number, schema));
            faults.extend(fault.map(|why| FieldError::at(field, why)));
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// What the value should be, where it is something else.
fn wrong_kind(value: &Value, schema: &Value) -> Option<&'static str> {
    let (right, expected) = if schema["x-kubernetes-int-or-string"] == true {
        let expected = if schema["pattern"].is_null() {
            "a whole number, or text in quotes"
        } else {
            "a whole number, or a decimal in quotes"
        };
        (value.is_i64() || value.is_string(), expected)
    } else {
        match schema["type"].as_str() {
            Some("object") => (value.is_object(), "an object"),
            Some("array") => (value.is_array(), "a list"),
            Some("string") => (value.is_string(), "text, in quotes where it looks like something else"),
            Some("integer") => (value.is_i64(), "a whole number"),
            Some("boolean") => (value.is_boolean(), "true or false"),
            Some(_) | None => (true, ""),
        }
    };
    (!right).then_some(expected)
}

fn check_object(field: &str, members: &Map<String, Value>, schema: &Value, faults: &mut Vec<FieldError>) {
    let known = schema["properties"].as_object();
    for (name, value) in members {
        let below = member(field, name);
        if let Some(schema) = known.and_then(|known| known.get(name)) {
            check_value(&below, value, schema, faults);
        } else if let Some(known) = known {
            let known: Vec<_> = known.keys().map(String::as_str).collect();
            faults
                .push(FieldError::at(below, format!("unknown field; known fields are {}", known.join(", "))));
        } else {
            check_value(&below, value, &schema["additionalProperties"], faults);
        }
    }
    if let Some(most) = schema["maxProperties"].as_u64().filter(|most| members.len() as u64 > *most) {
        faults.push(FieldError::at(
            field,
            format!("must have at most {most} entries, but has {}", members.len()),
        ));
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required.filter(|name| !members.contains_key(*name)) {
        faults.push(FieldError::at(member(field, name), "is required"));
    }
}

fn check_list(field: &str, entries: &[Value], schema: &Value, faults: &mut Vec<FieldError>) {
    let bound = |name: &str| schema[name].as_u64().map(|bound| bound as usize);
    if let Some(most) = bound("maxItems").filter(|most| entries.len() > *most) {
        faults.push(FieldError::at(
            field,
            format!("must have at most {most} entries, but has {}", entries.len()),
        ));
    }
    if let Some(least) = bound("minItems").filter(|least| entries.len() < *least) {
        faults.push(FieldError::at(
            field,
            format!("must have at least {least} entries, but has {}", entries.len()),
        ));
    }
    for (index, value) in entries.iter().enumerate() {
        check_value(&entry(field, index), value, &schema["items"], faults);
    }
    let key = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => |_: &Value, entry: &Value| entry.clone(),
        Some("map") => |keys: &Value, entry: &Value| entry[keys[0].as_str().unwrap_or_default()].clone(),
        Some(_) | None => return,
    };
    let mut seen: Map<String, Value> = Map::new();
    for (index, value) in entries.iter().enumerate() {
        let key = key(&schema["x-kubernetes-list-map-keys"], value);
        // An entry without its key is reported separately.
        if key.is_null() {
            continue;
        }
        if let Some(first) = seen.insert(key.to_string(), index.into()) {
            let why = format!("{} is already in entry {first}", shown(&key));
            faults.push(FieldError::at(entry(field, index), why));
        }
    }
}

fn text_fault(text: &str, schema: &Value) -> Option<String> {
    let length = text.chars().count() as u64;
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        return Some(format!("must have at most {most} characters, but has {length}"));
    }
    if schema["minLength"].as_u64().is_some_and(|least| length < least) {
        return Some("must not be empty".to_owned());
    }
    let pattern = schema["pattern"].as_str()?;
    let fits = Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
    (!fits).then(|| format!("must match {pattern}, but is {text:?}"))
}

fn number_fault(number: f64, schema: &Value) -> Option<String> {
    if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
        return Some(format!("must be at most {most}, but is {number}"));
    }
    let least = schema["minimum"].as_f64().filter(|least| number < *least)?;
    Some(format!("must be at least {least}, but is {number}"))
}

/// The value as it may stand in a line of text.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let text = value.to_string();
            match text.char_indices().nth(60) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Keywords of a schema that are documentation, or that are checked elsewhere: rules by `rules`, `nullable`
    /// and not the default, which is what an absent value means anyway; null counts as absent.
    const NO_CHECK: [&str; 6] =
        ["description", "title", "format", "nullable", "default", "x-kubernetes-validations"];
    const CHECKED: [&str; 17] = [
        "type",
        "x-kubernetes-int-or-string",
        "enum",
        "properties",
        "additionalProperties",
        "maxProperties",
        "required",
        "items",
        "maxItems",
        "minItems",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "maxLength",
        "minLength",
        "pattern",
        "maximum",
        "minimum",
    ];

    fn keywords<'a>(schema: &'a Value, found: &mut BTreeSet<&'a str>) {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            found.insert(keyword);
            match keyword.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(|below| keywords(below, found)),
                "items" | "additionalProperties" => keywords(value, found),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_the_schema_of_the_crd_is_checked() {
        let mut found = BTreeSet::new();
        keywords(&PREDICTOR_MODEL["properties"]["spec"], &mut found);
        let understood: BTreeSet<_> = NO_CHECK.into_iter().chain(CHECKED).collect();
        assert_eq!(found.difference(&understood).collect::<Vec<_>>(), Vec::<&&str>::new());
        for keyword in CHECKED {
            assert!(found.contains(keyword), "{keyword} is obeyed, but stands nowhere");
        }
    }

    #[test]
    fn every_string_and_list_of_the_crd_has_a_maximum() {
        fn check(field: &str, schema: &Value) {
            let bound = match schema["type"].as_str() {
                Some("array") => &schema["maxItems"],
                Some("string") if schema["enum"].is_null() => &schema["maxLength"],
                Some("integer") => &schema["maximum"],
                _ if schema["x-kubernetes-int-or-string"] == true => &schema["maxLength"],
                _ => &Value::Bool(true),
            };
            assert!(!bound.is_null(), "{field} has no bound");
            // kubectl scale reads this one where it stands; any other would make old manifests look changed.
            assert!(schema["default"].is_null() || field == "spec.replicas", "{field} has a default");
            for (name, below) in schema["properties"].as_object().into_iter().flatten() {
                check(&member(field, name), below);
            }
            for below in [&schema["items"], &schema["additionalProperties"]] {
                if !below.is_null() {
                    check(&entry(field, 0), below);
                }
            }
        }
        check("spec", &PREDICTOR_MODEL["properties"]["spec"]);
    }
}
