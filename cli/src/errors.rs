//! Models that were refused: the one kind of failure with an exit code of its own.
//!
//! Comes in: each model and why. Goes out: an error with a line for each. Never: a fault that may pass.

use std::fmt;

use canopy_contract::names::DEFAULT_NAMESPACE;

/// Each refused model, and why.
#[derive(Debug)]
pub(crate) struct Refused(Vec<String>);

impl Refused {
    /// One model.
    pub(crate) fn one(model: &str, why: &dyn fmt::Display) -> Self {
        Self(vec![format!("model {model} is refused: {why}")])
    }

    /// All of these; nothing where there is none.
    pub(crate) fn check(all: Vec<Self>) -> Result<(), Self> {
        if all.is_empty() { Ok(()) } else { Err(Self(all.into_iter().flat_map(|one| one.0).collect())) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Refused {}

/// What people call a model on a laptop: its namespace is worth a word only where it was given.
pub(crate) fn called(name: &str, namespace: &str) -> String {
    if namespace == DEFAULT_NAMESPACE { name.to_owned() } else { format!("{name}.{namespace}") }
}
