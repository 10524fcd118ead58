//! Pods of predictors: the template, the check of templates read from the cluster, and the diagnosis of pods.

pub mod diagnosis;
pub mod template;
pub mod template_check;
