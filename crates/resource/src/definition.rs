//! The `CustomResourceDefinition` as YAML, generated from the types.

use kube::CustomResourceExt as _;

use crate::model::PredictorModel;

/// The `CustomResourceDefinition` of `PredictorModel`, as YAML.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&PredictorModel::crd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crd_in_deploy_matches_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crd.yaml");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == yaml().unwrap(), "deploy/crd.yaml differs from the types; run: cargo xtask generate");
    }

    #[test]
    fn the_crd_is_small_enough_for_kubectl_apply() {
        assert!(yaml().unwrap().len() < 100_000);
    }
}
