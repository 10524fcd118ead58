//! Sets up log lines on standard error and the export of spans over OTLP.
//!
//! Configured by `RUST_LOG`, `CANOPY_LOG_FORMAT` and the standard `OTEL_…` variables. Without a collector there is no exporter,
//! no export thread and no span.

pub mod log_filter;
pub mod log_limit;
mod log_format;
mod log_queue;

use std::env;
use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind, TraceId, TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    Config, IdGenerator, RandomIdGenerator, SamplingDecision, SdkTracerProvider, ShouldSample,
};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::telemetry::log_filter::{FilterError, LogFilter};
use crate::telemetry::log_format::{CallsiteLimits, LimitedFormat};
use crate::telemetry::log_queue::LogQueue;
use crate::{panics, trace};

/// Time-out of exporting waiting spans when the process ends.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Time-out of writing waiting log lines when the process ends.
pub const LINES_TIMEOUT: Duration = Duration::from_secs(1);
/// The variables that a process passes on to others. OTLP headers are not passed on, because they may have a secret.
const HANDED_ON: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
];

type Sampler = Box<dyn ShouldSample>;

/// Why logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` cannot be parsed.
    #[error("RUST_LOG is not a list of levels such as \"info\" or \"warn,canopy_gateway=debug\": {0}")]
    Filter(#[from] FilterError),
    /// `CANOPY_LOG_FORMAT` has an unknown value.
    #[error("CANOPY_LOG_FORMAT must be json or pretty, got {0:?}")]
    Format(String),
    /// The exporter could not be created.
    #[error("failed to set up the export of traces: {0}; see OTEL_EXPORTER_OTLP_ENDPOINT")]
    Exporter(String),
    /// The thread that writes logs could not be started.
    #[error("failed to start the thread that writes the log: {0}")]
    Thread(#[from] std::io::Error),
    /// Logs are already set up in this process.
    #[error("failed to set up logs: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Logs and traces of a running process.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    limits: CallsiteLimits,
    // Dropped last, so that lines of other destructors are written.
    _written: Written,
}

/// Flushes the log on drop, also if the process ends by a panic.
#[derive(Debug)]
struct Written(LogQueue);

impl Drop for Written {
    fn drop(&mut self) {
        self.0.flush(LINES_TIMEOUT);
    }
}

impl Telemetry {
    /// Sets up logs and, if a collector is configured, traces of `service`. Call it before the asynchronous runtime is
    /// created, because the exporter has its own thread.
    pub fn start(service: &'static str) -> Result<Self, TelemetryError> {
        let (provider, sampler) = exporting(service)?.unzip();
        let limits = CallsiteLimits::default();
        let (logs, levels, lines) = logs(&limits)?;
        let logs = tracing_subscriber::registry().with(logs);
        // Added only with an exporter, because such a layer makes the library create all spans.
        if let Some(provider) = &provider {
            let traces = tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(service))
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_level(false)
                .with_tracked_inactivity(false)
                .with_filter(filter_fn(|of| of.is_span() && of.target() == trace::TARGET));
            logs.with(traces).try_init()?;
        } else {
            logs.try_init()?;
        }
        levels.install();
        if let Some(sampler) = sampler {
            trace::keep_where(move |caller, id| keeps(&*sampler, caller, id));
        }
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let what = panic.payload_as_str().unwrap_or("no message");
            if panics::is_caught() {
                tracing::debug!(place, "panicked, which becomes an error: {what}");
            } else {
                tracing::error!(place, "panicked: {what}");
            }
        }));
        Ok(Self { provider, limits, _written: Written(lines) })
    }

    /// Exports waiting spans, for at most [`FLUSH_TIMEOUT`], and logs how many lines were suppressed and not reported yet.
    /// Blocks, so call it after the runtime has ended.
    pub fn stop(self) {
        if let Some(Err(error)) = self.provider.map(|provider| provider.shutdown_with_timeout(FLUSH_TIMEOUT))
        {
            tracing::warn!(%error, "failed to send the last spans");
        }
        let suppressed = self.limits.suppressed();
        if !suppressed.is_empty() {
            let count: u64 = suppressed.iter().map(|(_, count)| count).sum();
            let places: Vec<_> =
                suppressed.iter().map(|(place, count)| format!("{count} at {place}")).collect();
            tracing::warn!(
                suppressed = count,
                places = places.join(", "),
                "suppressed log lines that were not reported before"
            );
        }
    }
}

