//! Reads servers' metrics, and measures the time that metrics take per request. A missing metric is an error.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use canopy_runtime::metrics::{REQUEST_SECONDS, Registry};
use canopy_runtime::trace::TraceContext;
use http::HeaderMap;
use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Requests to which a gateway has responded.
pub(crate) const ANSWERED: &str = "canopy_gateway_requests_total";
/// Predictions that a gateway did not record although it should have.
pub(crate) const DROPPED: &str = "canopy_gateway_records_dropped_total";
/// Number of repetitions.
const TIMED: u32 = 1_000_000;

/// The whole response to `GET /metrics`.
pub(crate) async fn scrape(admin: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(admin).await.with_context(|| format!("no connection to {admin}"))?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The sum of all series of a metric.
pub(crate) fn sum(metrics: &str, name: &str) -> Result<f64> {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let values =
        metrics.lines().filter(of_name).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    let values: Vec<_> = values.collect();
    ensure!(!values.is_empty(), "the metrics have no {name}");
    Ok(values.iter().sum())
}

/// Nanoseconds for the metrics of one request in the gateway: two counters, two histograms, a gauge up and down, and four
/// readings of the clock.
pub(crate) fn alone() -> Result<f64> {
    let registry = Registry::new();
    let seconds = |name| registry.seconds((name, "For the measurement."), &REQUEST_SECONDS, &["model"]);
    let histograms = [seconds("a_seconds")?, seconds("b_seconds")?].map(|of| of.with_label_values(&["demo"]));
    let counters = [IntCounter::new("a_total", "a")?, IntCounter::new("b_total", "b")?];
    let gauge = IntGauge::new("c", "c")?;
    let trace = TraceContext::from_headers(&HeaderMap::new());
    let began = Instant::now();
    for _ in 0..TIMED {
        gauge.inc();
        for (histogram, counter) in histograms.iter().zip(&counters) {
            let started = Instant::now();
            counter.inc();
            histogram.observe(started.elapsed(), &trace);
        }
        gauge.dec();
    }
    Ok(began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_are_added() {
        let metrics = "# HELP a_total a\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_total_more 10\nb 7\n";
        assert_eq!(sum(metrics, "a_total").unwrap().to_string(), "5");
        assert_eq!(sum(metrics, "b").unwrap().to_string(), "7");
        assert_eq!(sum(metrics, "c").unwrap_err().to_string(), "the metrics have no c");
    }
}
