//! Whether gateways find the pods that serve, as the `EndpointSlice`s of their Service show it.
//!
//! Kubernetes needs a moment from a ready pod or a changed selector to the endpoint, so only a lack that lasts counts.
//! Since when it lasts is kept in memory: a restart only begins that moment anew, and what the status says already stays.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use canopy_contract::names::ModelName;
use canopy_resource::model::PredictorModel;
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::labels::{REVISION, pods_of_revision};
use crate::reason::Reason;
use crate::rollout::revisions::remaining;
use crate::state::{ObservedState, Reach};

/// How long Kubernetes may take from a ready pod to its endpoint.
const GRACE: Duration = Duration::from_secs(10);

/// Since when each model whose ready pods are no endpoints has been so, by its uid.
#[derive(Debug, Default)]
pub struct EndpointGaps(Mutex<HashMap<String, Timestamp>>);

impl EndpointGaps {
    /// Whether gateways find a pod of the model `name`.
    pub fn reach(
        &self,
        model: &PredictorModel,
        name: &ModelName,
        observed: &ObservedState,
        now: Timestamp,
    ) -> Reach {
        let uid = model.uid().unwrap_or_default();
        if !lacks_endpoints(&uid, name, observed) {
            self.all().remove(&uid);
            return Reach::Reached;
        }
        let since = *self.all().entry(uid).or_insert(now);
        let left = remaining(since, GRACE, now);
        if left.is_zero() || is_known(model) { Reach::Lost } else { Reach::Awaited(left) }
    }

    /// How many models there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets models that are gone.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.all().retain(|uid, _| is_there(uid));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long until the answer may be another though nothing happens.
pub fn requeue_after(observed: &ObservedState) -> Option<Duration> {
    if let Reach::Awaited(left) = observed.reach { Some(left) } else { None }
}

/// Whether pods of the revision that the Service selects are ready, and none of them is an endpoint. Endpoints of pods
/// that are gone do not count.
fn lacks_endpoints(uid: &str, name: &ModelName, observed: &ObservedState) -> bool {
    let Some(selector) = observed.selectors.get(&name.endpoints_service()) else { return false };
    // A selector that others changed is repaired, and reported as such.
    let intact = selector.get(REVISION).filter(|revision| *selector == pods_of_revision(uid, revision));
    let Some(seen) = intact.and_then(|revision| observed.revisions.get(revision)) else { return false };
    let mut ready = seen.pods.iter().filter(|pod| pod.ready).peekable();
    ready.peek().is_some() && !ready.any(|pod| observed.endpoints.contains(&pod.name))
}

/// Whether an earlier pass has said so, perhaps of another process.
fn is_known(model: &PredictorModel) -> bool {
    let conditions = model.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.reason == Reason::NoEndpoints.as_str())
}
