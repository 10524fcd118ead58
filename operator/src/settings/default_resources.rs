//! Default resources of predictor containers, for models that set none.
//!
//! Only new revisions use them; the pods of existing revisions do not change.

use std::collections::BTreeMap;
use std::str::FromStr;

use canopy_resource::placement::Resources;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;

/// Default resources of the two containers of a predictor.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultResources {
    /// Of the init container that trains.
    pub prepare: Resources,
    /// Of the container that serves.
    pub serve: Resources,
}

/// An invalid value of `--predictor-resources`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be JSON with the resources of both containers, as in \
     {{\"prepare\": {{\"limits\": {{\"memory\": \"2Gi\"}}}}, \"serve\": {{\"requests\": {{\"cpu\": \"10m\"}}}}}}: {0}"
)]
pub struct DefaultResourcesError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the members prepare and serve")]
struct Document {
    prepare: ContainerResources,
    serve: ContainerResources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerResources {
    requests: Option<BTreeMap<String, Quantity>>,
    limits: Option<BTreeMap<String, Quantity>>,
}

impl FromStr for DefaultResources {
    type Err = DefaultResourcesError;

    fn from_str(text: &str) -> Result<Self, DefaultResourcesError> {
        let Document { prepare, serve } =
            serde_json::from_str(text).map_err(|error| DefaultResourcesError(error.to_string()))?;
        let resources = |ContainerResources { requests, limits }| Resources { requests, limits };
        Ok(Self { prepare: resources(prepare), serve: resources(serve) })
    }
}

impl Default for DefaultResources {
    /// Small requests, so that a small cluster can run many small models, and no CPU limit, because throttling slows
    /// down requests. Training has a memory limit, because its memory depends on the data and the number of trees,
    /// which tenants choose.
    fn default() -> Self {
        let amounts = |pairs: &[(&str, &str)]| {
            Some(
                pairs
                    .iter()
                    .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
                    .collect(),
            )
        };
        let small = amounts(&[("cpu", "10m"), ("memory", "32Mi")]);
        Self {
            prepare: Resources { requests: small.clone(), limits: amounts(&[("memory", "2Gi")]) },
            serve: Resources { requests: small, limits: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_resources_replace_the_defaults_of_both_containers() {
        let text = r#"{"prepare": {"limits": {"memory": "1Gi"}}, "serve": {}}"#;
        let DefaultResources { prepare, serve } = text.parse().unwrap();
        let limit = [("memory".to_owned(), Quantity("1Gi".to_owned()))];
        assert_eq!(prepare, Resources { requests: None, limits: Some(limit.into()) });
        assert_eq!(serve, Resources::default());
    }

    #[test]
    fn unknown_or_missing_keys_are_refused() {
        for (text, expected) in [
            (r#"{"prepare": {}}"#, "missing field `serve`"),
            (r#"{"prepare": {"limit": {}}, "serve": {}}"#, "unknown field `limit`"),
            (r#"{"prepare": {}, "serve": {}, "train": {}}"#, "unknown field `train`"),
            ("2Gi", "expected an object with the members prepare and serve"),
        ] {
            let why = text.parse::<DefaultResources>().unwrap_err().to_string();
            assert!(why.starts_with("must be JSON") && why.contains(expected), "{why}");
        }
    }
}
