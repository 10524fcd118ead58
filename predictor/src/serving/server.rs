//! One predictor from start to end: load, self-test, serve, drain.
//!
//! If `prepare` refused the model, the process stays, unready, and reports why. If the artifact itself is bad, it ends after
//! a while, if it is configured to.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use canopy_contract::code::Code;
use canopy_contract::describe::{Metric, ModelDescription, Quality};
use canopy_contract::duration::PREDICTOR_GRACE_SECONDS;
use canopy_contract::predict::PredictRequest;
use canopy_contract::report::{Prepared, Refusal};
use canopy_contract::serving::ServingConfig;
use canopy_runtime::readiness::{Readiness, ReadinessGate};
use canopy_runtime::server::connections::{self, Connections};
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::server::{ServeOptions, Timing};
use canopy_runtime::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::artifact::{self, Artifact, Card};
use crate::files::FileError;
use crate::metrics::{Loaded, Metrics};
use crate::serving::app::{App, Identity, InvalidRevision, Limits};
use crate::serving::routes;
use crate::serving::self_test::{self, ProofError};
use crate::serving::served_model::ServedModel;
use crate::training::record::{self, Golden, Record, RecordError};

/// How long requests in flight may take after the port has closed.
const GRACE: Duration = Duration::from_secs(PREDICTOR_GRACE_SECONDS as u64);
/// The pause between two attempts of the self-test.
const PAUSE: Duration = Duration::from_secs(1);

/// What to serve, and how.
#[derive(Clone, Debug)]
pub struct Serving {
    /// What the model is called, and how it was to be prepared.
    pub config: ServingConfig,
    /// The folder that `prepare` wrote into.
    pub folder: PathBuf,
    /// What a request may cost.
    pub limits: Limits,
    /// How long the port stays open after the signal to stop.
    pub drain: Duration,
    /// After how long the process ends if the artifact is not the prepared one or fails the self-test, so that Kubernetes sees
    /// it. Absent in a process with other models.
    pub gives_up: Option<Duration>,
    /// The hosts that requests may name.
    pub hosts: AllowedHosts,
}

/// The process that a predictor lives in, perhaps with others.
#[derive(Clone, Debug)]
pub struct Process {
    /// Who answers.
    pub workers: Workers,
    /// Its metrics.
    pub metrics: Metrics,
    /// Whether it should get traffic.
    pub readiness: Readiness,
    /// Its end.
    pub shutdown: Shutdown,
}

