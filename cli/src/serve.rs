//! `canopy serve`: a predictor for each model file, without a gateway.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Instant;

use anyhow::{Context as _, Result};
use canopy_contract::predict::PredictRequest;
use canopy_predictor::metrics::Metrics;
use canopy_predictor::serving::app::ProofToken;
use canopy_predictor::serving::self_test;
use canopy_runtime::admin::LogControl;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::listen::listen;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::{admin, metrics};
use tokio::net::TcpListener;

use crate::arguments::ServeArguments;
use crate::local_models::{self, TrainedModel};
use crate::{console, model_file, ports, predictors, up};

/// Imports the models and serves them until shutdown. The process has `started` at this time.
pub(crate) async fn serve(arguments: &ServeArguments, workers: Workers, started: Instant) -> Result<()> {
    let plans = model_file::plans(&arguments.files, &arguments.names, &arguments.declared)?;
    let listeners = ports::predictors(arguments.listen, plans.len(), "--listen").await?;
    let admin_listener = listen(arguments.admin, "--admin").await?;
    // The artifacts last as long as the process.
    let folder = tempfile::tempdir().context("failed to make a folder for the models")?;
    let pending = plans.into_iter().map(|plan| {
        let folder = folder.path().join(plan.config.model.as_str());
        local_models::pending(plan, &folder)
    });
    let pending = pending.collect();
    let readiness = Readiness::new();
    let importing = readiness.gate("models", "importing");
    let shutdown = Shutdown::on_signals(readiness.clone()).context("failed to listen for signals")?;
    let registry = metrics::registry(up::SERVICE)?;
    let process =
        predictors::Process { workers, metrics: Metrics::register(&registry)?, readiness, shutdown };
    let control = LogControl::of_flag(arguments.admin.ip().is_loopback());
    admin::spawn(admin_listener, process.readiness.clone(), registry, control);

    let made = tokio::select! {
        made = local_models::train(pending) => made?,
        () = process.shutdown.triggered() => return Ok(()),
    };
    let models: Vec<_> = made.into_iter().zip(listeners).collect();
    let examples = models.iter().map(Example::new).collect::<Result<Vec<_>>>()?;
    let hosts = AllowedHosts::of_listener(arguments.listen, &arguments.allowed_hosts);
    let mut served = pin!(predictors::run(models, &hosts, &process));
    tokio::select! {
        ended = &mut served => return ended,
        said = async {
            predictors::all_ready(&process.readiness, importing).await?;
            introduction(&examples, started).await
        } => console::print(&said?)?,
    }
    served.await
}

/// An example request to a model.
struct Example {
    model: String,
    revision: String,
    address: SocketAddr,
    row: PredictRequest,
    request: String,
}

impl Example {
    fn new((model, listener): &(TrainedModel, TcpListener)) -> Result<Self> {
        Ok(Self {
            model: model.config.model.to_string(),
            revision: model.config.revision.clone(),
            address: ports::reachable(listener)?,
            row: PredictRequest::row(&model.row, &model.features),
            request: model.request(),
        })
    }
}

/// The addresses of the models, the time from the start of the process to the first answer, and examples with their
/// answers.
async fn introduction(examples: &[Example], started: Instant) -> Result<String> {
    let (mut addresses, mut requests, mut took) = (String::new(), String::new(), None);
    for Example { model, revision, address, row, request } in examples {
        let answer = self_test::ask(*address, &ProofToken::new(), row)
            .await
            .with_context(|| format!("failed to answer the example of model {model}"))?;
        took.get_or_insert_with(|| started.elapsed());
        writeln!(addresses, "model {model}, revision {revision}: http://{address}")?;
        writeln!(
            requests,
            "  curl -s http://{address}/predict -H 'content-type: application/json' -d '{request}'\n  {}",
            serde_json::to_string(&answer)?
        )?;
    }
    let took = took.unwrap_or_default().as_millis();
    Ok(format!("{addresses}ready in {took} ms\n\nTry it:\n{requests}"))
}
