//! Spans of the operator: one per reconcile, and one per write within it.
//!
//! They contain names, never the content of an object.

use std::fmt::Display;

use canopy_runtime::trace::TARGET;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

/// The span of a reconcile; it starts a trace.
pub fn reconcile(model: &str, namespace: &str) -> Span {
    tracing::info_span!(
        target: TARGET, parent: None, "reconcile",
        otel.kind = "internal", otel.status_code = Empty, error.type = Empty, error.message = Empty,
        canopy.model = model, k8s.namespace.name = namespace, canopy.outcome = Empty,
    )
}

/// Records the outcome of the reconcile on the current span.
pub fn outcome(outcome: &'static str) {
    Span::current().record("canopy.outcome", outcome);
}

/// Makes a call to the API server in a span of its own.
pub async fn call<T, E: Display>(
    verb: &'static str,
    kind: &str,
    namespace: &str,
    name: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let span = tracing::info_span!(
        target: TARGET, "call",
        otel.name = format_args!("{verb} {kind}"), otel.kind = "client", otel.status_code = Empty,
        error.type = Empty, error.message = Empty,
        k8s.namespace.name = namespace, canopy.object.kind = kind, canopy.object.name = name,
    );
    let result = call.instrument(span.clone()).await;
    if let Err(error) = &result {
        failed(&span, "api_server", error);
    }
    result
}

/// Marks a span as failed.
pub fn failed(span: &Span, error_type: &'static str, error: &dyn Display) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error_type);
    span.record("error.message", tracing::field::display(error));
}