/// Why a predictor ended without a signal. The cause may be temporary.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener has no address.
    #[error("failed to read the address of the listener: {0}")]
    Listener(#[from] io::Error),
    /// The model cannot be named in a header.
    #[error(transparent)]
    Revision(#[from] InvalidRevision),
    /// What `prepare` left cannot be read.
    #[error("{0}; run prepare first, with the same folder")]
    File(#[from] FileError),
    /// The thread that loaded the model is gone.
    #[error("failed to load the model: {0}")]
    Load(#[from] tokio::task::JoinError),
    /// The model will not be served, which a new preparation may mend.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(Refusal),
}

/// Serves until the order to stop. The port answers as soon as the future is polled; predictions come when the
/// model has proven itself. The process is unready from this call on, not only from the first poll.
pub fn run(
    serving: Serving,
    listener: TcpListener,
    process: Process,
) -> impl Future<Output = Result<(), ServeError>> + Send {
    // With its namespace: of two models of one name in a process, neither may open the other's gate.
    let ServingConfig { model, namespace, .. } = &serving.config;
    let gate = process.readiness.gate(format!("model {model}.{namespace}"), "loading");
    serve_behind(gate, serving, listener, process)
}

async fn serve_behind(
    gate: ReadinessGate,
    serving: Serving,
    listener: TcpListener,
    process: Process,
) -> Result<(), ServeError> {
    let Serving { config, folder, limits, drain, gives_up, hosts } = serving;
    let Process { workers, metrics, readiness: _, shutdown } = process;
    let address = listener.local_addr()?;
    let app = App::new(Identity::of(&config), limits, &metrics)?;

    let options = ServeOptions {
        workers,
        connections: Connections::new(
            limits.connections.unwrap_or_else(connections::default_max),
            metrics.registry(),
        ),
        timing: Timing::default(),
        drain,
        grace: GRACE,
        on_panic: routes::panicked,
        hosts,
        on_wrong_host: routes::misdirected,
        tells_peer: false,
    };
    let serving = canopy_runtime::server::serve(listener, routes::router(app.clone()), options, shutdown);
    let mut serving = pin!(serving);
    let becoming_ready = async {
        let identity = app.identity().clone();
        let loaded = spawn_blocking(move || load(&folder, &identity, &metrics)).await??;
        let proven = match loaded {
            Ok(Loading::Ready(model, golden)) => prove(&app, &gate, *model, &golden, address).await,
            Ok(Loading::Refused(refusal)) => {
                // Its reason is the data or the spec, and it is known where `prepare` was started.
                refuse(&app, &gate, &refusal);
                return Ok(());
            }
            Err(refusal) => Err(refusal),
        };
        let Err(refusal) = proven else { return Ok(()) };
        refuse(&app, &gate, &refusal);
        if let Some(time) = gives_up {
            tokio::time::sleep(time).await;
            return Err(ServeError::Refused(refusal));
        }
        Ok::<_, ServeError>(())
    };
    tokio::select! {
        () = &mut serving => return Ok(()),
        ready = becoming_ready => ready?,
    }
    serving.await;
    Ok(())
}

/// What `prepare` left.
enum Loading {
    /// A model, and the answer it has to give again.
    Ready(Box<ServedModel>, Golden),
    /// A refusal.
    Refused(Refusal),
}

/// Loads the model in `folder`, or refuses it if it is not what `prepare` left.
fn load(
    folder: &Path,
    identity: &Identity,
    metrics: &Metrics,
) -> Result<Result<Loading, Refusal>, FileError> {
    let started = Instant::now();
    let corrupt = |why: String| Ok(Err(Refusal::new(Code::ArtifactCorrupt, why)));
    let (report, golden) = match Record::read(folder) {
        Ok(Record::Prepared { report, golden, made_from: _ }) => (report, golden),
        Ok(Record::Refused(refusal)) => return Ok(Ok(Loading::Refused(refusal))),
        Err(RecordError::File(error)) => return Err(error),
        Err(error @ RecordError::Content(_)) => return corrupt(error.to_string()),
    };
    let bytes = record::artifact(folder)?;
    let digest = artifact::digest(&bytes);
    if digest != report.digest {
        let Prepared { digest: prepared, .. } = report;
        return corrupt(format!(
            "artifact has SHA-256 {digest}, but {prepared} was prepared: prepare it again"
        ));
    }
    let artifact = match Artifact::decode(&bytes) {
        Ok(artifact) => artifact,
        Err(error) => return corrupt(error.to_string()),
    };
    let card = artifact.card();
    if card.model != identity.model || card.revision != identity.revision {
        return corrupt(format!(
            "artifact is revision {} of {}, but revision {} of {} is to be served: prepare it again",
            card.revision, card.model, identity.revision, identity.model
        ));
    }
    let description = describe(identity, card, digest);
    let model = Box::new(artifact.load());
    let loaded = Loaded {
        features: &description.features,
        classes: &description.classes,
        reference: artifact.reference(),
        accuracy: accuracy(description.quality.as_ref()),
        bytes: bytes.len(),
        took: started.elapsed(),
    };
    let metrics = metrics.loaded(identity.labels(), &loaded);
    Ok(Ok(Loading::Ready(Box::new(ServedModel::new(model, description, metrics)), golden)))
}

/// The quality, if it is an accuracy.
fn accuracy(quality: Option<&Quality>) -> Option<f64> {
    quality.filter(|quality| quality.metric == Metric::Accuracy).map(|quality| quality.value)
}

fn describe(identity: &Identity, card: &Card, digest: String) -> ModelDescription {
    let Identity { model, namespace, version, revision } = identity.clone();
    let Card { model: _, version: _, revision: _, features, classes, outputs, quality, head } = card.clone();
    let task = head.task();
    ModelDescription {
        model,
        namespace,
        version,
        revision,
        task,
        features,
        classes,
        outputs,
        quality,
        digest,
    }
}

/// Sends the golden row to the own listener until it answers, and compares the answer.
async fn prove(
    app: &App,
    gate: &ReadinessGate,
    model: ServedModel,
    golden: &Golden,
    address: SocketAddr,
) -> Result<(), Refusal> {
    let request = PredictRequest::row(&golden.features, &model.description().features);
    let token = app.loaded(model);
    let refusal = loop {
        gate.close("proving");
        match self_test::ask(address, &token, &request).await {
            Ok(answer) if answer == golden.answer => {
                app.proven();
                gate.open();
                let Identity { model, namespace, version, revision } = app.identity();
                tracing::info!(%model, namespace, version, revision, %address, "serving");
                return Ok(());
            }
            Ok(answer) => {
                let recorded = &golden.answer;
                break format!(
                    "golden row was answered {answer}, but {recorded} was recorded: prepare again with this version of \
                     the predictor"
                );
            }
            Err(error @ ProofError::NoPrediction { .. }) => break error.to_string(),
            Err(error @ ProofError::Unreachable { .. }) => {
                tracing::warn!(model = %app.identity().model, %error, "not proven yet");
                gate.close(error.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    Err(Refusal::new(Code::GoldenMismatch, refusal))
}

fn refuse(app: &App, gate: &ReadinessGate, refusal: &Refusal) {
    let Identity { model, version, .. } = app.identity();
    let Refusal { code, message } = refusal;
    tracing::error!(%model, version, code, "will not serve: {message}");
    gate.close(app.refused(refusal));
}
