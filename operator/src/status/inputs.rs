//! Everything that is known of a model at the end of a pass.
//!
//! Comes in: the plan, what is there, the decision, and what came of it. Goes out: answers to small questions.
//! Never: a word for people; those are chosen in `blocker` and `condition`.

use std::collections::BTreeSet;

use canopy_contract::report::{Prepared, Report};
use canopy_resource::status::RefusedRevision;
use jiff::Timestamp;

use crate::labels;
use crate::reason::Diagnosis;
use crate::rollout::revisions::Rollout;
use crate::spec::{DesiredState, Target};
use crate::state::{ObservedDeployment, ObservedPod, ObservedState, Reach};

/// What came of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// The children are as they should be.
    Applied,
    /// `paused` is set: nothing was touched.
    Paused,
    /// An object could not be written.
    Blocked(Diagnosis),
}

/// Everything that is known of a model at the end of a pass.
#[derive(Clone, Copy, Debug)]
pub struct StatusInputs<'a> {
    /// What the spec asks for.
    pub desired: &'a DesiredState,
    /// What is there.
    pub observed: &'a ObservedState,
    /// What was decided.
    pub rollout: &'a Rollout,
    /// What came of it.
    pub outcome: &'a ApplyOutcome,
    /// The revision that is refused.
    pub refused: Option<&'a RefusedRevision>,
    /// Whether Ready was True before this pass.
    pub was_ready: bool,
    /// Whether Available was.
    pub was_available: bool,
    /// The time.
    pub now: Timestamp,
}

impl<'a> StatusInputs<'a> {
    /// The revision that the spec asks for.
    pub fn target(&self) -> Option<&'a Target> {
        self.desired.target.as_ref().ok()
    }

    /// The revision that serves.
    pub fn serving(&self) -> Option<&'a str> {
        self.rollout.serving.as_deref()
    }

    /// The Deployment of a revision.
    pub fn deployment(&self, revision: &str) -> Option<&'a ObservedDeployment> {
        self.observed.revisions.get(revision)?.deployment.as_ref()
    }

    /// The Service of those that clients use which selects something else than the pods of `revision`, as it was last
    /// seen. What was decided, or only just written, answers nobody yet.
    pub fn misdirected(&self, revision: &str) -> Option<String> {
        let services = [self.desired.name.endpoints_service(), self.desired.name.stable_service()];
        services.into_iter().find(|service| !self.selects(service, revision))
    }

    /// Whether requests that come through a gateway reach the pods of `revision`.
    pub fn is_routed(&self, revision: &str) -> bool {
        self.selects(&self.desired.name.endpoints_service(), revision)
    }

    /// Whether gateways find a pod of the revision that their Service selects. While Kubernetes may still be at work on
    /// its endpoints, what `was` said before is left as it is.
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

    /// The preparation of a revision, as one of its pods reports it.
    pub fn prepared(&self, revision: &str) -> Option<&'a Prepared> {
        self.preparations(revision).next()
    }

    /// The different artifacts that the pods of a revision prepared.
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
