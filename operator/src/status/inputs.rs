//! Inputs of the status: what is known of a model at the end of a reconcile. User-facing text is produced in
//! `blockers` and `conditions`.

use std::collections::BTreeSet;

use canopy_contract::report::{Prepared, Report};
use canopy_resource::status::RefusedRevision;
use jiff::Timestamp;

use crate::labels;
use crate::reason::Diagnosis;
use crate::rollout::revisions::Rollout;
use crate::spec::{DesiredState, Target};
use crate::state::{ObservedDeployment, ObservedPod, ObservedState, Reach};

/// Result of writing the children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// The children match the desired state.
    Applied,
    /// `paused` is set; nothing was written.
    Paused,
    /// An object could not be written.
    Blocked(Diagnosis),
}

/// Inputs of the status of a model.
#[derive(Clone, Copy, Debug)]
pub struct StatusInputs<'a> {
    /// Desired state.
    pub desired: &'a DesiredState,
    /// Observed state.
    pub observed: &'a ObservedState,
    /// Rollout decision.
    pub rollout: &'a Rollout,
    /// Result of writing the children.
    pub outcome: &'a ApplyOutcome,
    /// The refusal in force; `status` computes it.
    pub refused: Option<&'a RefusedRevision>,
    /// Whether the model was Ready in the previous status; `status` sets it.
    pub was_ready: bool,
    /// Whether it was Available; `status` sets it.
    pub was_available: bool,
    /// Current time.
    pub now: Timestamp,
}

impl<'a> StatusInputs<'a> {
    /// The revision that the spec asks for.
    pub fn target(&self) -> Option<&'a Target> {
        self.desired.target.as_ref().ok()
    }

    /// The serving revision.
    pub fn serving(&self) -> Option<&'a str> {
        self.rollout.serving.as_deref()
    }

    /// The Deployment of a revision.
    pub fn deployment(&self, revision: &str) -> Option<&'a ObservedDeployment> {
        self.observed.revisions.get(revision)?.deployment.as_ref()
    }

    /// A Service that, as last observed, does not select the pods of `revision`. A decision or a write takes effect
    /// only once it is observed.
    pub fn misdirected(&self, revision: &str) -> Option<String> {
        let services = [self.desired.name.endpoints_service(), self.desired.name.stable_service()];
        services.into_iter().find(|service| !self.selects(service, revision))
    }

    /// Whether gateways send requests to the pods of `revision`.
    pub fn is_routed(&self, revision: &str) -> bool {
        self.selects(&self.desired.name.endpoints_service(), revision)
    }

    /// Whether gateways can discover a pod of the revision that their Service selects. During the grace period for its
    /// endpoints the previous value, `was`, is kept.
    pub fn is_reached(&self, was: bool) -> bool {
        match self.observed.reach {
            Reach::Reached => true,
            Reach::Awaited(_) => was,
            Reach::Lost => false,
        }
    }

    fn selects(&self, service: &str, revision: &str) -> bool {
        let wanted = labels::pods_of_revision(&self.desired.uid, revision);
        self.observed.selectors.get(service) == Some(&wanted)
    }

    /// The pods of a revision.
    pub fn pods(&self, revision: &str) -> &'a [ObservedPod] {
        self.observed.revisions.get(revision).map_or(&[], |seen| &seen.pods)
    }

    /// The report of a pod that prepared the revision.
    pub fn prepared(&self, revision: &str) -> Option<&'a Prepared> {
        self.preparations(revision).next()
    }

    /// Digests of the artifacts that its pods prepared.
    pub fn digests(&self, revision: &str) -> BTreeSet<&'a str> {
        self.preparations(revision).map(|prepared| prepared.digest.as_str()).collect()
    }

    fn preparations(&self, revision: &str) -> impl Iterator<Item = &'a Prepared> + use<'a> {
        self.pods(revision).iter().filter_map(|pod| match &pod.report {
            Some(Report::Prepared(prepared)) => Some(prepared),
            Some(Report::Refused(_) | Report::Failed(_)) | None => None,
        })
    }
}
