//! The rollout: which revision has pods and which serves, refusals, deadlines, and replacement of stuck pods.

pub mod revisions;
pub mod refusal_policy;
pub mod progress;
pub mod pod_replacement;
