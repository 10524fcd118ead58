//! Everything that is known of a model at the end of a pass.
//!
//! Comes in: the plan, what is there, the decision, and what came of it. Goes out: answers to small questions.
//! Never: a word for people; those are chosen in `cause` and `condition`.

use std::collections::BTreeSet;

use canopy_contract::report::{Prepared, Report};
use canopy_resource::status::RefusedRevision;
use jiff::Timestamp;

use crate::labels;
use crate::reason::Trouble;
use crate::rollout::revisions::Rollout;
use crate::spec::{Plan, Target};
use crate::state::{DeploymentSeen, Observed, PodSeen, Reach};

/// What came of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The children are as they should be.
    Applied,
    /// `paused` is set: nothing was touched.
    Paused,
    /// An object could not be written.
    Hindered(Trouble),
}

/// Everything that is known of a model at the end of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the spec asks for.
    pub plan: &'a Plan,
    /// What is there.
    pub observed: &'a Observed,
    /// What was decided.
    pub rollout: &'a Rollout,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// The revision that is refused.
    pub refused: Option<&'a RefusedRevision>,
    /// Whether Ready was True before this pass.
    pub was_ready: bool,
    /// Whether Available was.
    pub was_available: bool,
    /// The time.
    pub now: Timestamp,
}

impl<'a> Facts<'a> {
    /// The revision that the spec asks for.
    pub fn target(&self) -> Option<&'a Target> {
        self.plan.target.as_ref().ok()
    }

    /// The revision that serves.
    pub fn serving(&self) -> Option<&'a str> {
        self.rollout.serving.as_deref()
    }

    /// The Deployment of a revision.
    pub fn deployment(&self, revision: &str) -> Option<&'a DeploymentSeen> {
        self.observed.revisions.get(revision)?.deployment.as_ref()
    }

    /// The Service of those that clients use which selects something else than the pods of `revision`, as it was last
    /// seen. What was decided, or only just written, answers nobody yet.
    pub fn misdirected(&self, revision: &str) -> Option<String> {
        let services = [self.plan.name.endpoints_service(), self.plan.name.stable_service()];
        services.into_iter().find(|service| !self.selects(service, revision))
    }

    /// Whether requests that come through a gateway reach the pods of `revision`.
    pub fn is_routed(&self, revision: &str) -> bool {
        self.selects(&self.plan.name.endpoints_service(), revision)
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
        let wanted = labels::pods_of_revision(&self.plan.uid, revision);
        self.observed.selectors.get(service) == Some(&wanted)
    }

    /// The pods of a revision.
    pub fn pods(&self, revision: &str) -> &'a [PodSeen] {
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
