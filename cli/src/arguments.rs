//! The commands and flags of `canopy`, with their help.
#![expect(clippy::doc_markdown, reason = "--help shows these comments as they are")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use canopy_contract::names::{
    GATEWAY_ADMIN_PORT, GATEWAY_PORT, ModelName, PREDICTOR_ADMIN_PORT, PREDICTOR_PORT,
};
use canopy_contract::serving::ModelFormat;
use canopy_predictor::engine::training::Trainer;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// The exit code for a refused model.
pub(crate) const REFUSED: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes:
  0  success, or ended by a signal
  1  failed; the message names the cause, such as a port, a file or a manifest
  2  invalid command line
  3  a model was refused: its data or its file cannot be used, or its quality is below its gate";

/// Train and serve models on this machine as Canopy does in a cluster
#[derive(Debug, Parser)]
#[command(name = "canopy", version, after_help = format!("\
Examples:
  canopy up
  canopy up -f deploy/samples/iris.yaml
  canopy serve model.onnx
  canopy train -f deploy/samples/iris.yaml -o iris.canopy
  canopy predict --model iris.canopy --input flowers.csv
  canopy inspect iris.canopy

{EXIT_CODES}"))]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(UpArguments),
    Serve(ServeArguments),
    Train(TrainArguments),
    Predict(PredictArguments),
    Inspect(InspectArguments),
    /// Print the CustomResourceDefinition of PredictorModel
    #[command(after_help = "Example:\n  canopy crd | kubectl apply --server-side -f -")]
    Crd,
    /// Print the OpenAPI description of an API, as JSON
    #[command(after_help = "Example:\n  canopy openapi gateway > gateway.json")]
    Openapi {
        /// The component
        #[arg(value_enum)]
        part: Part,
    },
}

/// Train models and serve them through the gateway, all in this process
///
/// All models are trained before any is served; if one is refused, none is served. SIGTERM and ctrl-C end the process
/// once requests in flight are answered, which may take 40 seconds; a second ctrl-C ends it at once.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Example:
  canopy up -f deploy/samples/iris.yaml -f deploy/samples/demo.yaml
  curl -s localhost:8000/api/models/iris/predict -H 'content-type: application/json' \\
    -d '{{\"features\":[5.1,3.5,1.4,0.2]}}'

Logs: RUST_LOG (as in warn,canopy_gateway=debug), CANOPY_LOG_FORMAT (json or pretty).
To change them while it runs, with --admin on loopback: curl -X PUT localhost:9000/log -d warn,canopy_gateway=debug
Traces: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER.

{EXIT_CODES}"))]
pub(crate) struct UpArguments {
    /// Manifests with PredictorModels and the ConfigMaps of their data, as kubectl apply takes them; '-' is
    /// standard input [default: the model demo]
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// A model file of Canopy or another library, or the folder of an MLflow model; docs/models.md has the list
    #[arg(short, long = "model", value_name = "FILE")]
    pub(crate) models: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) names: Names,

    #[command(flatten)]
    pub(crate) declared: Declared,

    /// The address of the gateway; port 0 selects a free port
    #[arg(long, env = "CANOPY_GATEWAY", value_name = "ADDR", default_value_t = here(GATEWAY_PORT))]
    pub(crate) gateway: SocketAddr,

    /// The address of the first model's predictor; others get free ports on the same IP address
    #[arg(long, env = "CANOPY_PREDICTOR", value_name = "ADDR", default_value_t = here(PREDICTOR_PORT))]
    pub(crate) predictor: SocketAddr,

    /// The address of liveness, readiness and metrics of this process
    #[arg(long, env = "CANOPY_ADMIN", value_name = "ADDR", default_value_t = here(GATEWAY_ADMIN_PORT))]
    pub(crate) admin: SocketAddr,

    /// Whether every client that reaches the gateway may list recorded predictions and the users of the database
    /// [default: true if --gateway is on loopback, otherwise false]
    #[arg(long, env = "CANOPY_LIST_PREDICTIONS", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) list_predictions: Option<bool>,

    /// The folder of the database and of trained models; created if it does not exist
    #[arg(long, env = "CANOPY_DATA", value_name = "DIR", default_value = ".canopy")]
    pub(crate) data: PathBuf,

    /// Names, separated by commas, by which clients may call listeners on loopback, as a proxy on this machine does.
    /// IP addresses and localhost are always allowed; a request with another Host header is refused with 421
    #[arg(long, env = "CANOPY_ALLOWED_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub(crate) allowed_hosts: Vec<String>,

    /// The format of the summary
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Output,
}

