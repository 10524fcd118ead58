//! Whether gateways can discover the serving pods: compares ready pods with the `EndpointSlice`s of their Service.
//!
//! Kubernetes writes endpoints some time after a pod becomes ready or a selector changes, so missing endpoints count only
//! after a grace period. Its start is kept in memory: a restarted operator begins the period anew, unless the status has
//! the reason `NoEndpoints` already.

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

/// The longest time that Kubernetes may take to write the endpoint of a ready pod.
const GRACE: Duration = Duration::from_secs(10);

/// When each gap began: a time during which pods of a model are ready and none of them is an endpoint. The key is the
/// uid of the model.
#[derive(Debug, Default)]
pub struct EndpointGaps(Mutex<HashMap<String, Timestamp>>);

impl EndpointGaps {
    /// Whether gateways can discover a pod of the model `name`. Records when a gap began, and removes it when it ended.
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

    /// The number of models with a gap.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether no model has a gap.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes models that no longer exist.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.all().retain(|uid, _| exists(uid));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rest of the grace period, after which the result changes without an event of a watch.
pub fn requeue_after(observed: &ObservedState) -> Option<Duration> {
    if let Reach::Awaited(left) = observed.reach { Some(left) } else { None }
}

/// Whether pods of the revision that the Service selects are ready, and none of them is an endpoint. Endpoints of deleted
/// pods do not count.
fn lacks_endpoints(uid: &str, name: &ModelName, observed: &ObservedState) -> bool {
    let Some(selector) = observed.selectors.get(&name.endpoints_service()) else { return false };
    // A selector that was changed outside the operator is repaired and reported separately.
    let intact = selector.get(REVISION).filter(|revision| *selector == pods_of_revision(uid, revision));
    let Some(observed_revision) = intact.and_then(|revision| observed.revisions.get(revision)) else {
        return false;
    };
    let mut ready = observed_revision.pods.iter().filter(|pod| pod.ready).peekable();
    ready.peek().is_some() && !ready.any(|pod| observed.endpoints.contains(&pod.name))
}

/// Whether the status has the reason already. An earlier process may have written it.
fn is_known(model: &PredictorModel) -> bool {
    let conditions = model.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.reason == Reason::NoEndpoints.as_str())
}
