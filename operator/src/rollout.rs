//! Which revision gets pods and which gets requests; when one is refused, late, or its pods are replaced.

pub mod revisions;
pub mod refusal_policy;
pub mod progress;
pub mod pod_replacement;