impl UpArguments {
    /// Whether clients may list what the database has: by default only if only this machine reaches the gateway.
    pub(crate) fn lists_predictions(&self) -> bool {
        self.list_predictions.unwrap_or_else(|| self.gateway.ip().to_canonical().is_loopback())
    }
}

/// Serve model files, each with a predictor of its own, without a gateway
///
/// Takes what canopy inspect takes: files of Canopy, ONNX, LightGBM (text), XGBoost (JSON and UBJ) and skops, and folders
/// of MLflow. If one model is refused, none is served. SIGTERM and ctrl-C end the process.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Example:
  canopy serve model.onnx --name iris
  curl -s localhost:8001/predict -H 'content-type: application/json' -d '{{\"features\":[5.1,3.5,1.4,0.2]}}'

{EXIT_CODES}"))]
pub(crate) struct ServeArguments {
    /// The model files, or folders of MLflow models
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) names: Names,

    #[command(flatten)]
    pub(crate) declared: Declared,

    /// The address of the first model's predictor; others get free ports on the same IP address. Port 0 selects a free port
    #[arg(long, env = "CANOPY_LISTEN", value_name = "ADDR", default_value_t = here(PREDICTOR_PORT))]
    pub(crate) listen: SocketAddr,

    /// The address of liveness, readiness and metrics of this process
    #[arg(long, env = "CANOPY_ADMIN", value_name = "ADDR", default_value_t = here(PREDICTOR_ADMIN_PORT))]
    pub(crate) admin: SocketAddr,

    /// Names, separated by commas, by which clients may call a listener on loopback, as a proxy on this machine does.
    /// IP addresses and localhost are always allowed; a request with another Host header is refused with 421
    #[arg(long, env = "CANOPY_ALLOWED_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub(crate) allowed_hosts: Vec<String>,
}

/// What the models of model files are called.
#[derive(Debug, Default, Args)]
pub(crate) struct Names {
    /// The names of the models in the order of the model files, separated by commas or each with a flag of its own. By
    /// default a model is named after its file
    #[arg(long = "name", value_name = "NAME", value_delimiter = ',')]
    pub(crate) names: Vec<ModelName>,
}

/// What the user knows about a model file.
#[derive(Debug, Default, Args)]
pub(crate) struct Declared {
    /// The format of the model files, in upper or lower case; a file of another format is refused. By default the
    /// format is recognised by the content
    #[arg(long, value_enum, value_name = "FORMAT", ignore_case = true)]
    pub(crate) format: Option<FormatName>,

    /// The names of the classes, separated by commas; the first has index 0. Needed for a neural network with one score for
    /// each class whose file has no labels, because its scores may be values; for other models they replace the indices
    /// of the classes. Only allowed with one model file
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) classes: Vec<String>,
}

impl Declared {
    /// Whether nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.format.is_none() && self.classes.is_empty()
    }
}

/// The formats of model files, spelled as in manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    #[value(name = "ONNX")]
    Onnx,
    #[value(name = "LightGBM")]
    LightGbm,
    #[value(name = "XGBoost")]
    XgBoost,
    #[value(name = "Skops")]
    Skops,
    #[value(name = "MLflow")]
    MlFlow,
    #[value(name = "Canopy")]
    Canopy,
}

impl From<FormatName> for ModelFormat {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Onnx => Self::Onnx,
            FormatName::LightGbm => Self::LightGbm,
            FormatName::XgBoost => Self::XgBoost,
            FormatName::Skops => Self::Skops,
            FormatName::MlFlow => Self::MlFlow,
            FormatName::Canopy => Self::Canopy,
        }
    }
}

