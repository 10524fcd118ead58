//! The project's chores.
//!
//! Comes in: a chore by name. Goes out: it is done, or the exit code says that it is not. Never: a rule about
//! the code; those are tests.

mod shell;
mod debian;
mod http;
mod binaries;
mod generated;
mod cluster;
mod images;
mod check;

use std::process::ExitCode;

use clap::Parser;

/// The project's chores.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Chore {
    /// Runs every check, or some.
    Check(check::Options),
    /// Writes the generated files anew.
    Generate,
    /// Builds the images of the operator, the gateway and the predictor.
    Images {
        /// What builds them: docker, podman or buildah.
        #[arg(long, default_value = "docker")]
        with: String,
    },
    /// Runs tests on a real cluster and leaves it up for the next run; `cargo xtask cluster down` ends it.
    E2e {
        /// Runs only tests with one of these in their names.
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
    },
    /// A real Kubernetes cluster on this machine.
    #[command(subcommand)]
    Cluster(cluster::Chore),
}

fn main() -> anyhow::Result<ExitCode> {
    match Chore::parse() {
        Chore::Check(options) => Ok(check::run(&options)),
        Chore::Cluster(chore) => Ok(cluster::run(&chore)),
        Chore::E2e { filters } => check::e2e(&filters).map(|()| ExitCode::SUCCESS),
        Chore::Images { with } => {
            images::build(binaries::Build::Distribution, |arguments| shell::command(&with, arguments))
                .map(|_| ExitCode::SUCCESS)
        }
        Chore::Generate => generated::write().map(|()| ExitCode::SUCCESS),
    }
}
