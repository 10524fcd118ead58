//! The predictor's binary.

use std::process::ExitCode;

use canopy_predictor::commands::{SERVICE, prepare, serve};
use canopy_predictor::settings::{Arguments, Command};
use canopy_runtime::process;
use clap::Parser as _;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Prepare(arguments) => process::run(SERVICE, Some(1), prepare(arguments)),
        Command::Serve(arguments) => {
            process::serve(SERVICE, arguments.workers, |workers| serve(arguments, workers))
        }
    }
}
