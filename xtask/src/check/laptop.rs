//! `canopy up`, as a person with a new clone runs it: a prediction through gateway and predictor in one process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::scraping::Prometheus;
use crate::binaries::canopy;
use crate::debian;
use crate::http::{free_address, get, get_text, post, post_with};
use crate::shell::{Running, command, root, run_with_input};

/// How long it may take to become ready, training included.
const START: Duration = Duration::from_mins(1);
/// How long the first command of the README may take, compiling included.
const FIRST_COMMAND: Duration = Duration::from_mins(10);

/// A running `canopy up` and its addresses.
pub(super) struct Laptop {
    running: Running,
    data: PathBuf,
    pub(super) gateway: SocketAddr,
    pub(super) predictor: SocketAddr,
    admin: SocketAddr,
}

impl Laptop {
    /// Starts it as the README says, but on free ports, and waits until it is ready.
    pub(super) fn start() -> Result<Self> {
        let canopy = canopy()?;
        let (gateway, predictor, admin) = (free_address()?, free_address()?, free_address()?);
        let data = root().join(format!("target/laptop-{}", std::process::id()));
        let mut up = command(canopy, ["up", "--data"]);
        up.arg(&data).arg("--gateway").arg(gateway.to_string());
        up.arg("--predictor").arg(predictor.to_string()).arg("--admin").arg(admin.to_string());
        let mut laptop = Self { running: Running::start(&mut up)?, data, gateway, predictor, admin };
        laptop.running.until(START, || get_text(admin, "/ready"))?;
        Ok(laptop)
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        // What could not be removed is in the target folder.
        drop(fs::remove_dir_all(&self.data));
    }
}

/// Gateway and predictor answer.
pub(super) fn answers() -> Result<()> {
    let laptop = Laptop::start()?;
    get(laptop.gateway, "/api/test")?;
    let users = get(laptop.gateway, "/api/users")?;
    ensure!(users["users"][0]["name"] == "Alice", "GET /api/users answered {users}");
    let answer = post(laptop.gateway, "/api/predict", &json!({"features": [2.0, 2.0, 0.0, 0.0]}))?;
    ensure!(
        answer["prediction"]["class"] == 1,
        "two positive features are class 1, but the gateway answered {answer}"
    );
    let answer = post(laptop.predictor, "/predict", &json!({"features": [-2.0, -2.0, 0.0, 0.0]}))?;
    ensure!(
        answer["prediction"] == 0,
        "two negative features are class 0, but the predictor answered {answer}"
    );
    Ok(())
}

/// The trace id of a request.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// Series with exemplars.
const WITH_EXEMPLARS: [&str; 3] = [
    "canopy_gateway_request_duration_seconds_bucket{}",
    "canopy_gateway_upstream_duration_seconds_bucket{}",
    "canopy_predictor_prediction_duration_seconds_bucket{}",
];
/// Other series.
const WITHOUT: [&str; 3] =
    ["canopy_gateway_requests_total{}", "canopy_model_bytes{}", "process_cpu_seconds_total{}"];

/// `promtool` finds no fault in the metrics of both parts after a request; a Prometheus scrapes them as `OpenMetrics` and has
/// the trace of a request as an exemplar.
pub(super) fn metrics() -> Result<()> {
    debian::need("promtool", "prometheus")?;
    let laptop = Laptop::start()?;
    post(laptop.gateway, "/api/predict", &json!({"features": [1.0, 1.0, 0.0, 0.0]}))?;
    let text = get_text(laptop.admin, "/metrics")?;
    for part in ["canopy_gateway_requests_total{", "canopy_predictor_requests_total{", "canopy_build_info{"] {
        ensure!(text.contains(part), "the metrics have no {part}…}}:\n{text}");
    }
    let output = run_with_input(&mut command("promtool", ["check", "metrics"]), &text)
        .context("promtool rejects the metrics")?;
    ensure!(output.is_empty(), "promtool prints warnings: {output}");

    let mut prometheus = Prometheus::of(laptop.admin)?;
    let caller = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    let body = json!({"features": [1.0, 1.0, 0.0, 0.0]});
    post_with(laptop.gateway, "/api/predict", &caller, &body)?;
    for query in WITH_EXEMPLARS {
        prometheus.until_exemplar(query, TRACE)?;
    }
    for query in WITHOUT {
        ensure!(prometheus.series(query)? > 0, "Prometheus has no series {query}");
    }
    Ok(())
}

/// The first command of the README, word for word, with its default ports, and the request that follows it.
pub(super) fn first_command_of_the_readme() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md")).context("failed to read README.md")?;
    let first = first_command(&readme).context("README.md has no line that begins with `cargo run`")?;
    // `exec`, so that the program is the one that is ended.
    let mut up = Running::start(&mut command("sh", ["-c", &format!("exec {first}")]))?;
    let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000));
    let row = json!({"features": [1.2, 0.4, -0.3, 2.0]});
    let answer = up.until(FIRST_COMMAND, || post(gateway, "/api/predict", &row))?;
    ensure!(answer["prediction"]["class"] == 1, "the README shows class 1, but the answer is {answer}");
    Ok(())
}

/// The first line of a document's code that begins with `cargo run`, without its comment.
fn first_command(document: &str) -> Option<&str> {
    let line = document
        .lines()
        .find_map(|line| Some(line.strip_prefix("    ")?).filter(|l| l.starts_with("cargo run")))?;
    Some(line.split('#').next().unwrap_or(line).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_command_of_the_readme_is_found() {
        let readme = fs::read_to_string(root().join("README.md")).unwrap();
        assert_eq!(first_command(&readme), Some("cargo run --release -- up"));
        assert_eq!(first_command("cargo run is text\n    cargo test\n"), None);
    }
}
