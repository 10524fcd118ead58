//! A real Prometheus that asks pods of a cluster.
//!
//! Comes in: `KUBECONFIG`, which pods it is to ask, a file of rules. Goes out: answers to queries. Never: a way to the pods
//! of its own: it asks them through the API server, for it runs beside the cluster and not in it; nor pods that it found
//! by itself, for Debian builds it without Kubernetes' discovery.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{client, send};
use crate::kubernetes::kubectl_json;
use crate::process::{Process, free_address};
use crate::wait::until;

/// Where Debian's package has it.
const PROGRAM: &str = "/usr/bin/prometheus";
/// How long it may take to come up.
const UP_WITHIN: Duration = Duration::from_mins(1);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    client: Client,
    process: Process,
    _folder: TempDir,
}

/// Pods, as a `PodMonitor` names them.
#[derive(Debug)]
pub struct Pods {
    /// What becomes the label `job`.
    pub job: String,
    /// The values of the label `app.kubernetes.io/name` that they have.
    pub names: Vec<String>,
    /// The name of the port that tells metrics.
    pub port: String,
    /// Where on that port.
    pub path: String,
}

impl Prometheus {
    /// Starts one that asks those of `pods` that there are now, every second, and works out the rules of a file; returns
    /// when it answers.
    pub async fn start(pods: &Pods, rules: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let configuration = configuration(pods, rules, folder.path())?;
        let file = folder.path().join("prometheus.yml");
        // JSON is YAML.
        fs::write(&file, configuration.to_string())?;
        let address = free_address()?;
        let flags = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()),
            format!("--web.listen-address={address}"),
        ];
        let mut process = Process::start(Path::new(PROGRAM), &flags, &[])?;
        let client = client()?;
        until("Prometheus to come up", UP_WITHIN, async || {
            process.still_runs()?;
            let reply = send(client.get(format!("http://{address}/-/ready"))).await?;
            ensure!(reply.status == 200, "{}: {}", reply.status, reply.text);
            Ok(())
        })
        .await?;
        Ok(Self { address, client, process, _folder: folder })
    }

    /// The values that a query finds now; an error where Prometheus does not take it.
    pub async fn ask(&self, query: &str) -> Result<Vec<f64>> {
        let path = format!("http://{}/api/v1/query", self.address);
        let reply = send(self.client.get(Url::parse_with_params(&path, [("query", query)])?)).await?;
        ensure!(reply.status == 200, "{query}: {}", reply.text);
        let data = &reply.json()?["data"];
        let values: Vec<_> = match data["resultType"].as_str() {
            Some("scalar") => vec![&data["result"][1]],
            _ => data["result"].as_array().into_iter().flatten().map(|series| &series["value"][1]).collect(),
        };
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        values.into_iter().map(|value| number(value).with_context(|| format!("{query}: {value}"))).collect()
    }

    /// What it printed, for whoever reads why a test failed.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }
}

/// Where to find the API server, whom to ask through it, and what to work out of the answers.
fn configuration(pods: &Pods, rules: &Path, folder: &Path) -> Result<Value> {
    let seen = kubectl_json(&["config", "view", "--raw", "--minify", "--flatten"])?;
    let (cluster, user) = (&seen["clusters"][0]["cluster"], &seen["users"][0]["user"]);
    let server = cluster["server"].as_str().and_then(|server| server.strip_prefix("https://"));
    let server = server.context("the API server has an address")?;
    let mut tls = json!({});
    for (name, value) in [
        ("ca_file", &cluster["certificate-authority-data"]),
        ("cert_file", &user["client-certificate-data"]),
        ("key_file", &user["client-key-data"]),
    ] {
        let text = value.as_str().with_context(|| format!("KUBECONFIG has what goes into {name}"))?;
        let file = folder.join(name);
        fs::write(&file, BASE64.decode(text.as_bytes())?)?;
        tls[name] = json!(file);
    }
    let relabel = json!([
        {"target_label": "instance", "source_labels": ["__address__"]},
        // From here on the way through the API server.
        {"target_label": "__address__", "replacement": server},
    ]);
    Ok(json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [rules],
        "scrape_configs": [{
            "job_name": "pods",
            "scheme": "https",
            "tls_config": tls,
            "static_configs": targets(pods)?,
            "relabel_configs": relabel,
        }],
    }))
}

/// The pods that there are, with the labels that a `PodMonitor` gives them.
fn targets(pods: &Pods) -> Result<Vec<Value>> {
    let Pods { job, names, port, path } = pods;
    let selector = format!("app.kubernetes.io/name in ({})", names.join(","));
    let list = kubectl_json(&["get", "pods", "--all-namespaces", "--selector", &selector])?;
    let mut found = Vec::new();
    for pod in list["items"].as_array().context("a list has items")? {
        let ports = pod["spec"]["containers"].as_array().into_iter().flatten();
        let ports = ports.flat_map(|container| container["ports"].as_array().into_iter().flatten());
        let (metadata, ip) = (&pod["metadata"], pod["status"]["podIP"].as_str());
        let (Some(namespace), Some(name), Some(ip)) =
            (metadata["namespace"].as_str(), metadata["name"].as_str(), ip)
        else {
            continue;
        };
        for number in ports.filter(|one| one["name"] == *port).filter_map(|one| one["containerPort"].as_u64())
        {
            let way = format!("/api/v1/namespaces/{namespace}/pods/{name}:{number}/proxy{path}");
            let labels = json!({"job": job, "namespace": namespace, "pod": name, "__metrics_path__": way});
            found.push(json!({"targets": [format!("{ip}:{number}")], "labels": labels}));
        }
    }
    ensure!(!found.is_empty(), "there are no pods with {selector} and a port {port}");
    Ok(found)
}