type Logs = Box<dyn Layer<Registry> + Send + Sync>;

fn logs(limits: &CallsiteLimits) -> Result<(Logs, LogFilter, LogQueue), TelemetryError> {
    let chosen = env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let (filter, levels) = LogFilter::reloadable(log_filter::parse(&chosen)?);
    // Spans of traces are excluded first, so levels are not evaluated for them.
    let filter = filter_fn(|of| of.target() != trace::TARGET).and(filter);
    let pretty = match env::var("CANOPY_LOG_FORMAT").as_deref() {
        Ok("json") => false,
        Ok("pretty") => true,
        Ok("") | Err(_) => stderr().is_terminal(),
        Ok(other) => return Err(TelemetryError::Format(other.to_owned())),
    };
    let queue = LogQueue::start(stderr(), if pretty { dropped_pretty } else { dropped_json })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(queue.clone());
    let lines = if pretty {
        let lines = lines.with_ansi(stderr().is_terminal());
        let lines = lines.map_event_format(|format| LimitedFormat::new(format, false, limits.clone()));
        lines.with_filter(filter).boxed()
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        let lines = lines.map_event_format(|format| LimitedFormat::new(format, true, limits.clone()));
        lines.with_filter(filter).boxed()
    };
    Ok((lines, levels, queue))
}

const DROPPED: &str = "lines of the log were dropped: standard error did not take them in time";

fn dropped_pretty(count: u64) -> String {
    format!("WARN {DROPPED} dropped={count}")
}

fn dropped_json(count: u64) -> String {
    format!(r#"{{"level":"WARN","message":"{DROPPED}","dropped":{count},"target":"{}"}}"#, module_path!())
}

/// The trace settings of this process, to pass on to processes that it creates.
pub fn of_traces() -> Vec<(&'static str, String)> {
    HANDED_ON.into_iter().filter_map(|name| Some((name, set(name)?))).collect()
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The exporter and its sampler, if the standard OpenTelemetry variables configure a collector.
fn exporting(service: &'static str) -> Result<Option<(SdkTracerProvider, Sampler)>, TelemetryError> {
    let endpoint = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let Some(endpoint) = endpoint.filter(|_| !disabled) else {
        return Ok(None);
    };
    // A TLS client cannot be built without CA certificates, for example in an empty image.
    let mut client = reqwest::blocking::Client::builder();
    if endpoint.starts_with("http://") {
        client = client.tls_certs_only([]);
    }
    let client = client.build().map_err(|error| TelemetryError::Exporter(chain(&error)))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client)
        .build()
        .map_err(|error| TelemetryError::Exporter(chain(&error)))?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut resource = Resource::builder().with_attribute(version);
    if set("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service);
    }
    let sampler = Config::default().sampler;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler.clone())
        .with_id_generator(Ids::default())
        .with_resource(resource.build())
        .build();
    Ok(Some((provider, sampler)))
}

/// The decision of the sampler before a span exists. Standard samplers need only the parent and the trace id.
fn keeps(sampler: &dyn ShouldSample, caller: Option<&opentelemetry::Context>, id: TraceId) -> bool {
    let said = sampler.should_sample(caller, id, "", &SpanKind::Server, &[], &[]);
    said.decision == SamplingDecision::RecordAndSample
}

/// Random ids, except for traces whose id was sampled before their first span.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        trace::next_id().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
