//! The state of one model in a process: loading, in self-test, serving, or refused. Once it serves it stays so; another
//! revision is another process.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use canopy_contract::names::{ModelName, REVISION_HEADER};
use canopy_contract::predict::Health;
use canopy_contract::report::Refusal;
use canopy_contract::serving::ServingConfig;
use canopy_runtime::server::body_memory::{self, BodyMemory};
use canopy_runtime::telemetry::log_limit::{LINES_PER_SECOND, LogLimit};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::error::Failure;
use crate::metrics::{Metrics, ModelLabels, RequestMetrics};
use crate::serving::admission::Admission;
use crate::serving::served_model::ServedModel;

/// The header of self-test requests, which a model answers before it serves others.
pub const PROOF_HEADER: HeaderName = HeaderName::from_static("canopy-proof");
/// The header with the revision, on every answer.
pub const REVISION: HeaderName = HeaderName::from_static(REVISION_HEADER);

/// What a request may cost before its body has been looked at.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest body.
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How many bytes of bodies may be held at once, over all requests; by default what memory allows.
    pub body_memory: Option<usize>,
    /// How many connections may be open at once; by default what the limit of descriptors allows.
    pub connections: Option<usize>,
}

/// What a model is called: on answers, metrics and log lines.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub model: ModelName,
    /// The namespace it lives in.
    pub namespace: String,
    /// Its version, as people label it.
    pub version: String,
    /// Its revision.
    pub revision: String,
}

impl Identity {
    /// The identity of the model that `config` describes.
    pub fn of(config: &ServingConfig) -> Self {
        let ServingConfig { model, namespace, version, revision, .. } = config.clone();
        Self { model, namespace, version, revision }
    }

    /// Its labels on metrics.
    pub fn labels(&self) -> ModelLabels<'_> {
        [self.model.as_str(), &self.namespace, &self.version]
    }
}

/// The secret by which a self-test request is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofToken(String);

impl ProofToken {
    /// A token that cannot be guessed: the standard library's hash keys come from the system's randomness.
    pub fn new() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let random = || RandomState::new().hash_one(0_u8);
        Self(format!("{:016x}{:016x}", random(), random()))
    }

    /// The token as the value of [`PROOF_HEADER`].
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ProofToken {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a model cannot have an app.
#[derive(Debug, thiserror::Error)]
#[error("revision {0:?} cannot stand in a header: it must be visible ASCII")]
pub struct InvalidRevision(String);

/// One model in a process; a clone is the same one.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    identity: Identity,
    revision: HeaderValue,
    limits: Limits,
    bodies: BodyMemory,
    requests: RequestMetrics,
    lines: LogLimit,
    heavy: Admission,
    /// Set once, when the model is proven: a request costs one load and no lock.
    proven: OnceLock<Arc<ServedModel>>,
    stage: Mutex<Stage>,
}

/// Where a model is that does not serve yet.
enum Stage {
    Loading,
    Proving(Arc<ServedModel>, ProofToken),
    Refused(String),
}

impl App {
    /// A model that is still to be loaded.
    pub fn new(identity: Identity, limits: Limits, metrics: &Metrics) -> Result<Self, InvalidRevision> {
        let revision = HeaderValue::try_from(&identity.revision)
            .map_err(|_| InvalidRevision(identity.revision.clone()))?;
        // Heavy requests share the CPUs; more of them at once would only be slower together.
        let heavy = std::thread::available_parallelism().map_or(1, usize::from);
        let body_memory = limits.body_memory.unwrap_or_else(|| body_memory::default_max(limits.body_bytes));
        Ok(Self(Arc::new(Inner {
            bodies: BodyMemory::new(body_memory, metrics.registry()),
            requests: metrics.requests(identity.labels()),
            identity,
            revision,
            limits,
            lines: LogLimit::per_second(LINES_PER_SECOND),
            heavy: Admission::new(heavy),
            proven: OnceLock::new(),
            stage: Mutex::new(Stage::Loading),
        })))
    }

    /// The model is loaded. Until it has passed the self-test, it answers only requests with the token.
    pub fn loaded(&self, model: ServedModel) -> ProofToken {
        let token = ProofToken::new();
        *self.stage() = Stage::Proving(Arc::new(model), token.clone());
        token
    }

    /// The model has reproduced its golden answer and serves from now on.
    pub fn proven(&self) {
        if let Stage::Proving(model, _) = &*self.stage() {
            drop(self.0.proven.set(model.clone()));
        }
    }

    /// The model will not serve. Returns the reason as it is reported everywhere.
    pub fn refused(&self, refusal: &Refusal) -> String {
        let reason = format!("{}: {}", refusal.code, refusal.message);
        *self.stage() = Stage::Refused(reason.clone());
        reason
    }

    /// The model for a request with these headers.
    pub fn model(&self, headers: &HeaderMap) -> Result<Arc<ServedModel>, Failure> {
        if let Some(model) = self.0.proven.get() {
            return Ok(model.clone());
        }
        let shown = headers.get(PROOF_HEADER);
        match &*self.stage() {
            Stage::Proving(model, token) if shown.is_some_and(|shown| shown == token.as_str()) => {
                Ok(model.clone())
            }
            Stage::Loading | Stage::Proving(..) => Err(Failure::NotReady("loading".to_owned())),
            Stage::Refused(reason) => Err(Failure::NotReady(reason.clone())),
        }
    }

    /// Whether the model serves, and if not, why.
    pub fn health(&self) -> Health {
        let serving = self.0.proven.get().is_some();
        let (trained, reason) = match &*self.stage() {
            _ if serving => (true, None),
            Stage::Loading => (false, Some("loading".to_owned())),
            Stage::Proving(..) => (true, Some("proving".to_owned())),
            Stage::Refused(reason) => (false, Some(reason.clone())),
        };
        Health {
            status: if serving { "healthy" } else { "unhealthy" }.to_owned(),
            model: self.0.identity.model.to_string(),
            version: self.0.identity.version.clone(),
            trained,
            reason,
        }
    }

    /// What the model is called.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// What a request may cost.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The bodies that are held.
    pub fn bodies(&self) -> &BodyMemory {
        &self.0.bodies
    }

    /// The value of [`REVISION`].
    pub fn revision(&self) -> HeaderValue {
        self.0.revision.clone()
    }

    /// Counts how requests end.
    pub fn requests(&self) -> &RequestMetrics {
        &self.0.requests
    }

    /// How many lines of log predictions may have.
    pub fn lines(&self) -> &LogLimit {
        &self.0.lines
    }

    /// Admission of heavy work.
    pub fn heavy(&self) -> &Admission {
        &self.0.heavy
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        // A stage is replaced whole, so a poisoned lock holds a good one.
        self.0.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
