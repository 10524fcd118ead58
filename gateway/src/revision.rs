//! One revision of a model, parsed and validated from `GET /model`, with the values that each response needs.

use std::collections::BTreeSet;

use canopy_contract::describe::{ModelDescription, Task};
use canopy_contract::names::ModelRef;
use canopy_contract::schema::{CategoryNumbers, Class};
use http::HeaderValue;

use crate::metrics::{Metrics, Series};

/// The longest version, in characters, as in the `PredictorModel`.
const VERSION_MAX: usize = 128;
/// The longest revision, in characters, as for a label of Kubernetes and for the database column.
const REVISION_MAX: usize = 63;
/// The length of a number in a response, in bytes.
const NUMBER_BYTES: usize = 24;

/// A revision of a model.
pub(crate) struct Revision {
    pub(crate) description: ModelDescription,
    /// The revision as a header value.
    pub(crate) header: HeaderValue,
    pub(crate) series: Series,
    /// The names of the classes, if each has one of its own.
    pub(crate) class_names: Option<Vec<String>>,
    /// Whether the name of a category is a number.
    pub(crate) has_numbers_as_categories: bool,
}

/// The names of the classes, if each has one of its own.
fn class_names(classes: &[Class]) -> Option<Vec<String>> {
    let names: Option<Vec<_>> = classes.iter().map(|class| class.name().map(str::to_owned)).collect();
    names.filter(|names| names.iter().collect::<BTreeSet<_>>().len() == names.len())
}

impl Revision {
    /// How many numbers the response has for each row, beyond the class with its probability or the only value. Names that are
    /// longer than a number count as more.
    pub(crate) fn outputs(&self, probabilities: bool) -> usize {
        let about = &self.description;
        let (count, names) = match &self.class_names {
            Some(names) if probabilities => (names.len(), names),
            _ if probabilities => return about.classes.len(),
            _ => (about.outputs.len(), &about.outputs),
        };
        let bytes: usize = names.iter().map(String::len).sum();
        count.max(bytes / NUMBER_BYTES)
    }

    /// Parses the body of `GET /model` and checks that it describes `model`.
    pub(crate) fn parse(body: &[u8], model: &ModelRef, metrics: &Metrics) -> Result<Self, String> {
        let description: ModelDescription = serde_json::from_slice(body)
            .map_err(|error| format!("/model is no description of a model: {error}"))?;
        let ModelDescription {
            model: name,
            namespace,
            version,
            revision,
            task,
            features,
            classes,
            outputs,
            quality: _,
            digest: _,
        } = &description;
        if *name != model.name || *namespace != model.namespace {
            return Err(format!(
                "it serves model {name}.{namespace} instead of {model}; check CANOPY_PREDICTORS"
            ));
        }
        if features.is_empty() || classes.is_empty() && *task == Task::Classification {
            return Err("/model has no features or no classes".to_owned());
        }
        if !classes.is_empty() && *task == Task::Regression {
            return Err("/model has classes, but the model is a regression".to_owned());
        }
        for (what, text, max) in [("version", version, VERSION_MAX), ("revision", revision, REVISION_MAX)] {
            if text.chars().count() > max || text.chars().any(char::is_control) {
                return Err(format!(
                    "the {what} in /model must have at most {max} characters and no control characters"
                ));
            }
        }
        let header = HeaderValue::from_str(revision)
            .map_err(|_| format!("the revision {revision:?} in /model is no valid header value"))?;
        let outputs: BTreeSet<_> = outputs.iter().collect();
        if outputs.len() != description.outputs.len() || outputs.len() == 1 {
            return Err("/model must have no outputs, or several with unique names".to_owned());
        }
        let class_names = class_names(classes);
        let has_numbers_as_categories =
            features.iter().any(|feature| CategoryNumbers::new(feature).has_names());
        let series = metrics.series_of(model, version);
        Ok(Self { description, header, series, class_names, has_numbers_as_categories })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(change: impl FnOnce(&mut Value)) -> Result<Revision, String> {
        let mut body = json!({
            "model": "iris", "namespace": "shop", "version": "1.0", "revision": "6f3a9c1e",
            "task": "Classification", "features": [{"name": "x"}], "classes": [0, 1],
            "quality": {"metric": "Accuracy", "value": 0.9, "samples": 30}, "digest": "00",
        });
        change(&mut body);
        let metrics = Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap();
        Revision::parse(body.to_string().as_bytes(), &ModelRef::parse("iris", "shop").unwrap(), &metrics)
    }

    #[test]
    fn a_valid_description_is_accepted() {
        assert_eq!(read(|_| ()).unwrap().header, "6f3a9c1e");
        assert!(read(|body| body["version"] = json!("ä".repeat(128))).is_ok());
        let regression = |body: &mut Value| {
            body["task"] = json!("Regression");
            body["classes"] = json!([]);
            body.as_object_mut().unwrap().remove("quality");
        };
        assert!(read(regression).is_ok());
    }

    #[test]
    fn an_invalid_description_is_rejected_with_the_reason() {
        let check = |change: fn(&mut Value), why: &str| {
            let error = read(change).err().unwrap_or_default();
            assert!(error.contains(why), "{error:?} instead of {why:?}");
        };
        check(
            |body| body["model"] = json!("demo"),
            "it serves model demo.shop instead of iris.shop; check CANOPY_PREDICTORS",
        );
        check(
            |body| body["namespace"] = json!("test"),
            "it serves model iris.test instead of iris.shop; check CANOPY_PREDICTORS",
        );
        check(|body| body["features"] = json!([]), "no features or no classes");
        check(|body| body["classes"] = json!([]), "no features or no classes");
        check(|body| body["task"] = json!("Regression"), "has classes, but the model is a regression");
        check(
            |body| body["revision"] = json!("a\nb"),
            "the revision in /model must have at most 63 characters",
        );
        check(
            |body| body["revision"] = json!("a".repeat(64)),
            "the revision in /model must have at most 63 characters",
        );
        check(
            |body| body["version"] = json!("a".repeat(129)),
            "the version in /model must have at most 128 characters",
        );
        check(
            |body| body["version"] = json!("\u{7}"),
            "the version in /model must have at most 128 characters",
        );
        check(|body| body["task"] = json!("Guessing"), "no description of a model: unknown variant");
        check(|body| *body = json!([]), "no description of a model");
        check(|body| body["outputs"] = json!(["a", "a"]), "no outputs, or several with unique names");
        check(|body| body["outputs"] = json!(["a"]), "no outputs, or several with unique names");
    }
}
