//! The `canopy` command: gateway and predictors in one process, and tools for models in files.
//!
//! Each command calls the crates that also run in a cluster.

mod arguments;
mod errors;
mod console;
mod input;
mod manifests;
mod training;
mod model_file;
mod train;
mod predict;
mod inspect;
mod local_models;
mod ports;
mod predictors;
mod up;
mod serve;

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use canopy_resource::definition;
use canopy_runtime::{panics, process};
use clap::Parser as _;

use arguments::{Arguments, Command, Part, REFUSED};
use errors::Refused;

fn main() -> ExitCode {
    let started = Instant::now();
    panics::hide_caught();
    match Arguments::parse().command {
        Command::Up(arguments) => {
            let up = |workers| async move { Ok::<_, Infallible>(ended(up::up(&arguments, workers).await)) };
            process::serve(up::SERVICE, None, up)
        }
        Command::Serve(arguments) => {
            let serve = |workers| async move {
                Ok::<_, Infallible>(ended(serve::serve(&arguments, workers, started).await))
            };
            process::serve(up::SERVICE, None, serve)
        }
        Command::Train(arguments) => ended(train::train(&arguments)),
        Command::Predict(arguments) => ended(predict::predict(&arguments)),
        Command::Inspect(arguments) => ended(inspect::inspect(&arguments)),
        Command::Crd => ended(definition::yaml().map_err(Into::into).and_then(|text| console::print(&text))),
        Command::Openapi { part } => ended(describe(part)),
    }
}

fn describe(part: Part) -> Result<()> {
    let api = match part {
        Part::Gateway => canopy_gateway::routes::openapi(),
        Part::Predictor => canopy_predictor::serving::routes::openapi(),
    };
    console::print(&(serde_json::to_string_pretty(&api)? + "\n"))
}

/// The exit code of a command that ended so, and its words for people.
fn ended(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // The reader of the output closed it: this is how `canopy predict … | head` ends.
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(closed) {
        return ExitCode::SUCCESS;
    }
    console::say(&format!("error: {}", words(&error)));
    if error.is::<Refused>() { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
}

/// An error with all its causes. A cause that is part of the text before it is not repeated.
fn words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.ends_with(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}
