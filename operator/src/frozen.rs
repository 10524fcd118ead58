//! What a revision is made from, fixed when it is made: the serving config and the template of its pods.
//!
//! Comes in: both, or the `ConfigMap` that keeps them. Goes out: the same, byte for byte. Never: a default of
//! this version of the operator put into a revision that an earlier one made; that would restart its pods.

use canopy_contract::serving::ServingConfig;
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};

/// The key of the `ConfigMap` with the serving config, and so the name of the file that pods read.
pub const SERVING_KEY: &str = "serving.json";
/// The key of the `ConfigMap` with the template of the pods.
pub const POD_KEY: &str = "pod.json";

/// The serving config and the pod template of one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Frozen {
    /// The serving config as text.
    pub serving: String,
    /// The pod template as text.
    pub pod: String,
    /// The version of the model, as people label it.
    pub version: String,
    /// The pod template.
    pub template: PodTemplateSpec,
}

impl Frozen {
    /// Freezes a serving config and a pod template.
    pub fn new(serving: &ServingConfig, template: PodTemplateSpec) -> Result<Self, serde_json::Error> {
        Ok(Self {
            serving: serde_json::to_string_pretty(serving)?,
            pod: serde_json::to_string(&template)?,
            version: serving.version.clone(),
            template,
        })
    }

    /// Reads what was frozen; nothing where the `ConfigMap` has something else.
    pub fn read(config_map: &ConfigMap) -> Option<Self> {
        let data = config_map.data.as_ref()?;
        let (serving, pod) = (data.get(SERVING_KEY)?.clone(), data.get(POD_KEY)?.clone());
        // The serving config may be one that only an earlier predictor reads; its version is all that matters here.
        let config: serde_json::Value = serde_json::from_str(&serving).ok()?;
        let version = config.get("version")?.as_str()?.to_owned();
        let template = serde_json::from_str(&pod).ok()?;
        Some(Self { serving, pod, version, template })
    }
}
