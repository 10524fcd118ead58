//! The measured servers: how each is started, and the requests it gets.
//!
//! All have the same settings where they have them: two workers, no line per request. The bare server has one thread on one
//! core.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use canopy_contract::names::{DEFAULT_NAMESPACE, REVISION_DIGITS};
use canopy_contract::schema::Feature;
use canopy_contract::serving::{Algorithm, Data, MaxFeatures, RandomForest, ServingConfig, Source, Train};

use crate::call::Call;
use crate::results::Subject;
use crate::server::{Server, free_address, output};
use crate::start::first_answer;

/// Number of threads or processes of each server.
const WORKERS: &str = "2";

/// The programs that are measured, and a folder for files.
pub(crate) struct Workplace {
    /// The folder of Canopy's programs.
    pub(crate) programs: PathBuf,
    /// A Python that has the packages of `peers/requirements.txt`.
    pub(crate) python: PathBuf,
    /// A folder that is deleted after the run.
    pub(crate) scratch: PathBuf,
}

/// The folder of the other servers.
pub(crate) fn peers() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))
}

impl Workplace {
    /// A command of one of the Python programs in `peers`.
    pub(crate) fn python(&self, program: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(peers().join(program));
        command
    }

    /// Creates rows, and a model of them for Canopy and for scikit-learn.
    pub(crate) fn prepare(&self) -> Result<()> {
        output(self.python("make_data.py").arg(&self.scratch))?;
        output(self.python("prepare_model.py").arg(self.rows("demo")).arg(self.joblib()))?;
        self.prepare_canopy(Data::Csv { source: Source::Path(self.rows("demo")), target: "class".to_owned() })
    }

    /// Trains Canopy's model on `data`.
    pub(crate) fn prepare_canopy(&self, data: Data) -> Result<()> {
        std::fs::write(self.config(), serde_json::to_string(&demo(data)?)?)?;
        let mut prepare = self.canopy("canopy-predictor");
        prepare.arg("prepare").arg("--config").arg(self.config()).arg("--dir").arg(self.model());
        output(&mut prepare)?;
        Ok(())
    }

    /// The file of rows with this name.
    pub(crate) fn rows(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{name}.csv"))
    }

    /// Starts the servers of a subject and waits for a correct response of each. The server that gets the requests is first.
    pub(crate) async fn stand_up(&self, subject: Subject) -> Result<(Vec<Server>, Call)> {
        let behind = match subject {
            Subject::Nginx => Some(Box::pin(self.stand_up(Subject::Baseline)).await?),
            Subject::Gateway => Some(Box::pin(self.stand_up(Subject::Predictor)).await?),
            Subject::Baseline | Subject::Predictor | Subject::FastApi => None,
        };
        let address = free_address()?;
        let call = call(subject, address);
        let upstream = behind.as_ref().map(|(_, call)| call.address);
        let (server, _) = self.start(subject, &call, upstream).await?;
        let mut servers = vec![server];
        servers.extend(behind.into_iter().flat_map(|(servers, _)| servers));
        Ok((servers, call))
    }

    /// Starts one server; returns it with the time until its first correct response to `call`.
    pub(crate) async fn start(
        &self,
        subject: Subject,
        call: &Call,
        upstream: Option<SocketAddr>,
    ) -> Result<(Server, Duration)> {
        let (name, mut command) = match subject {
            Subject::Baseline => ("axum", Self::baseline(call.address)?),
            Subject::Nginx => ("nginx", self.nginx(call.address, upstream)?),
            Subject::Predictor => ("predictor", self.predictor(call.address, free_address()?)),
            Subject::Gateway => {
                let upstream = upstream.context("the gateway needs the address of a predictor")?;
                let mut command = self.gateway(call.address, free_address()?, upstream);
                let database = self.scratch.join("canopy.db");
                command.args(["--database-url", &format!("sqlite://{}", database.display())]);
                // The cost of recording is measured separately.
                command.args(["--record-ratio", "0"]);
                ("gateway", command)
            }
            Subject::FastApi => ("uvicorn", self.fastapi(call.address)),
        };
        first_answer(call, || Server::start(name, &mut command)).await
    }

