//! The commands of the binary. `prepare` exits with 0 for a model that was refused, because another attempt with the same
//! spec and data would not help.

use std::path::Path;
use std::process::ExitCode;

use canopy_contract::code::Code;
use canopy_contract::report::{Prepared, Refusal, Report};
use canopy_contract::serving::ServingConfig;
use canopy_runtime::admin::LogControl;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::listen::{ListenError, listen};
use canopy_runtime::server::workers::Workers;
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::{admin, metrics};
use tokio::task::{JoinError, spawn_blocking};

use crate::metrics::Metrics;
use crate::serving::server::{self, Process, ServeError, Serving};
use crate::settings::{ConfigError, PrepareArguments, ServeArguments};
use crate::training::kept;
use crate::training::prepare::{self, Preparation, PrepareError};
use crate::training::record::{self, Record, RecordError};
use crate::training::refusal::Refused;

/// The process's name on metrics and traces.
pub const SERVICE: &str = "canopy-predictor";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Preparation failed.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The prepared model cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signal handlers cannot be installed.
    #[error("failed to listen for signals: {0}")]
    Signals(std::io::Error),
    /// Two metrics have one name.
    #[error("failed to set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The thread that prepared has panicked.
    #[error("failed to prepare: {0}")]
    Thread(#[from] JoinError),
    /// The predictor ended early.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// `canopy-predictor prepare`. Ends at once on a signal to stop, because a model that is half trained is of no use. It has to
/// handle the signal: the kernel does not apply the default action to the first process of a container.
pub async fn prepare(arguments: PrepareArguments) -> Result<ExitCode, CommandError> {
    let shutdown = Shutdown::on_signals(Readiness::new()).map_err(CommandError::Signals)?;
    let preparing = spawn_blocking(move || prepare_and_tell(&arguments));
    tokio::select! {
        ended = preparing => ended?,
        () = shutdown.triggered() => Ok(ExitCode::FAILURE),
    }
}

fn prepare_and_tell(arguments: &PrepareArguments) -> Result<ExitCode, CommandError> {
    let config = arguments.model.config()?;
    let told = |report: &Report| match &arguments.termination_log {
        Some(log) => record::tell(report, log),
        None => Ok(()),
    };
    if let Err(error) = arguments.check_data(&config) {
        let failure = Refusal::new(Code::DataUnavailable, error.to_string());
        let Refusal { code, message } = &failure;
        tracing::error!(model = config.model.as_str(), version = config.version, code, "{message}");
        told(&Report::Failed(failure))?;
        return Ok(ExitCode::FAILURE);
    }
    // If the inputs cannot be read, the preparation below reports it.
    let made_from = kept::made_from(&config, arguments.trainer).ok();
    let kept = made_from.as_ref().and_then(|made_from| keep(&config, &arguments.model.dir, made_from));
    let report = match kept {
        Some(report) => Report::Prepared(report),
        None => prepare_anew(arguments, &config, made_from)?,
    };
    told(&report)?;
    Ok(if matches!(report, Report::Failed(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The model that an earlier run left in the folder, if it is still valid.
fn keep(config: &ServingConfig, folder: &Path, made_from: &str) -> Option<Prepared> {
    let (model, version) = (config.model.as_str(), config.version.as_str());
    match kept::find(folder, made_from) {
        Ok(Some(report)) => {
            tracing::info!(model, version, digest = report.digest, "prepared before, and kept");
            Some(report)
        }
        Ok(None) => None,
        Err(why) => {
            tracing::warn!(model, version, "the model that was prepared before is made anew: {why}");
            None
        }
    }
}

/// Prepares the model and writes it, or the refusal, into the folder.
fn prepare_anew(
    arguments: &PrepareArguments,
    config: &ServingConfig,
    made_from: Option<String>,
) -> Result<Report, CommandError> {
    let (model, version) = (config.model.as_str(), config.version.as_str());
    let folder = &arguments.model.dir;
    let prepared = prepare::prepare_from(&arguments.sources(), config, arguments.trainer, &progress);
    let record = match prepared {
        Ok(preparation) => {
            let record = preparation.record();
            let record = made_from.into_iter().fold(record, Record::made_from);
            record.write(folder, Some(&preparation.artifact))?;
            let report = &preparation.report;
            tracing::info!(
                model,
                version,
                digest = report.digest,
                bytes = report.bytes,
                seconds = report.seconds,
                "{}",
                ending(&preparation),
            );
            if let Record::Prepared { report, .. } = &record {
                for warning in &report.warnings {
                    tracing::warn!(model, version, "{warning}");
                }
            }
            record
        }
        Err(PrepareError::Refused(Refused { told, full: _ })) => {
            let Refusal { code, message } = &told;
            tracing::error!(model, version, code, "refused: {message}");
            let record = Record::Refused(told);
            record.write(folder, None)?;
            record
        }
        Err(PrepareError::Unavailable(why)) => {
            let failure = Refusal::new(Code::DataUnavailable, why);
            let Refusal { code, message } = &failure;
            tracing::error!(model, version, code, "{message}");
            return Ok(Report::Failed(failure));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(record.report())
}

fn ending(preparation: &Preparation) -> String {
    let how = match preparation.report.samples {
        0 => "imported".to_owned(),
        rows => format!("prepared from {rows} rows"),
    };
    match &preparation.evaluation {
        Some(evaluation) => format!("{how}\n{evaluation}"),
        None => how,
    }
}

/// Logs progress at each quarter.
fn progress(done: usize, of: usize) {
    let quarter = |steps: usize| steps * 4 / of.max(1);
    if quarter(done) > quarter(done.saturating_sub(1)) {
        tracing::info!(done, of, "training");
    }
}

/// `canopy-predictor serve`.
pub async fn serve(arguments: ServeArguments, workers: Workers) -> Result<ExitCode, CommandError> {
    let listener = listen(arguments.listen, "--listen or CANOPY_LISTEN").await?;
    let admin_listener = listen(arguments.admin, "--admin or CANOPY_ADMIN").await?;
    let readiness = Readiness::new();
    let shutdown = Shutdown::on_signals(readiness.clone()).map_err(CommandError::Signals)?;
    let registry = metrics::registry(SERVICE)?;
    let metrics = Metrics::register(&registry)?;
    let control = LogControl::of_flag(arguments.log_control);
    let serving = Serving {
        config: arguments.model.config()?,
        drain: arguments.drain(),
        limits: arguments.limits(),
        gives_up: Some(arguments.refusal()),
        folder: arguments.model.dir,
        hosts: AllowedHosts::Any,
    };

    let process = Process { workers, metrics, readiness: readiness.clone(), shutdown };
    // Before the admin port opens, so that the process is unready until the model serves.
    let served = server::run(serving, listener, process);
    admin::spawn(admin_listener, readiness, registry, control);
    match served.await {
        Err(ServeError::Refused(refusal)) => {
            if let Some(log) = &arguments.termination_log {
                record::tell(&Report::Refused(refusal), log)?;
            }
            Ok(ExitCode::FAILURE)
        }
        ended => ended.map(|()| ExitCode::SUCCESS).map_err(CommandError::from),
    }
}
