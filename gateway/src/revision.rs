//! What the gateway knows of one revision of a model.
//!
//! Comes in: what a predictor says of itself. Goes out: the same, checked, with what each answer needs made
//! ready. Never: a description of another model than the one that was asked about.

use canopy_contract::describe::ModelDescription;
use canopy_contract::names::ModelRef;
use http::HeaderValue;

use crate::metrics::{Metrics, Series};

/// How many characters a version may have: as many as the resource of a model takes.
const VERSION_MAX: usize = 128;
/// How many a revision may have: a label of Kubernetes, and the column of the database, have as many.
const REVISION_MAX: usize = 63;

/// One revision of a model.
pub(crate) struct Revision {
    pub(crate) description: ModelDescription,
    /// The description's revision, as a header.
    pub(crate) header: HeaderValue,
    pub(crate) series: Series,
}

impl Revision {
    /// Takes the body of a predictor's `GET /model`, if it is about `model`.
    pub(crate) fn parse(body: &[u8], model: &ModelRef, metrics: &Metrics) -> Result<Self, String> {
        let description: ModelDescription = serde_json::from_slice(body)
            .map_err(|error| format!("its /model is no description of a model: {error}"))?;
        let ModelDescription { model: name, namespace, version, revision, features, classes, .. } =
            &description;
        if *name != model.name || *namespace != model.namespace {
            return Err(format!("it serves {name}.{namespace}; see CANOPY_PREDICTORS"));
        }
        if features.is_empty() || classes.is_empty() {
            return Err("its /model has no features or no classes".to_owned());
        }
        for (what, text, max) in [("version", version, VERSION_MAX), ("revision", revision, REVISION_MAX)] {
            if text.chars().count() > max || text.chars().any(char::is_control) {
                return Err(format!(
                    "its /model has a {what} with more than {max} characters, or with control characters"
                ));
            }
        }
        let header = HeaderValue::from_str(revision)
            .map_err(|_| format!("its /model has the revision {revision:?}, which cannot be a header"))?;
        Ok(Self { header, series: metrics.series_of(model, version), description })
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
    fn a_description_of_the_model_is_taken() {
        assert_eq!(read(|_| ()).unwrap().header, "6f3a9c1e");
        assert!(read(|body| body["version"] = json!("ä".repeat(128))).is_ok());
    }

    #[test]
    fn a_description_that_answers_cannot_rest_on_is_not() {
        let check = |change: fn(&mut Value), why: &str| {
            let error = read(change).err().unwrap_or_default();
            assert!(error.contains(why), "{error:?} instead of {why:?}");
        };
        check(|body| body["model"] = json!("demo"), "it serves demo.shop; see CANOPY_PREDICTORS");
        check(|body| body["namespace"] = json!("test"), "it serves iris.test; see CANOPY_PREDICTORS");
        check(|body| body["features"] = json!([]), "no features or no classes");
        check(|body| body["classes"] = json!([]), "no features or no classes");
        check(|body| body["revision"] = json!("a\nb"), "a revision with more than 63 characters, or");
        check(|body| body["revision"] = json!("a".repeat(64)), "a revision with more than 63 characters, or");
        check(|body| body["version"] = json!("a".repeat(129)), "a version with more than 128 characters, or");
        check(|body| body["version"] = json!("\u{7}"), "a version with more than 128 characters, or");
        check(|body| body["task"] = json!("Guessing"), "no description of a model: unknown variant");
        check(|body| *body = json!([]), "no description of a model");
    }
}
