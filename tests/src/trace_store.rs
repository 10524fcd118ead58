//! The store for the traces of a cluster: a real Jaeger in the slice `dist`, otherwise the collector of these tests, which
//! needs no program to be built.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use crate::collector::{self, Collector};
use crate::jaeger::{Jaeger, Span};
use crate::slice::Slice;

/// A running store of traces.
#[derive(Debug)]
pub enum TraceStore {
    /// A real Jaeger.
    Jaeger(Jaeger),
    /// The collector of these tests.
    Collector(Collector),
}

impl TraceStore {
    /// Starts one that receives spans at an address of this machine.
    pub async fn start(at: IpAddr) -> Result<Self> {
        Ok(if Slice::Dist.runs() {
            Self::Jaeger(Jaeger::start(at).await?)
        } else {
            Self::Collector(Collector::start_at(at).await?)
        })
    }

    /// The address for spans, over OTLP/HTTP.
    pub fn endpoint(&self) -> String {
        match self {
            Self::Jaeger(jaeger) => format!("http://{}", jaeger.spans),
            Self::Collector(collector) => collector.endpoint(),
        }
    }

    /// The spans of the trace `id`; an error if there are none yet.
    pub async fn trace(&self, id: &str) -> Result<Vec<Span>> {
        match self {
            Self::Jaeger(jaeger) => jaeger.trace(id).await,
            Self::Collector(collector) => {
                let spans = collector.spans();
                let found: Vec<_> = spans.iter().filter(|span| span.trace == id).map(span).collect();
                ensure!(!found.is_empty(), "no span of trace {id} has arrived");
                Ok(found)
            }
        }
    }

    /// The traces of a service in which a span of this name has this attribute.
    pub async fn traces(&self, service: &str, name: &str, tag: (&str, &str)) -> Result<Vec<Vec<Span>>> {
        match self {
            Self::Jaeger(jaeger) => jaeger.traces(service, name, tag).await,
            Self::Collector(collector) => {
                let spans = collector.spans();
                let has_tag = |span: &&collector::Span| {
                    span.service == service
                        && span.name == name
                        && span.attributes.get(tag.0).is_some_and(|value| value == tag.1)
                };
                let whole = |root: &collector::Span| {
                    spans.iter().filter(|span| span.trace == root.trace).map(span).collect()
                };
                Ok(spans.iter().filter(has_tag).map(whole).collect())
            }
        }
    }

    /// Its output so far, for the report of a failed test.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Jaeger(jaeger) => jaeger.lines(),
            Self::Collector(_) => Vec::new(),
        }
    }
}

fn span(span: &collector::Span) -> Span {
    let collector::Span { service, name, id, parent, .. } = span;
    Span { service: service.clone(), name: name.clone(), id: id.clone(), parent: parent.clone() }
}
