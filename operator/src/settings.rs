//! The operator's flags, each of which is an environment variable too.
//!
//! Comes in: the command line and the environment. Goes out: values that are there. Never: a second place in
//! which a default stands.

use std::net::SocketAddr;

use clap::Parser;

/// Canopy's operator: a `PredictorModel` becomes pods that serve it.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "Example: canopy-operator --predictor-image registry.example/canopy-predictor:0.1.0"
)]
pub struct Settings {
    /// The image of the predictor: revisions that are made from now on run it.
    #[arg(long, env = "CANOPY_PREDICTOR_IMAGE")]
    pub predictor_image: String,
    /// Where /live, /ready, /metrics and /log are.
    #[arg(long, env = "CANOPY_ADMIN", default_value = "0.0.0.0:9002")]
    pub admin: SocketAddr,
    /// The namespace of the Lease by which one of all operators of the cluster leads: the same for all installations.
    #[arg(long, env = "CANOPY_LEASE_NAMESPACE", default_value = "kube-system")]
    pub lease_namespace: String,
    /// The installation that this process belongs to: its namespace and the name of its release.
    #[arg(long, env = "CANOPY_INSTALLATION", default_value = "canopy")]
    pub installation: String,
    /// The name under which this process holds the Lease: that of its pod.
    #[arg(long, env = "CANOPY_IDENTITY")]
    pub identity: String,
    /// Threads; one per CPU and at most 4 unless given.
    #[arg(long, env = "CANOPY_WORKERS")]
    pub workers: Option<usize>,
}
