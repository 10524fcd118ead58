//! The slice of the long checks that runs, which `cargo xtask check --full=NAME` sets for the tests on a cluster.

/// The environment variable with the name of the slice; empty or absent in the checks of every change.
const VARIABLE: &str = "CANOPY_SLICE";

/// A slice that changes what tests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// Three nodes.
    Nodes,
    /// Long times and many moments.
    Soak,
    /// Many models.
    Scale,
    /// Images as they are distributed, with Prometheus and Jaeger built from source.
    Dist,
}

impl Slice {
    const fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Soak => "soak",
            Self::Scale => "scale",
            Self::Dist => "dist",
        }
    }

    /// Whether this slice runs.
    pub fn runs(self) -> bool {
        std::env::var(VARIABLE).is_ok_and(|name| name == self.name())
    }
}
