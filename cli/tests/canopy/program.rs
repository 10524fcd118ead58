//! Runs or starts the program under test, with an empty environment.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use canopy_tests::http::{Reply, client, send};
use canopy_tests::process::Process;
use canopy_tests::wait::{SOON, until};
use serde_json::Value;
use tempfile::TempDir;

/// The manifest of the demo model.
pub(crate) const DEMO: &str = include_str!("../../../deploy/samples/demo.yaml");
/// The manifest of the iris model and its data.
pub(crate) const IRIS: &str = include_str!("../../../deploy/samples/iris.yaml");

/// A model in `tests/golden/models`.
pub(crate) fn golden(name: &str) -> String {
    format!("{}/../tests/golden/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A folder of a test's own.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(TempDir::new()?))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path as an argument.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String> {
        fs::write(self.path(name), text)?;
        Ok(self.argument(name))
    }

    pub(crate) fn argument(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// What a command that came to its end said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// Runs a command to its end, with `input` on its standard input.
pub(crate) fn run(arguments: &[&str], input: &str) -> Result<Ended> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canopy"));
    command.args(arguments).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("it has a standard input")?;
    let text = input.to_owned();
    // It may end without reading all of it; that is for the test to judge.
    let writing = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
    let output = child.wait_with_output()?;
    drop(writing.join());
    Ok(Ended {
        code: output.status.code(),
        output: String::from_utf8(output.stdout)?,
        errors: String::from_utf8(output.stderr)?,
    })
}

/// A running `canopy up`.
pub(crate) struct Up {
    pub(crate) process: Process,
    pub(crate) summary: Value,
    client: reqwest::Client,
}

impl Up {
    /// Starts it on free ports and waits for its summary.
    pub(crate) async fn start(data: &Path, manifests: &[&str]) -> Result<Self> {
        Self::start_with(data, &flags(manifests)).await
    }

    /// The same with other flags.
    pub(crate) async fn start_with(data: &Path, more: &[&str]) -> Result<Self> {
        let mut process = start(data, &[&["--output", "json"], more].concat())?;
        let summary = until("the summary", SOON, async || {
            process.still_runs()?;
            let lines = process.lines();
            let mut read = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let summary = read.find(|line| line["gateway"].is_string());
            summary.with_context(|| format!("it said {lines:?}"))
        });
        Ok(Self { summary: summary.await?, process, client: client()? })
    }

    /// `GET` of a URL.
    pub(crate) async fn get(&self, url: &str) -> Result<Reply> {
        send(self.client.get(url)).await
    }

    /// `POST` of a JSON body.
    pub(crate) async fn post(&self, url: &str, body: &Value) -> Result<Reply> {
        send(self.client.post(url).json(body)).await
    }

    /// The URL of a path at the gateway.
    pub(crate) fn gateway(&self, path: &str) -> String {
        format!("{}{path}", self.summary["gateway"].as_str().unwrap_or_default())
    }
}

/// Starts `canopy up` on free ports.
pub(crate) fn start(data: &Path, more: &[&str]) -> Result<Process> {
    let data = data.display().to_string();
    let free = ["up", "--gateway", "127.0.0.1:0", "--predictor", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let arguments = [&free[..], &["--data", &data], more].concat();
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    Process::start(Path::new(env!("CARGO_BIN_EXE_canopy")), &arguments, &[])
}

/// A running `canopy serve`.
pub(crate) struct Serving {
    pub(crate) process: Process,
    client: reqwest::Client,
}

impl Serving {
    /// Starts it on free ports and waits until it serves this many models.
    pub(crate) async fn start(models: usize, arguments: &[&str]) -> Result<Self> {
        let mut process = serve(arguments)?;
        until("the answers of all models", SOON, async || {
            process.still_runs()?;
            let lines = process.lines();
            let examples = lines.iter().filter(|line| line.starts_with("  {\"prediction\":")).count();
            ensure!(examples == models, "expected {models} answers, got {lines:?}");
            Ok(())
        })
        .await?;
        Ok(Self { process, client: client()? })
    }

    /// The names and addresses of its models.
    pub(crate) fn models(&self) -> Vec<(String, String)> {
        let lines = self.process.lines();
        let model = |line: &String| {
            let (name, rest) = line.strip_prefix("model ")?.split_once(", revision ")?;
            Some((name.to_owned(), rest.split_once(": ")?.1.to_owned()))
        };
        lines.iter().filter_map(model).collect()
    }

    /// `GET` of a URL.
    pub(crate) async fn get(&self, url: &str) -> Result<Value> {
        send(self.client.get(url)).await?.json()
    }

    /// `POST` of a JSON body.
    pub(crate) async fn post(&self, url: &str, body: &Value) -> Result<Value> {
        send(self.client.post(url).json(body)).await?.json()
    }
}

/// Starts `canopy serve` on free ports.
pub(crate) fn serve(more: &[&str]) -> Result<Process> {
    let free = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let arguments: Vec<_> = [&free[..], more].concat().into_iter().map(str::to_owned).collect();
    Process::start(Path::new(env!("CARGO_BIN_EXE_canopy")), &arguments, &[])
}

fn flags<'a>(manifests: &[&'a str]) -> Vec<&'a str> {
    manifests.iter().flat_map(|manifest| ["-f", manifest]).collect()
}
