//! Tasks of the project: checks, generated files, images and clusters. Rules about the code are tests.

mod env_tag;
mod shell;
mod requirements;
mod debian;
mod http;
mod binaries;
mod generated;
mod cluster;
mod images;
mod check;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of the project.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Runs every check, or some.
    Check(check::Options),
    /// Writes the generated files.
    Generate,
    /// Builds the images of the operator, the gateway and the predictor.
    Images {
        /// The program that builds them: docker, podman or buildah.
        #[arg(long, default_value = "docker")]
        with: String,
    },
    /// Runs tests on a real cluster and keeps it for the next run; `cargo xtask cluster down` removes it.
    E2e {
        /// Runs only tests whose names contain one of these.
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
    },
    /// A real Kubernetes cluster on this machine.
    #[command(subcommand)]
    Cluster(cluster::Action),
}

fn main() -> anyhow::Result<ExitCode> {
    match Task::parse() {
        Task::Check(options) => Ok(check::run(&options)),
        Task::Cluster(action) => Ok(cluster::run(&action)),
        Task::E2e { filters } => check::e2e(&filters).map(|()| ExitCode::SUCCESS),
        Task::Images { with } => {
            images::build(binaries::Build::Distribution, |arguments| shell::command(&with, arguments))
                .map(|_| ExitCode::SUCCESS)
        }
        Task::Generate => generated::write().map(|()| ExitCode::SUCCESS),
    }
}
