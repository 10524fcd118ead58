//! The registry of a process, and what every process measures of itself.
//!
//! Comes in: collectors that each part registers. Goes out: Prometheus text. Never: the name of a metric that
//! belongs to one part; each declares its own in its `metrics` file.

use prometheus::{IntGaugeVec, Opts, Registry, TextEncoder};

/// Seconds that resolve a request of 50 µs as well as one of 30 s.
pub const REQUEST_SECONDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 20.0, 30.0,
];

/// Seconds that resolve the work of a small model: from 1 µs.
pub const COMPUTE_SECONDS: [f64; 16] = [
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005,
    0.01, 0.05, 0.1, 1.0, 10.0,
];

/// A registry that already has the process's own figures: `process_*` and `canopy_build_info`.
pub fn registry(process: &str) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    let build = IntGaugeVec::new(
        Opts::new("canopy_build_info", "Which Canopy process this is, and its version; always 1."),
        &["process", "version"],
    )?;
    build.with_label_values(&[process, env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}

/// All metrics in Prometheus' text format.
pub fn encode(registry: &Registry) -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_registry_tells_of_the_process_and_its_build() {
        let text = encode(&registry("gateway").unwrap()).unwrap();
        let build =
            format!("canopy_build_info{{process=\"gateway\",version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&build), "{text}");
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing in {text}");
        }
    }
}
