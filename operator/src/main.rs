//! The binary of the operator: it parses the settings and runs the controller.

use std::process::ExitCode;

use canopy_operator::controller::{SERVICE, run};
use canopy_operator::settings::Settings;
use canopy_runtime::process;
use clap::Parser as _;

fn main() -> ExitCode {
    let settings = Settings::parse();
    process::run(SERVICE, settings.workers, run(settings))
}
