//! The error for refused models, which has its own exit code.

use std::fmt;

use canopy_contract::names::DEFAULT_NAMESPACE;

/// The refused models, each with the reason.
#[derive(Debug)]
pub(crate) struct Refused(Vec<String>);

impl Refused {
    /// One refused model.
    pub(crate) fn one(model: &str, why: &dyn fmt::Display) -> Self {
        Self(vec![format!("model {model} is refused: {why}")])
    }

    /// One error for all of these, if there are any.
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

/// The name of a model with its namespace, unless that is the default one.
pub(crate) fn called(name: &str, namespace: &str) -> String {
    if namespace == DEFAULT_NAMESPACE { name.to_owned() } else { format!("{name}.{namespace}") }
}
