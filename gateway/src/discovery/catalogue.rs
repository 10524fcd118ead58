//! Every model there is: those that were named to the gateway, and those that DNS knows.
//!
//! Comes in: the name of a model, or the wish for all. Goes out: the models that are served. Never: a look-up for
//! a model that was named, or in a namespace that is not served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use canopy_contract::names::ModelRef;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::timeout_at;

use crate::discovery::registry::{Found, Missing};
use crate::discovery::static_models::Directory;
use crate::metrics::Metrics;
use crate::model::Served;
use crate::settings::Protection;
use crate::upstream::connection::Deadline;

/// How many models or namespaces are asked about at once for a list.
pub(crate) const AT_ONCE: usize = 16;

/// Every model there is.
pub(crate) struct Catalogue {
    pub(crate) directory: Directory,
    named: BTreeMap<ModelRef, Arc<Served>>,
    found: Option<Arc<Found>>,
}

/// The models of the namespaces that are listed.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) models: BTreeSet<ModelRef>,
    /// Namespaces that may have more, and why they are not listed.
    pub(crate) incomplete: BTreeMap<String, Gap>,
}

/// Why there may be models that are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// The answer of DNS was cut.
    Cut,
    /// DNS did not answer.
    NoAnswer,
    /// Every namespace is served, and DNS cannot say which there are.
    Unlisted,
}

impl Catalogue {
    /// The models that `directory` names, of which nothing is known yet, and those that are `found`.
    pub(crate) fn new(
        directory: Directory,
        found: Option<Arc<Found>>,
        protection: Protection,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let named = directory.models().map(|(model, endpoint)| {
            (model.clone(), Arc::new(Served::named(model.clone(), endpoint.clone(), protection, metrics)))
        });
        Self { named: named.collect(), found, directory }
    }

    /// The model called `model`.
    pub(crate) async fn find(&self, model: &ModelRef, deadline: Deadline) -> Result<Arc<Served>, Missing> {
        if let Some(served) = self.named.get(model) {
            return Ok(served.clone());
        }
        match &self.found {
            Some(found) if self.directory.admits(&model.namespace) => found.find(model, deadline).await,
            None | Some(_) => Err(Missing::Unknown),
        }
    }

    /// The models whose predictors the settings name; DNS is not asked about them.
    pub(crate) fn names(&self) -> BTreeSet<ModelRef> {
        self.named.keys().cloned().collect()
    }

    /// The model called `model`, for one question about it: it is not looked up again afterwards.
    pub(crate) async fn glance(&self, model: &ModelRef, deadline: Deadline) -> Result<Arc<Served>, Missing> {
        match (self.named.get(model), &self.found) {
            (Some(served), _) => Ok(served.clone()),
            (None, Some(found)) if self.directory.admits(&model.namespace) => {
                found.glance(model, deadline).await
            }
            (None, None | Some(_)) => Err(Missing::Unknown),
        }
    }

    /// The models that can be listed.
    pub(crate) async fn list(&self, deadline: Deadline) -> Listing {
        let mut listing = Listing { models: self.named.keys().cloned().collect(), ..Listing::default() };
        let Some(found) = &self.found else { return listing };
        if self.directory.named().is_none() {
            listing.incomplete.insert("*".to_owned(), Gap::Unlisted);
        }
        let ask = async |namespace: &String| {
            let asked = timeout_at(deadline.at, found.dns.models(namespace)).await;
            (namespace.clone(), asked.map_err(|_| format!("no answer within {:?}", deadline.after)).flatten())
        };
        let mut answers = stream::iter(self.directory.listed()).map(ask).buffer_unordered(AT_ONCE);
        while let Some((namespace, answer)) = answers.next().await {
            match answer {
                Ok(listed) => {
                    listing.models.extend(listed.models);
                    if listed.cut {
                        listing.incomplete.insert(namespace, Gap::Cut);
                    }
                }
                Err(cause) => {
                    tracing::debug!(namespace, cause, "the models of a namespace could not be listed");
                    listing.incomplete.insert(namespace, Gap::NoAnswer);
                }
            }
        }
        listing
    }
}
