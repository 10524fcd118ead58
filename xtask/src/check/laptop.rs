//! What somebody with a fresh clone runs: `cargo run --release -- up`.
//!
//! Comes in: the sources. Goes out: a prediction from the whole line in one process. Never: a port that
//! something else on this machine may hold, or a file that is left behind.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::scraping::Prometheus;
use crate::binaries::canopy;
use crate::debian;
use crate::http::{free_address, get, get_text, post, post_with};
use crate::shell::{Running, command, feed, root};

/// How long training the demo model and starting everything may take.
const START: Duration = Duration::from_mins(1);

/// `canopy up`, and where it listens.
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
        // What is left of it is in the target folder, and is nobody's.
        drop(fs::remove_dir_all(&self.data));
    }
}

/// Each part of the line answers.
pub(super) fn answers() -> Result<()> {
    let laptop = Laptop::start()?;
    get(laptop.gateway, "/api/test")?;
    let users = get(laptop.gateway, "/api/users")?;
    ensure!(users["users"][0]["name"] == "Alice", "GET /api/users answered {users}");
    let answer = post(laptop.gateway, "/api/predict", &json!({"features": [2.0, 2.0, 0.0, 0.0]}))?;
    ensure!(
        answer["prediction"]["class"] == 1,
        "two positive features are class 1, but the gateway says {answer}"
    );
    let answer = post(laptop.predictor, "/predict", &json!({"features": [-2.0, -2.0, 0.0, 0.0]}))?;
    ensure!(answer["prediction"] == 0, "two negative features are class 0, but the predictor says {answer}");
    Ok(())
}

/// A trace that a caller keeps.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// What has exemplars, as Prometheus is asked for it.
const WITH_EXEMPLARS: [&str; 3] = [
    "canopy_gateway_request_duration_seconds_bucket{}",
    "canopy_gateway_upstream_duration_seconds_bucket{}",
    "canopy_predictor_prediction_duration_seconds_bucket{}",
];
/// And what else it knows.
const WITHOUT: [&str; 3] =
    ["canopy_gateway_requests_total{}", "canopy_model_bytes{}", "process_cpu_seconds_total{}"];

/// `promtool` reads the metrics of both parts after they did something, and has nothing to say; a Prometheus reads them
/// as `OpenMetrics`, and finds the trace of a request.
pub(super) fn metrics() -> Result<()> {
    debian::need("promtool", "prometheus")?;
    let laptop = Laptop::start()?;
    post(laptop.gateway, "/api/predict", &json!({"features": [1.0, 1.0, 0.0, 0.0]}))?;
    let text = get_text(laptop.admin, "/metrics")?;
    for part in ["canopy_gateway_requests_total{", "canopy_predictor_requests_total{", "canopy_build_info{"] {
        ensure!(text.contains(part), "the metrics have no {part}…}}:\n{text}");
    }
    let said = feed(&mut command("promtool", ["check", "metrics"]), &text).context("promtool finds fault")?;
    ensure!(said.is_empty(), "promtool says: {said}");

    let mut prometheus = Prometheus::of(laptop.admin)?;
    let caller = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    let body = json!({"features": [1.0, 1.0, 0.0, 0.0]});
    post_with(laptop.gateway, "/api/predict", &caller, &body)?;
    for query in WITH_EXEMPLARS {
        prometheus.until_exemplar(query, TRACE)?;
    }
    for query in WITHOUT {
        ensure!(prometheus.series(query)? > 0, "Prometheus knows no {query}");
    }
    Ok(())
}
