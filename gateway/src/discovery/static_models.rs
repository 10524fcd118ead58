//! The static models of the settings with the addresses of their predictors, and the namespaces that are served. Makes no
//! connections or look-ups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use canopy_contract::names::{ModelRef, NameError};

use crate::settings::{Predictor, Settings};
use crate::upstream::pool::ConnectionPool;

/// The static models, and the policy of namespaces.
pub(crate) struct StaticModels {
    /// The model of `/api/predict`.
    pub(crate) default_model: ModelRef,
    /// The gateway's namespace and the default model's.
    default_namespaces: BTreeSet<String>,
    namespaces: NamespacePolicy,
    endpoints: BTreeMap<ModelRef, Arc<ConnectionPool>>,
}

enum NamespacePolicy {
    Any,
    Listed(BTreeSet<String>),
}

impl NamespacePolicy {
    fn allows(&self, namespace: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(names) => names.contains(namespace),
        }
    }
}

/// Why the settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum StaticModelsError {
    /// A name is invalid.
    #[error("invalid model in {setting}: {error}")]
    Name {
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        error: NameError,
    },
    /// A model is given twice.
    #[error("model {0} appears twice in CANOPY_PREDICTORS; remove one entry")]
    Twice(ModelRef),
    /// A host is invalid.
    #[error("the host {host:?} of model {model} is no host name; correct CANOPY_PREDICTORS")]
    Host {
        /// The model.
        model: ModelRef,
        /// The host.
        host: String,
    },
}

impl StaticModels {
    /// Reads `settings`.
    pub(crate) fn new(settings: &Settings) -> Result<Self, StaticModelsError> {
        let own = settings.namespace.as_str();
        let named = |setting, name: &str| {
            ModelRef::parse(name, own).map_err(|error| StaticModelsError::Name { setting, error })
        };
        let default_model = named("CANOPY_DEFAULT_MODEL or CANOPY_NAMESPACE", &settings.default_model)?;
        let default_namespaces = BTreeSet::from([own.to_owned(), default_model.namespace.clone()]);
        let namespaces = match settings.namespaces.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            None => NamespacePolicy::Listed(default_namespaces.clone()),
            Some("*") => NamespacePolicy::Any,
            Some(list) => {
                NamespacePolicy::Listed(list.split(',').map(|name| name.trim().to_owned()).collect())
            }
        };
        let mut endpoints = BTreeMap::new();
        for Predictor { model, address } in &settings.predictors.0 {
            let model = named("CANOPY_PREDICTORS", model)?;
            let Some(endpoint) = ConnectionPool::new(address.clone()) else {
                return Err(StaticModelsError::Host { model, host: address.host.clone() });
            };
            if endpoints.insert(model.clone(), Arc::new(endpoint)).is_some() {
                return Err(StaticModelsError::Twice(model));
            }
        }
        Ok(Self { default_model, default_namespaces, namespaces, endpoints })
    }

    /// Whether models of `namespace` are served.
    pub(crate) fn allows(&self, namespace: &str) -> bool {
        self.namespaces.allows(namespace)
    }

    /// The namespaces that are served, or `None` if all are.
    pub(crate) fn allowed_namespaces(&self) -> Option<&BTreeSet<String>> {
        match &self.namespaces {
            NamespacePolicy::Any => None,
            NamespacePolicy::Listed(names) => Some(names),
        }
    }

    /// The namespaces whose models are listed.
    pub(crate) fn listed_namespaces(&self) -> &BTreeSet<String> {
        match &self.namespaces {
            NamespacePolicy::Any => &self.default_namespaces,
            NamespacePolicy::Listed(names) => names,
        }
    }

    /// Static models of namespaces that are served.
    pub(crate) fn models(&self) -> impl Iterator<Item = (&ModelRef, &Arc<ConnectionPool>)> {
        self.endpoints.iter().filter(|(model, _)| self.namespaces.allows(&model.namespace))
    }

    /// Static models of namespaces that are not served.
    pub(crate) fn not_served(&self) -> impl Iterator<Item = &ModelRef> {
        self.endpoints.keys().filter(|model| !self.namespaces.allows(&model.namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn static_models(change: impl FnOnce(&mut Settings)) -> Result<StaticModels, String> {
        let mut settings = Settings {
            predictors: "iris=http://h:1,iris.shop=http://h:2,iris.test=http://h:3".parse().unwrap(),
            ..Settings::default()
        };
        change(&mut settings);
        StaticModels::new(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn only_models_of_served_namespaces_exist() {
        let check = |change: fn(&mut Settings), found: &[&str], outside: &[&str]| {
            let static_models = static_models(change).unwrap();
            let names = |models: Vec<&ModelRef>| models.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(names(static_models.models().map(|(model, _)| model).collect()), found);
            assert_eq!(names(static_models.not_served().collect()), outside);
            let admitted = |namespace: &&str| static_models.allows(namespace);
            let listed = static_models.listed_namespaces().iter().map(String::as_str);
            assert!(listed.clone().all(|namespace| admitted(&namespace)), "{:?}", listed.collect::<Vec<_>>());
        };
        check(|_| (), &["iris.default"], &["iris.shop", "iris.test"]);
        check(|s| s.namespaces = Some(" ".into()), &["iris.default"], &["iris.shop", "iris.test"]);
        check(|s| s.default_model = "iris.shop".into(), &["iris.default", "iris.shop"], &["iris.test"]);
        check(|s| s.namespaces = Some("shop, test".into()), &["iris.shop", "iris.test"], &["iris.default"]);
        check(|s| s.namespaces = Some("*".into()), &["iris.default", "iris.shop", "iris.test"], &[]);
    }

    #[test]
    fn with_all_namespaces_only_the_default_ones_are_listed() {
        let check = |change: fn(&mut Settings), expected: &[&str]| {
            assert_eq!(
                static_models(change).unwrap().listed_namespaces().iter().collect::<Vec<_>>(),
                expected
            );
        };
        check(|_| (), &["default"]);
        check(|s| s.default_model = "iris.shop".into(), &["default", "shop"]);
        check(|s| s.namespaces = Some("test, shop".into()), &["shop", "test"]);
        check(
            |s| (s.namespaces, s.default_model) = (Some("*".into()), "iris.shop".into()),
            &["default", "shop"],
        );
    }

    #[test]
    fn invalid_settings_are_rejected_with_the_reason() {
        let check = |list: &str, why: &str| {
            let error = static_models(|settings| settings.predictors = list.parse().unwrap()).err();
            assert!(error.as_deref().unwrap_or_default().contains(why), "{list}: {error:?}");
        };
        check("Iris=http://h:1", "invalid model in CANOPY_PREDICTORS: model name \"Iris\" must be");
        check("iris=http://h:1,iris.default=http://h:2", "model iris.default appears twice");
        let error = static_models(|settings| settings.namespace = "No".into()).err().unwrap_or_default();
        assert!(error.starts_with("invalid model in CANOPY_DEFAULT_MODEL or CANOPY_NAMESPACE"), "{error}");
    }
}
