//! The predictors of this process: one for each model, on its own port.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use canopy_contract::body::FORWARDED_MAX_BYTES;
use canopy_predictor::serving::app::Limits;
pub(crate) use canopy_predictor::serving::server::Process;
use canopy_predictor::serving::server::{self, Serving};
use canopy_runtime::readiness::{Readiness, ReadinessGate};
use canopy_runtime::server::host_check::AllowedHosts;
use futures_util::future::try_join_all;
use tokio::net::TcpListener;

use crate::local_models::TrainedModel;

/// The limits of a predictor's requests.
const LIMITS: Limits = Limits {
    body_bytes: FORWARDED_MAX_BYTES,
    body_timeout: Duration::from_secs(10),
    body_memory: None,
    connections: None,
};
/// Loading and verifying a model takes less than a second.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Serves every model until shutdown. Models that fail their self-test end it with an error. The process is unready from
/// this call on, until all models serve.
pub(crate) fn run(
    models: Vec<(TrainedModel, TcpListener)>,
    hosts: &AllowedHosts,
    process: &Process,
) -> impl Future<Output = Result<()>> + use<> {
    let predictors = models.into_iter().map(|(model, listener)| {
        let called = model.called();
        let serving = Serving {
            config: model.config,
            folder: model.folder,
            limits: LIMITS,
            drain: Duration::ZERO,
            gives_up: Some(Duration::ZERO),
            hosts: hosts.clone(),
        };
        let served = server::run(serving, listener, process.clone());
        async move { served.await.with_context(|| format!("failed to serve model {called}")) }
    });
    let predictors = try_join_all(predictors);
    async { predictors.await.map(drop) }
}

/// Opens the gate of the preparation, and waits until all other gates are open.
pub(crate) async fn all_ready(readiness: &Readiness, preparing: ReadinessGate) -> Result<()> {
    preparing.open();
    let started = Instant::now();
    while let Err(reason) = readiness.check() {
        if started.elapsed() > READY_TIMEOUT {
            bail!("failed to become ready in {} seconds: {reason}", READY_TIMEOUT.as_secs());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use canopy_predictor::metrics::Metrics;
    use canopy_predictor::training::record::Record;
    use canopy_runtime::server::listen::listen;
    use canopy_runtime::server::workers::Workers;
    use canopy_runtime::shutdown::Shutdown;

    use super::*;
    use crate::arguments::Declared;
    use crate::{local_models, model_file};

    #[tokio::test]
    async fn a_model_that_answers_its_golden_row_differently_ends_the_process_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/library/lgb_binary.txt");
        let plan = model_file::plan(Path::new(file), None, &Declared::default()).unwrap();
        let mut made = local_models::train(vec![local_models::pending(plan, folder.path())]).await.unwrap();
        let Record::Prepared { report, mut golden, made_from } = Record::read(folder.path()).unwrap() else {
            panic!("the model is refused")
        };
        golden.features.iter_mut().for_each(|value| *value = 1e6);
        Record::Prepared { report, golden, made_from }.write(folder.path(), None).unwrap();

        let listener = listen(([127, 0, 0, 1], 0).into(), "--listen").await.unwrap();
        let workers = Workers::here();
        let readiness = Readiness::new();
        let metrics = Metrics::register(&canopy_runtime::metrics::registry("test").unwrap()).unwrap();
        let process =
            Process { workers, metrics, readiness: readiness.clone(), shutdown: Shutdown::new(readiness) };
        let served = run(vec![(made.swap_remove(0), listener)], &AllowedHosts::Any, &process);
        let ended = tokio::time::timeout(READY_TIMEOUT / 2, served).await.unwrap();
        let error = format!("{:#}", ended.unwrap_err());
        let expected = "failed to serve model lgb-binary: golden_mismatch: golden row was answered ";
        assert!(error.starts_with(expected), "{error}");
    }
}
