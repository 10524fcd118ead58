//! A real Jaeger with traces in memory. It ends when the value is dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Url};
use serde_json::Value;

use crate::http::{client, send};
use crate::process::{Process, free_address, free_address_of};
use crate::programs::found;
use crate::wait::{SOON, until};

const PROGRAM: &str = "all-in-one";

/// A running Jaeger.
#[derive(Debug)]
pub struct Jaeger {
    /// The address for spans, over OTLP/HTTP.
    pub spans: SocketAddr,
    query: SocketAddr,
    client: Client,
    process: Process,
}

/// One span of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The process that sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The id of its parent; empty if it has none.
    pub parent: String,
}

impl Jaeger {
    /// Starts one that receives spans at an address of this machine; returns when it is ready.
    pub async fn start(at: IpAddr) -> Result<Self> {
        let (spans, query) = (free_address_of(at)?, free_address()?);
        let nowhere = || format!("{}:0", Ipv4Addr::LOCALHOST);
        let flags = [
            ("collector.otlp.enabled", "true".to_owned()),
            ("collector.otlp.http.host-port", spans.to_string()),
            ("query.http-server.host-port", query.to_string()),
            // Other listeners, whose default ports may be in use.
            ("collector.otlp.grpc.host-port", nowhere()),
            ("collector.grpc-server.host-port", free_address()?.to_string()),
            ("collector.http-server.host-port", nowhere()),
            ("query.grpc-server.host-port", free_address()?.to_string()),
            ("admin.http.host-port", nowhere()),
            ("processor.zipkin-compact.server-host-port", nowhere()),
            ("processor.jaeger-compact.server-host-port", nowhere()),
            ("processor.jaeger-binary.server-host-port", nowhere()),
            ("http-server.host-port", nowhere()),
        ];
        let flags = flags.map(|(name, value)| format!("--{name}={value}"));
        let mut process = Process::start(&found(PROGRAM)?, &flags, &[])?;
        let client = client()?;
        until("Jaeger to come up", SOON, async || {
            process.still_runs()?;
            let reply = send(client.get(format!("http://{query}/api/services"))).await?;
            ensure!(reply.status == 200, "{}: {}", reply.status, reply.text);
            Ok(())
        })
        .await?;
        Ok(Self { spans, query, client, process })
    }

    /// The spans of the trace `id`; an error if there are none yet.
    pub async fn trace(&self, id: &str) -> Result<Vec<Span>> {
        let found = self.ask(&format!("traces/{id}"), &[]).await?;
        found.into_iter().next().context("a trace is there")
    }

    /// The traces of a service in which a span of this name has this tag.
    pub async fn traces(&self, service: &str, name: &str, tag: (&str, &str)) -> Result<Vec<Vec<Span>>> {
        let tags = serde_json::json!({tag.0: tag.1}).to_string();
        self.ask("traces", &[("service", service), ("operation", name), ("tags", &tags)]).await
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Vec<Span>>> {
        let path = Url::parse_with_params(&format!("http://{}/api/{path}", self.query), query)?;
        let reply = send(self.client.get(path.clone())).await?;
        ensure!(reply.status == 200, "{path}: {} {}", reply.status, reply.text);
        let traces = reply.json()?;
        traces["data"].as_array().context("a list of traces")?.iter().map(spans).collect()
    }

    /// Its output so far, for the report of a failed test.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }
}

fn spans(trace: &Value) -> Result<Vec<Span>> {
    let word = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("in {trace}"));
    let of = |span: &Value| {
        let process = word(&span["processID"])?;
        let parents = span["references"].as_array().into_iter().flatten();
        let parent =
            parents.filter(|one| one["refType"] == "CHILD_OF").find_map(|one| one["spanID"].as_str());
        Ok(Span {
            service: word(&trace["processes"][process.as_str()]["serviceName"])?,
            name: word(&span["operationName"])?,
            id: word(&span["spanID"])?,
            parent: parent.unwrap_or_default().to_owned(),
        })
    };
    trace["spans"].as_array().context("a trace has spans")?.iter().map(of).collect()
}