    fn fastapi(&self, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-m", "uvicorn", "fastapi_app:app", "--workers", WORKERS, "--no-access-log"]);
        command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
        command.current_dir(peers()).env("MODEL", self.joblib());
        command
    }

    /// A command of the predictor.
    pub(crate) fn predictor(&self, address: SocketAddr, admin: SocketAddr) -> Command {
        let mut command = self.canopy("canopy-predictor");
        command.arg("serve").args(["--workers", WORKERS, "--drain-seconds", "0"]);
        command.arg("--config").arg(self.config()).arg("--dir").arg(self.model());
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command
    }

    /// A command of the gateway, without a database.
    pub(crate) fn gateway(&self, address: SocketAddr, admin: SocketAddr, upstream: SocketAddr) -> Command {
        let mut command = self.canopy("canopy-gateway");
        command.args(["--workers", WORKERS, "--drain-seconds", "0"]);
        command.args(["--predictors", &format!("demo=http://{upstream}")]);
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command
    }

    /// A command of one of Canopy's programs, without environment variables.
    fn canopy(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env_clear();
        command
    }

    /// The bare server, which is this program: one thread on one core, so that its cost includes no migration between cores.
    fn baseline(address: SocketAddr) -> Result<Command> {
        let mut command = Command::new("taskset");
        let this_program = std::env::current_exe().context("failed to find this program")?;
        command.args(["--cpu-list", &last_core()?]).arg(this_program);
        command.args(["baseline", "--workers", "1", "--listen", &address.to_string()]);
        Ok(command)
    }

    fn config(&self) -> PathBuf {
        self.scratch.join("demo.json")
    }

    fn model(&self) -> PathBuf {
        self.scratch.join("model")
    }

    fn joblib(&self) -> PathBuf {
        self.scratch.join("demo.joblib")
    }

    fn nginx(&self, address: SocketAddr, upstream: Option<SocketAddr>) -> Result<Command> {
        let upstream = upstream.context("nginx needs the address of a server")?;
        let folder = self.scratch.join("nginx");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("nginx.conf");
        std::fs::write(&file, nginx_configuration(&folder, address, upstream))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
        Ok(command)
    }
}

/// The last core that this process may run on.
fn last_core() -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed = allowed.context("/proc/self/status has no Cpus_allowed_list")?;
    Ok(allowed.trim().rsplit([',', '-']).next().unwrap_or_default().to_owned())
}

/// The requests for a subject.
pub(crate) fn call(subject: Subject, address: SocketAddr) -> Call {
    match subject {
        Subject::Gateway => Call::predictions(address, "/api/predict", "class"),
        Subject::Baseline | Subject::Nginx | Subject::Predictor | Subject::FastApi => {
            Call::predictions(address, "/predict", "prediction")
        }
    }
}

/// The model `demo`, trained on given data: the same parameters as in `peers/prepare_model.py`.
fn demo(data: Data) -> Result<ServingConfig> {
    let feature =
        |column| Feature { min: Some(-10.0), max: Some(10.0), ..Feature::named(format!("x{column}")) };
    Ok(ServingConfig {
        model: "demo".parse()?,
        namespace: DEFAULT_NAMESPACE.to_owned(),
        version: "1.0".to_owned(),
        revision: "0".repeat(REVISION_DIGITS),
        train: Some(Train {
            data,
            algorithm: Algorithm::RandomForest(RandomForest {
                trees: 100,
                max_depth: None,
                min_samples_leaf: 1,
                max_features: MaxFeatures::Sqrt,
                bootstrap: true,
                seed: 42,
            }),
            standardize: true,
            test_percent: 20,
            gate: None,
        }),
        artifact: None,
        examples: Vec::new(),
        evaluate: None,
        features: (0..4).map(feature).collect(),
        classes: Vec::new(),
    })
}

/// A proxy as nginx's documentation recommends for speed: keep-alive on both sides, no log.
fn nginx_configuration(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes {WORKERS};
pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream server {{
        server {upstream};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}
