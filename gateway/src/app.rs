//! The parts of a gateway and how they are wired: the same in a process of its own, in `canopy up`, and in tests.

use std::sync::Arc;
use std::time::Duration;

use canopy_contract::names::{ModelRef, NameError};
use canopy_runtime::metrics::Registry;
use canopy_runtime::server::body_memory::BodyMemory;

use crate::discovery::catalogue::Catalogue;
use crate::discovery::dns::{Dns, DnsSetupError};
use crate::discovery::listing::CachedListing;
use crate::discovery::registry::{LookupError, ModelRegistry};
use crate::discovery::series_retirement::retire;
use crate::discovery::static_models::{StaticModels, StaticModelsError};
use crate::error::{ApiError, UpstreamError, truncated};
use crate::metrics::{Metrics, Series};
use crate::model::Model;
use crate::recording::queue::Recorder;
use crate::settings::Settings;
use crate::store::{Store, StoreError};
use crate::upstream::pool::Deadline;

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings of models are invalid.
    #[error(transparent)]
    StaticModels(#[from] StaticModelsError),
    /// DNS cannot be used.
    #[error(transparent)]
    Dns(#[from] DnsSetupError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metrics are registered already.
    #[error("failed to register the metrics of the gateway: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A gateway without its listening socket.
pub struct App {
    namespace: String,
    default_model: ModelRef,
    /// The name of the default model for error messages.
    default_model_name: String,
    pub(crate) limits: Limits,
    pub(crate) catalogue: Catalogue,
    /// The cached list of models.
    pub(crate) listing: CachedListing,
    pub(crate) store: Store,
    /// Whether clients may read the database.
    shows_records: bool,
    /// `None` without a database.
    pub(crate) recorder: Option<Recorder>,
    pub(crate) metrics: Arc<Metrics>,
    /// The series of requests without a model.
    pub(crate) series: Series,
}

/// The limits of requests.
pub(crate) struct Limits {
    pub(crate) body_bytes: usize,
    /// The memory for the bodies of all requests.
    pub(crate) bodies: BodyMemory,
    pub(crate) body_time: Duration,
    pub(crate) upstream_time: Duration,
}

impl App {
    /// Opens a gateway and registers its metrics. Returns when the database is ready; predictors are contacted on the first request.
    pub async fn open(settings: &Settings, registry: &Registry) -> Result<Arc<Self>, OpenError> {
        let static_models = StaticModels::new(settings)?;
        for model in static_models.not_served() {
            tracing::warn!(%model, "named in CANOPY_PREDICTORS but not served: CANOPY_NAMESPACES lacks its namespace");
        }
        let metrics = Arc::new(Metrics::register(registry)?);
        let dns = Dns::new(settings)?;
        let store =
            Store::open(settings.database_url.as_deref(), settings.recording.tuning.query_timeout).await?;
        let recorder = match &store {
            Store::Seed => None,
            Store::Database(records) => Some(Recorder::start(records, &settings.recording, &metrics)),
        };
        let model_registry =
            dns.map(|dns| ModelRegistry::new(dns, &settings.tuning, settings.resilience, &metrics));
        let weak_registry = model_registry.as_ref().map(Arc::downgrade);
        let catalogue = Catalogue::new(static_models, model_registry, settings.resilience, &metrics);
        if let Some(weak_registry) = weak_registry {
            let static_names = catalogue.static_names();
            let is_static = move |model: &ModelRef| static_names.contains(model);
            tokio::spawn(retire(weak_registry, is_static, metrics.clone(), settings.tuning.clone()));
        }
        Ok(Arc::new(Self {
            namespace: settings.namespace.clone(),
            default_model_name: catalogue.static_models.default_model.to_string(),
            default_model: catalogue.static_models.default_model.clone(),
            limits: Limits {
                body_bytes: settings.max_body_bytes,
                bodies: BodyMemory::new(settings.body_memory(), registry),
                body_time: settings.body_timeout,
                upstream_time: settings.upstream_timeout,
            },
            catalogue,
            listing: CachedListing::new(settings.tuning.listing_ttl),
            store,
            shows_records: settings.list_predictions,
            recorder,
            series: metrics.series_without_model(),
            metrics,
        }))
    }

    /// Ends background work after the last request, within `limit`.
    pub async fn close(&self, limit: Duration) {
        if let Some(recorder) = &self.recorder {
            recorder.close(limit).await;
        }
    }

    /// The recorder, or an error without a database.
    pub(crate) fn recorder(&self) -> Result<&Recorder, ApiError> {
        self.recorder.as_ref().ok_or(ApiError::StoreNotConfigured)
    }

    /// Refuses to show recorded data unless enabled: clients are not authenticated.
    pub(crate) fn may_show_records(&self) -> Result<(), ApiError> {
        if self.shows_records { Ok(()) } else { Err(ApiError::ListingDisabled) }
    }

    /// The model called `name`. An invalid name is an unknown model.
    pub(crate) async fn named(&self, name: &str, deadline: Deadline) -> Result<Arc<Model>, ApiError> {
        match self.reference(name) {
            Ok(model) => self.find(&model, name, deadline).await,
            Err(_) => Err(ApiError::UnknownModel(truncated(name))),
        }
    }

    /// Parses the name of a model.
    pub(crate) fn reference(&self, name: &str) -> Result<ModelRef, NameError> {
        ModelRef::parse(name, &self.namespace)
    }

    /// The default model.
    pub(crate) async fn default(&self, deadline: Deadline) -> Result<Arc<Model>, ApiError> {
        self.find(&self.default_model, &self.default_model_name, deadline).await
    }

    async fn find(&self, id: &ModelRef, asked: &str, deadline: Deadline) -> Result<Arc<Model>, ApiError> {
        let found = self.catalogue.find(id, deadline).await;
        let model = found.map_err(|missing| match missing {
            LookupError::Unknown => ApiError::UnknownModel(truncated(asked)),
            LookupError::DnsFailed(why) => {
                let error = UpstreamError::Unreachable { why, delivered: false };
                ApiError::Upstream { model: id.clone(), endpoint: None, error }
            }
        })?;
        model.touch();
        Ok(model)
    }
}
