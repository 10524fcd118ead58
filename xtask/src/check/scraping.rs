//! A real Prometheus that scrapes one process on this machine.
//!
//! That of `tests/src/prometheus.rs` scrapes the pods of a cluster through its API server, with its rules.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::debian;
use crate::http::{free_address, get};
use crate::shell::{Running, command, root};

/// The longest time until it has started and scraped.
const START: Duration = Duration::from_mins(1);

/// A running Prometheus.
pub(super) struct Prometheus {
    running: Running,
    address: SocketAddr,
    /// Its files, which are removed with it.
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What could not be removed is in the target folder.
        drop(fs::remove_dir_all(&self.0));
    }
}

impl Prometheus {
    /// Starts one that scrapes `target` every second.
    pub(super) fn of(target: SocketAddr) -> Result<Self> {
        debian::need("prometheus", "prometheus")?;
        let folder = Folder(root().join(format!("target/prometheus-{}", std::process::id())));
        fs::create_dir_all(&folder.0).context("failed to make a folder for Prometheus")?;
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "canopy", "static_configs": [{"targets": [target.to_string()]}]}],
        });
        let (file, data) = (folder.0.join("prometheus.yml"), folder.0.join("data"));
        fs::write(&file, config.to_string()).context("failed to write the settings of Prometheus")?;
        let address = free_address()?;
        let mut prometheus = command("prometheus", [format!("--config.file={}", file.display())]);
        prometheus.arg(format!("--storage.tsdb.path={}", data.display()));
        prometheus.arg(format!("--web.listen-address={address}"));
        prometheus.args(["--enable-feature=exemplar-storage", "--log.level=warn"]);
        Ok(Self { running: Running::start(&mut prometheus)?, address, _folder: folder })
    }

    /// Waits until the target is up and `query` has an exemplar with `trace`.
    pub(super) fn until_exemplar(&mut self, query: &str, trace: &str) -> Result<()> {
        let Self { running, address, .. } = self;
        running.until(START, || {
            let health = get(*address, "/api/v1/targets")?;
            let target = &health["data"]["activeTargets"][0];
            ensure!(target["health"] == "up", "the target is not up: {target}");
            let found = get(*address, &format!("/api/v1/query_exemplars?query={query}"))?;
            let series = found["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            let exemplars = series.iter().filter_map(|one| one["exemplars"].as_array()).flatten();
            let traces: Vec<_> = exemplars.map(|one| &one["labels"]["trace_id"]).collect();
            ensure!(traces.contains(&&Value::from(trace)), "{query} has exemplars of {traces:?}");
            Ok(())
        })
    }

    /// The number of series of `query`.
    pub(super) fn series(&self, query: &str) -> Result<usize> {
        let found = get(self.address, &format!("/api/v1/query?query={query}"))?;
        found["data"]["result"].as_array().map(Vec::len).with_context(|| format!("no result: {found}"))
    }
}
