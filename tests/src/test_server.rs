//! Starts predictors and gateways as processes, with a model that is prepared once.
//!
//! Tests share no ports, folders or environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Reply, client, send};
use crate::process::{Process, free_address};
use crate::programs::program;
use crate::wait::{SOON, until};

/// The revision of the model that [`Model::demo`] prepares.
pub const REVISION: &str = "0a1b2c3d";

/// A model that is prepared once, and served by any number of predictors.
#[derive(Debug)]
pub struct Model {
    folder: TempDir,
}

impl Model {
    /// Prepares the model `demo`: class 1 if the sum of the first two of four features is positive.
    pub async fn demo() -> Result<Self> {
        let model = Self::of(&json!({"synthetic": {"samples": 1000, "features": 4, "seed": 42}}))?;
        let mut prepare = model.prepare()?;
        let status = prepare.ended().await?;
        ensure!(status.success(), "prepare ended with {status}: {}", prepare.lines().join("\n"));
        Ok(model)
    }

    /// A model of `data` that is not prepared.
    pub fn of(data: &Value) -> Result<Self> {
        let model = Self { folder: TempDir::new()? };
        let forest = json!({
            "trees": 20, "minSamplesLeaf": 1, "maxFeatures": "Sqrt", "bootstrap": true, "seed": 42,
        });
        let features: Vec<_> =
            (0..4).map(|i| json!({"name": format!("x{i}"), "min": -10.0, "max": 10.0})).collect();
        let config = json!({
            "model": "demo", "namespace": "default", "version": "1.0", "revision": REVISION,
            "train": {
                "data": data, "algorithm": {"randomForest": forest}, "standardize": true, "testPercent": 20,
            },
            "features": features, "classes": [],
        });
        std::fs::write(model.config(), config.to_string())?;
        Ok(model)
    }

    /// Starts the process that prepares it.
    pub fn prepare(&self) -> Result<Process> {
        let arguments = [&["prepare".to_owned()][..], &self.arguments()].concat();
        // Servers of tests are on loopback, from which `prepare` downloads only if it is allowed.
        let allowed = ("CANOPY_SOURCE_ALLOWED_NETWORKS", "127.0.0.0/8".to_owned());
        Process::start(program("canopy-predictor")?, &arguments, &[allowed])
    }

    /// The arguments of a predictor that serves it, without the addresses.
    pub fn command_line(&self) -> Vec<String> {
        [&["serve".to_owned()][..], &self.arguments()].concat()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    fn arguments(&self) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        ["--config", &self.config().display().to_string(), "--dir", &folder].map(str::to_owned).to_vec()
    }
}

/// A gateway or a predictor with its addresses.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Process,
    /// The address for requests.
    pub address: SocketAddr,
    /// The address of the admin port.
    pub admin: SocketAddr,
    client: Client,
}

impl Server {
    /// A predictor of `model`, ready.
    pub async fn predictor(model: &Model, environment: &[(&str, String)]) -> Result<Self> {
        Self::predictor_at(free_address()?, model, environment).await
    }

    /// A predictor of `model` at a known address, ready.
    pub async fn predictor_at(
        address: SocketAddr,
        model: &Model,
        environment: &[(&str, String)],
    ) -> Result<Self> {
        Self::start("canopy-predictor", address, model.command_line(), environment).await
    }

    /// A ready gateway that uses the predictor at `predictor` for the model `demo`.
    pub async fn gateway(predictor: SocketAddr, environment: &[(&str, String)]) -> Result<Self> {
        let arguments = ["--predictors".to_owned(), format!("demo=http://{predictor}")];
        Self::start("canopy-gateway", free_address()?, arguments.to_vec(), environment).await
    }

    async fn start(
        name: &str,
        address: SocketAddr,
        mut arguments: Vec<String>,
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let admin = free_address()?;
        arguments.extend([
            "--listen".to_owned(),
            address.to_string(),
            "--admin".to_owned(),
            admin.to_string(),
        ]);
        let process = Process::start(program(name)?, &arguments, environment)?;
        let mut server = Self { process, address, admin, client: client()? };
        server.until_ready().await?;
        Ok(server)
    }

    async fn until_ready(&mut self) -> Result<()> {
        let (client, admin, process) = (&self.client, self.admin, &mut self.process);
        let ready = until("readiness", SOON, async || {
            process.still_runs()?;
            let reply = send(client.get(format!("http://{admin}/ready"))).await?;
            ensure!(reply.status == 200, "{}", reply.text);
            Ok(())
        });
        let ready = ready.await;
        ready.with_context(|| self.process.lines().join("\n"))
    }

    /// `GET` at the public port.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        send(self.client.get(format!("http://{}{path}", self.address))).await
    }

    /// `GET` at the admin port.
    pub async fn admin(&self, path: &str) -> Result<Reply> {
        send(self.client.get(format!("http://{}{path}", self.admin))).await
    }

    /// `POST` of a JSON body at the public port.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        send(self.client.post(format!("http://{}{path}", self.address)).json(body)).await
    }
}

/// A row of class 1 for the demo model.
pub fn row() -> Value {
    json!({"features": [2.0, 2.0, 0.0, 0.0]})
}
