//! The metrics registry of a process, and the metrics that all processes have.
//!
//! Metrics of one part are declared in that part.

pub mod exemplars;
mod openmetrics;
mod process_metrics;

use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, IntCounter, IntGauge, IntGaugeVec, Opts, TextEncoder};

use crate::metrics::exemplars::{Family, SecondsVec};

use crate::metrics::process_metrics::ProcessMetrics;

/// Buckets in seconds for requests, from 50 µs to 30 s.
pub const REQUEST_SECONDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 20.0, 30.0,
];

/// Buckets in seconds for inference of small models, from 1 µs.
pub const COMPUTE_SECONDS: [f64; 16] = [
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005,
    0.01, 0.05, 0.1, 1.0, 10.0,
];

/// The metrics of a process.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    families: prometheus::Registry,
    exemplars: Arc<Mutex<Vec<Arc<Family>>>>,
    connections: ConnectionFigures,
    bodies: BodyBytes,
}

/// The metrics of the connections on all ports of a process.
#[derive(Clone, Debug)]
pub struct ConnectionFigures {
    /// Open connections.
    pub open: IntGauge,
    /// Connections that were refused because too many were open.
    pub refused: IntCounter,
}

impl Default for ConnectionFigures {
    fn default() -> Self {
        Self {
            open: gauge("canopy_connections_open", "Open connections on all ports."),
            refused: counter(
                "canopy_connections_refused_total",
                "Connections refused because too many were open, in total or from one address.",
            ),
        }
    }
}

/// A holder of request bodies.
pub(crate) trait HoldsBytes: Send + Sync + std::fmt::Debug {
    /// How many there are now.
    fn bytes(&self) -> usize;
}

/// The bytes of request bodies in memory, summed at each scrape.
#[derive(Clone, Debug)]
pub(crate) struct BodyBytes {
    gauge: IntGauge,
    holders: Arc<Mutex<Vec<Weak<dyn HoldsBytes>>>>,
}

impl Default for BodyBytes {
    fn default() -> Self {
        let help = "Bytes of request bodies in memory, from their arrival to the end of their response.";
        Self { gauge: gauge("canopy_request_body_bytes", help), holders: Arc::default() }
    }
}

impl BodyBytes {
    /// Adds the bytes of `holder`.
    pub(crate) fn watch(&self, holder: Weak<dyn HoldsBytes>) {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).push(holder);
    }
}

impl Collector for BodyBytes {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = holders.iter().filter_map(Weak::upgrade).map(|holder| holder.bytes()).sum();
        self.gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.gauge.collect()
    }
}

/// Log lines that were dropped. A process has one log.
pub fn log_lines_dropped() -> &'static IntCounter {
    static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
        let help = "Log lines dropped because standard error did not accept them in time.";
        counter("canopy_log_lines_dropped_total", help)
    });
    &DROPPED
}

#[expect(clippy::expect_used, reason = "the names are valid constants")]
fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("a gauge without labels")
}

#[expect(clippy::expect_used, reason = "the names are valid constants")]
fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("a counter without labels")
}

impl Registry {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The metrics of connections; exported by registries of [`registry`].
    pub fn connections(&self) -> &ConnectionFigures {
        &self.connections
    }

    pub(crate) fn bodies(&self) -> &BodyBytes {
        &self.bodies
    }

    /// Registers a collector; an error if one of its names is registered.
    pub fn register(&self, collector: Box<dyn Collector>) -> Result<(), Error> {
        self.families.register(collector)
    }

    /// Registers histograms of seconds with exemplars.
    pub fn seconds(
        &self,
        name_and_help: (&str, &str),
        bounds: &'static [f64],
        labels: &[&str],
    ) -> Result<SecondsVec, Error> {
        let (seconds, collector, exemplars) = SecondsVec::new(name_and_help, bounds, labels)?;
        self.register(Box::new(collector))?;
        self.exemplars.lock().unwrap_or_else(PoisonError::into_inner).push(exemplars);
        Ok(seconds)
    }
}

