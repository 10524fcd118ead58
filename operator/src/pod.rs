//! A predictor's pods: the template, which templates may run, and what keeps a pod from becoming ready.

pub mod diagnosis;
pub mod template;
pub mod template_check;
