//! The operator's binary.
//!
//! Comes in: arguments and the environment. Goes out: an exit code. Never: anything that the library could do.

use std::process::ExitCode;

use canopy_operator::controller::{SERVICE, run};
use canopy_operator::settings::Settings;
use canopy_runtime::process;
use clap::Parser as _;

fn main() -> ExitCode {
    let settings = Settings::parse();
    process::run(SERVICE, settings.workers, run(settings))
}