/// Train one model and write it into a file
///
/// The evaluation on held-out rows goes to standard output, progress and warnings go to standard error. A refused model is
/// not written, and an output that cannot be written is reported before training.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Example:
  canopy train -f deploy/samples/iris.yaml -o iris.canopy

{EXIT_CODES}"))]
pub(crate) struct TrainArguments {
    /// The manifest with the one PredictorModel, and the ConfigMap of its data; '-' is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The file to write; '-' is standard output, and the report then goes to standard error. Links are followed; pipes and
    /// devices are written to
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// The implementation of training
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    pub(crate) trainer: Trainer,

    /// The format of the report
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Output,
}

/// Predict the rows of a table with a model in a file
///
/// Prints one line of JSON per row: the predictor's response with the number of the row and, if classes have names, the
/// name of the class. The table is CSV with a header that has the names of all features, in any order; other columns are
/// ignored. A cell is a number, the name of a category, or empty where the model takes missing values. If a row is invalid,
/// nothing is printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  canopy predict --model iris.canopy --input flowers.csv --proba
  {\"row\":1,\"prediction\":0,\"confidence\":1.0,\"label\":\"setosa\",\"probabilities\":[1.0,0.0,0.0]}")]
pub(crate) struct PredictArguments {
    /// The file that canopy train wrote, or a file or folder of another library that canopy inspect takes
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,

    #[command(flatten)]
    pub(crate) declared: Declared,

    /// The CSV file; '-' is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,

    /// Also print the probability of every class
    #[arg(long)]
    pub(crate) proba: bool,
}

/// Print what a model file is: its format, inputs, steps, trees and outputs
///
/// Reads files of Canopy, ONNX, LightGBM (text), XGBoost (JSON and UBJ) and skops, and folders of MLflow; docs/models.md
/// has the list. A file that cannot be used is refused with the reason.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Example:
  canopy inspect model.ubj

{EXIT_CODES}"))]
pub(crate) struct InspectArguments {
    /// The model file, or the folder of an MLflow model; '-' is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The format of the description
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Output,
}

/// The format of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// A process with an API.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    /// The API for clients
    Gateway,
    /// The API of a model's predictor
    Predictor,
}

fn here(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn recorded_predictions_are_listed_on_loopback_or_if_the_flag_is_set() {
        let check = |flags: &[&str], expected: bool| {
            let words = [&["canopy", "up"], flags].concat();
            let Command::Up(up) = Arguments::parse_from(words).command else { panic!("another command") };
            assert_eq!(up.lists_predictions(), expected, "{flags:?}");
        };
        check(&[], true);
        for (address, is_here) in [
            ("127.0.0.1:0", true),
            ("127.8.8.8:8000", true),
            ("[::1]:8000", true),
            ("[::ffff:127.0.0.1]:8000", true),
            ("0.0.0.0:8000", false),
            ("[::]:8000", false),
            ("10.0.0.1:8000", false),
        ] {
            check(&["--gateway", address], is_here);
            check(&["--gateway", address, "--list-predictions"], true);
            check(&["--gateway", address, "--list-predictions=true"], true);
            check(&["--gateway", address, "--list-predictions=false"], false);
        }
    }

    #[test]
    fn formats_are_spelled_as_in_manifests_and_taken_in_any_case() {
        for name in FormatName::value_variants() {
            let spelled = serde_json::to_value(ModelFormat::from(*name)).unwrap();
            assert_eq!(spelled, name.to_possible_value().unwrap().get_name());
        }
        let words = ["canopy", "serve", "model", "--format", "xgboost"];
        let Command::Serve(serve) = Arguments::parse_from(words).command else { panic!("another command") };
        assert_eq!(serve.declared.format, Some(FormatName::XgBoost));
    }

    #[test]
    fn every_command_shows_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for part in command.get_subcommands().chain([&command]) {
            let help = part.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains("\n  canopy "), "{}: {help}", part.get_name());
        }
    }
}
