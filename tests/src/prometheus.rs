//! A real Prometheus that scrapes the pods of a cluster, and `promtool`.
//!
//! It runs beside the cluster, so it scrapes the pods through the API server.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::api::Credentials;
use crate::http::{client, send};
use crate::pod_list::PodList;
use crate::process::{Process, free_address};
use crate::programs::found;
use crate::slice::Slice;
use crate::wait::until;

/// In the slice `dist` it is built from source; otherwise it is Debian's, which has no Kubernetes discovery.
const PROGRAM: &str = "prometheus";
/// The longest time until it is ready.
const UP_WITHIN: Duration = Duration::from_mins(1);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    client: Client,
    process: Process,
    _folder: TempDir,
    _pods: PodList,
}

/// The pods that a `PodMonitor` selects.
#[derive(Debug)]
pub struct Pods {
    /// The label `job` of their series.
    pub job: String,
    /// The values of the label `app.kubernetes.io/name` that they have.
    pub names: Vec<String>,
    /// The name of the port of their metrics.
    pub port: String,
    /// The path of their metrics.
    pub path: String,
}

impl Prometheus {
    /// Starts one that scrapes `pods` and evaluates the rules of a file every second; returns when it is ready.
    pub async fn start(pods: &Pods, rules: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let list = PodList::start().await?;
        let configuration = configuration(pods, (rules, &list), folder.path())?;
        let file = folder.path().join("prometheus.yml");
        // JSON is YAML.
        fs::write(&file, configuration.to_string())?;
        let address = free_address()?;
        let flags = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()),
            format!("--web.listen-address={address}"),
            "--enable-feature=exemplar-storage".to_owned(),
        ];
        let mut process = Process::start(&found(PROGRAM)?, &flags, &[])?;
        let client = client()?;
        until("Prometheus to come up", UP_WITHIN, async || {
            process.still_runs()?;
            let reply = send(client.get(format!("http://{address}/-/ready"))).await?;
            ensure!(reply.status == 200, "{}: {}", reply.status, reply.text);
            Ok(())
        })
        .await?;
        Ok(Self { address, client, process, _folder: folder, _pods: list })
    }

    /// The values of a query now; an error if Prometheus refuses the query.
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

    /// The trace ids of the exemplars of a query's series.
    pub async fn traces(&self, query: &str) -> Result<Vec<String>> {
        let path = format!("http://{}/api/v1/query_exemplars", self.address);
        let ever = [("query", query), ("start", "0"), ("end", "9999999999")];
        let reply = send(self.client.get(Url::parse_with_params(&path, ever)?)).await?;
        ensure!(reply.status == 200, "{query}: {}", reply.text);
        let reply = reply.json()?;
        let series = reply["data"].as_array().into_iter().flatten();
        let exemplars = series.flat_map(|one| one["exemplars"].as_array().into_iter().flatten());
        Ok(exemplars.filter_map(|one| one["labels"]["trace_id"].as_str().map(str::to_owned)).collect())
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its output so far, for the report of a failed test.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }
}

/// The warnings of `promtool check metrics`; empty if there are none.
pub async fn faults(metrics: &str) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().context("failed to start promtool")?;
    let mut input = promtool.stdin.take().context("a child with a piped input has one")?;
    // It reads all of its input before it prints.
    input.write_all(metrics.as_bytes()).await?;
    drop(input);
    let said = promtool.wait_with_output().await?;
    let words = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    ensure!(said.status.success() || !words.is_empty(), "promtool ended with {}", said.status);
    Ok(words)
}

/// The configuration file: scrapes of `pods` through the API server, and the rules.
fn configuration(pods: &Pods, (rules, list): (&Path, &PodList), folder: &Path) -> Result<Value> {
    let Credentials { server, authority, certificate, key } = Credentials::read()?;
    let mut tls = json!({});
    for (name, pem) in [("ca_file", authority), ("cert_file", certificate), ("key_file", key)] {
        let file = folder.join(name);
        fs::write(&file, pem)?;
        tls[name] = json!(file);
    }
    let Pods { job, names, port, path } = pods;
    let of_pod = |label: &str| format!("__meta_kubernetes_pod_{label}");
    let keep = |label: &str, regex: &str| json!({"action": "keep", "source_labels": [of_pod(label)], "regex": regex});
    let copy = |from: &str, to: &str| json!({"source_labels": [from], "target_label": to});
    let namespace = "__meta_kubernetes_namespace";
    let way = [namespace.to_owned(), of_pod("name"), of_pod("container_port_number")];
    let relabel = json!([
        keep("label_app_kubernetes_io_name", &names.join("|")),
        keep("container_port_name", port),
        copy(namespace, "namespace"),
        copy(&of_pod("name"), "pod"),
        copy("__address__", "instance"),
        {"target_label": "job", "replacement": job},
        // These replace the address of the pod by a path of the API server.
        {"target_label": "__address__", "replacement": server},
        {
            "target_label": "__metrics_path__", "source_labels": way, "separator": ";", "regex": "(.+);(.+);(.+)",
            "replacement": format!("/api/v1/namespaces/$1/pods/$2:$3/proxy{path}"),
        },
    ]);
    let mut scrape = json!({
        "job_name": "pods",
        "scheme": "https",
        "tls_config": tls,
        "relabel_configs": relabel,
    });
    if Slice::Dist.runs() {
        scrape["kubernetes_sd_configs"] =
            json!([{"role": "pod", "kubeconfig_file": std::env::var("KUBECONFIG")?}]);
    } else {
        scrape["http_sd_configs"] = json!([{"url": list.url(), "refresh_interval": "2s"}]);
    }
    Ok(json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [rules],
        "scrape_configs": [scrape],
    }))
}
