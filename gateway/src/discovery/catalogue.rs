//! All models: static ones and those discovered by DNS. Static models, and namespaces that are not served, are never looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use canopy_contract::names::ModelRef;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::timeout_at;

use crate::discovery::registry::{LookupError, ModelRegistry};
use crate::discovery::static_models::StaticModels;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::settings::Resilience;
use crate::upstream::pool::Deadline;

/// How many models or namespaces are queried at once for a list.
pub(crate) const LIST_CONCURRENCY: usize = 16;

/// All models.
pub(crate) struct Catalogue {
    pub(crate) static_models: StaticModels,
    fixed: BTreeMap<ModelRef, Arc<Model>>,
    registry: Option<Arc<ModelRegistry>>,
}

/// The models of the listed namespaces.
#[derive(Default)]
pub(crate) struct ModelList {
    pub(crate) models: BTreeSet<ModelRef>,
    /// Namespaces that may have more models, and why.
    pub(crate) incomplete: BTreeMap<String, ListGap>,
}

/// Why a list may be incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListGap {
    /// The DNS response was truncated.
    Cut,
    /// DNS did not respond.
    NoAnswer,
    /// All namespaces are served, and DNS cannot enumerate them.
    Unlisted,
}

impl Catalogue {
    /// The static models, and those of `registry`.
    pub(crate) fn new(
        static_models: StaticModels,
        registry: Option<Arc<ModelRegistry>>,
        resilience: Resilience,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let fixed = static_models.models().map(|(id, endpoint)| {
            (id.clone(), Arc::new(Model::fixed(id.clone(), endpoint.clone(), resilience, metrics)))
        });
        Self { fixed: fixed.collect(), registry, static_models }
    }

    /// Finds the model called `id`, and keeps its endpoints up to date from then on.
    pub(crate) async fn find(&self, id: &ModelRef, deadline: Deadline) -> Result<Arc<Model>, LookupError> {
        if let Some(model) = self.fixed.get(id) {
            return Ok(model.clone());
        }
        match &self.registry {
            Some(registry) if self.static_models.allows(&id.namespace) => registry.find(id, deadline).await,
            None | Some(_) => Err(LookupError::Unknown),
        }
    }

    /// The static models.
    pub(crate) fn static_names(&self) -> BTreeSet<ModelRef> {
        self.fixed.keys().cloned().collect()
    }

    /// Finds the model called `id` for a single call, without keeping it up to date.
    pub(crate) async fn find_once(
        &self,
        id: &ModelRef,
        deadline: Deadline,
    ) -> Result<Arc<Model>, LookupError> {
        match (self.fixed.get(id), &self.registry) {
            (Some(model), _) => Ok(model.clone()),
            (None, Some(registry)) if self.static_models.allows(&id.namespace) => {
                registry.find_once(id, deadline).await
            }
            (None, None | Some(_)) => Err(LookupError::Unknown),
        }
    }

    /// Lists the models.
    pub(crate) async fn list(&self, deadline: Deadline) -> ModelList {
        let mut listing = ModelList { models: self.fixed.keys().cloned().collect(), ..ModelList::default() };
        let Some(registry) = &self.registry else { return listing };
        if self.static_models.allowed_namespaces().is_none() {
            listing.incomplete.insert("*".to_owned(), ListGap::Unlisted);
        }
        let ask = async |namespace: &String| {
            let asked = timeout_at(deadline.at, registry.dns.models(namespace)).await;
            (namespace.clone(), asked.map_err(|_| format!("no answer within {:?}", deadline.after)).flatten())
        };
        let mut answers =
            stream::iter(self.static_models.listed_namespaces()).map(ask).buffer_unordered(LIST_CONCURRENCY);
        while let Some((namespace, answer)) = answers.next().await {
            match answer {
                Ok(listed) => {
                    listing.models.extend(listed.models);
                    if listed.is_truncated {
                        listing.incomplete.insert(namespace, ListGap::Cut);
                    }
                }
                Err(cause) => {
                    tracing::debug!(namespace, cause, "failed to list the models of a namespace");
                    listing.incomplete.insert(namespace, ListGap::NoAnswer);
                }
            }
        }
        listing
    }
}