/// A registry with the metrics of the process, `process_*` and `canopy_build_info`.
pub fn registry(process: &str) -> Result<Registry, Error> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessMetrics::new()))?;
    let build = IntGaugeVec::new(
        Opts::new("canopy_build_info", "Name and version of the process, as labels; always 1."),
        &["process", "version"],
    )?;
    build.with_label_values(&[process, env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))?;
    registry.register(Box::new(registry.connections.open.clone()))?;
    registry.register(Box::new(registry.connections.refused.clone()))?;
    registry.register(Box::new(registry.bodies.clone()))?;
    registry.register(Box::new(log_lines_dropped().clone()))?;
    Ok(registry)
}

/// All metrics in Prometheus' text format.
pub fn encode(registry: &Registry) -> Result<String, Error> {
    TextEncoder::new().encode_to_string(&registry.families.gather())
}

/// All metrics as `OpenMetrics` 1.0, with exemplars.
pub fn encode_openmetrics(registry: &Registry) -> Result<String, Error> {
    let exemplars = registry.exemplars.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let written = openmetrics::write(&registry.families.gather(), &exemplars);
    written.map_err(|error| Error::Msg(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceContext;
    use http::{HeaderMap, HeaderName, HeaderValue};
    use prometheus::{IntCounterVec, IntGauge};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_new_registry_has_metrics_of_the_process_and_its_build() {
        let text = encode(&registry("gateway").unwrap()).unwrap();
        let build =
            format!("canopy_build_info{{process=\"gateway\",version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&build), "{text}");
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing in {text}");
        }
    }

    #[test]
    fn both_formats_have_the_same_values_and_openmetrics_has_exemplars() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("a_seconds_total", "One \"A\"\nand \\."), &["b"]).unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.with_label_values(&["x\"y\\z\n"]).inc_by(3);
        let bytes = IntGauge::new("d_bytes", "D.").unwrap();
        registry.register(Box::new(bytes.clone())).unwrap();
        bytes.set(-2);
        let seconds = registry.seconds(("e_seconds", "E."), &[0.000_05, 1.0], &["f", "b"]).unwrap();
        let series = seconds.with_label_values(&["g", "h"]);
        let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = [(HeaderName::from_static("traceparent"), HeaderValue::from_static(sent))];
        series
            .observe(Duration::from_millis(500), &TraceContext::from_headers(&headers.into_iter().collect()));
        series.observe(Duration::from_secs(2), &TraceContext::from_headers(&HeaderMap::new()));

        let text = encode_openmetrics(&registry).unwrap();
        let (before, rest) =
            text.split_once(" # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 0.5 ").unwrap();
        let (time, after) = rest.split_once('\n').unwrap();
        let since = UNIX_EPOCH + Duration::from_secs_f64(time.parse().unwrap());
        assert!(since.elapsed().unwrap() < Duration::from_mins(1), "{time}");
        let expected = [
            "# TYPE a_seconds counter",
            "# UNIT a_seconds seconds",
            r#"# HELP a_seconds One \"A\"\nand \\."#,
            r#"a_seconds_total{b="x\"y\\z\n"} 3.0"#,
            "# TYPE d_bytes gauge",
            "# UNIT d_bytes bytes",
            "# HELP d_bytes D.",
            "d_bytes -2.0",
            "# TYPE e_seconds histogram",
            "# UNIT e_seconds seconds",
            "# HELP e_seconds E.",
            r#"e_seconds_bucket{b="h",f="g",le="5e-05"} 0"#,
            r#"e_seconds_bucket{b="h",f="g",le="1.0"} 1"#,
            r#"e_seconds_bucket{b="h",f="g",le="+Inf"} 2"#,
            r#"e_seconds_sum{b="h",f="g"} 2.5"#,
            r#"e_seconds_count{b="h",f="g"} 2"#,
            "# EOF\n",
        ];
        assert_eq!(format!("{before}\n{after}"), expected.join("\n"));
        let plain = encode(&registry).unwrap();
        assert!(plain.contains("a_seconds_total{b=\"x\\\"y\\\\z\\n\"} 3\n"), "{plain}");
        assert!(!plain.contains("trace_id"), "{plain}");
    }
}
