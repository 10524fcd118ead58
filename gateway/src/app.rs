//! Everything a gateway is made of, wired.
//!
//! Comes in: settings and a registry. Goes out: the parts that requests pass through. Never: a difference
//! between a gateway of its own, one inside `canopy up`, and one in a test.

use std::sync::Arc;
use std::time::Duration;

use canopy_contract::names::ModelRef;
use prometheus::Registry;

use crate::catalogue::{Catalogue, Served};
use crate::directory::{Directory, DirectoryError};
use crate::failure::{Failure, told_back};
use crate::metrics::{Metrics, Series};
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// Why a gateway could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings name models that cannot be.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metrics are registered already.
    #[error("failed to register the metrics of the gateway: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A gateway, without the socket it listens on.
pub struct App {
    namespace: String,
    default_model: ModelRef,
    pub(crate) limits: Limits,
    pub(crate) catalogue: Catalogue,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    /// Counts what is about no model.
    pub(crate) series: Series,
}

/// What one request may take.
pub(crate) struct Limits {
    pub(crate) body_bytes: usize,
    pub(crate) body_time: Duration,
    pub(crate) upstream_time: Duration,
}

impl App {
    /// The gateway that `settings` describe; its metrics go into `registry`. Returns when the database is
    /// ready; predictors are not asked before somebody asks for their models.
    pub async fn open(settings: &Settings, registry: &Registry) -> Result<Arc<Self>, OpenError> {
        let directory = Directory::new(settings)?;
        for model in directory.outside() {
            tracing::warn!(%model, "named in CANOPY_PREDICTORS but not served: CANOPY_NAMESPACES lacks its namespace");
        }
        let metrics = Arc::new(Metrics::register(registry)?);
        Ok(Arc::new(Self {
            namespace: settings.namespace.clone(),
            default_model: directory.default_model.clone(),
            limits: Limits {
                body_bytes: settings.max_body_bytes,
                body_time: settings.body_timeout,
                upstream_time: settings.upstream_timeout,
            },
            catalogue: Catalogue::new(&directory, &metrics),
            store: Store::open(settings.database_url.as_deref()).await?,
            series: metrics.of_no_model(),
            metrics,
        }))
    }

    /// The model that a caller calls `name`. A name that cannot be one is as unknown as any other.
    pub(crate) fn named(&self, name: &str) -> Result<&Arc<Served>, Failure> {
        let model = ModelRef::parse(name, &self.namespace).ok();
        let served = model.as_ref().and_then(|model| self.catalogue.find(model));
        served.ok_or_else(|| Failure::UnknownModel(told_back(name)))
    }

    /// The model that a caller who names none asks for.
    pub(crate) fn default(&self) -> Result<&Arc<Served>, Failure> {
        let served = self.catalogue.find(&self.default_model);
        served.ok_or_else(|| Failure::UnknownModel(self.default_model.to_string()))
    }
}
