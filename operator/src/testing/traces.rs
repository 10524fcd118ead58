//! Traces of reconciles.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex};

use canopy_runtime::trace::TARGET;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::harness::{Harness, SYNTHETIC};

/// A span: the id of its parent, and its fields.
#[derive(Clone, Debug, Default)]
struct Seen {
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

/// The spans of this thread, in order.
#[derive(Clone, Default)]
struct Traces(Arc<Mutex<Vec<(u64, Seen)>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Traces {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| span.parent()).map(|parent| parent.id().into_u64());
        let mut seen = Seen { parent, ..Seen::default() };
        attributes.record(&mut seen);
        self.0.lock().unwrap().push((id.into_u64(), seen));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut all = self.0.lock().unwrap();
        let seen = all.iter_mut().rev().find(|(other, _)| *other == id.into_u64());
        values.record(&mut seen.unwrap().1);
    }
}

/// With a single subscriber in the process, a callsite that is first hit by a thread without subscriber is cached as
/// disabled. A second subscriber prevents this.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

impl Traces {
    fn collect() -> (Self, DefaultGuard) {
        LazyLock::force(&ANOTHER);
        let traces = Self::default();
        let of_traces = filter_fn(|of: &Metadata<'_>| of.target() == TARGET);
        let subscriber = tracing_subscriber::registry().with(traces.clone().with_filter(of_traces));
        (traces, tracing::subscriber::set_default(subscriber))
    }

    /// The last reconcile and its calls.
    fn last(&self) -> (Seen, Vec<Seen>) {
        let all = self.0.lock().unwrap();
        let place = all.iter().rposition(|(_, seen)| seen.parent.is_none()).unwrap();
        let (id, pass) = &all[place];
        let calls = all[place + 1..].iter().filter(|(_, seen)| seen.parent == Some(*id));
        let calls: Vec<_> = calls.map(|(_, seen)| seen.clone()).collect();
        assert_eq!(calls.len(), all.len() - place - 1, "{all:?}");
        (pass.clone(), calls)
    }
}

#[tokio::test]
async fn a_reconcile_is_a_trace_with_model_outcome_and_writes() {
    let (traces, _collecting) = Traces::collect();
    let mut harness = Harness::new(SYNTHETIC);
    harness.reconcile().await.unwrap();
    let (pass, calls) = traces.last();
    let field = |seen: &Seen, name: &str| seen.fields.get(name).cloned().unwrap_or_default();
    assert_eq!(
        ["canopy.model", "k8s.namespace.name", "canopy.outcome", "otel.status_code"].map(|f| field(&pass, f)),
        ["iris", "shop", "waiting", ""]
    );
    let names: Vec<_> = calls.iter().map(|call| field(call, "otel.name")).collect();
    let expected = [
        "apply NetworkPolicy",
        "apply ControllerRevision",
        "apply ConfigMap",
        "apply Deployment",
        "apply Service",
        "apply Service",
        "apply PodDisruptionBudget",
        "update status of PredictorModel",
    ];
    assert_eq!(names[..expected.len()], expected, "{names:?}");
    let written = {
        let cluster = harness.cluster();
        cluster.writes.len() + cluster.events.len()
    };
    assert_eq!(names.len(), written, "{names:?}");

    harness.settle().await;
    let (pass, calls) = traces.last();
    assert_eq!((field(&pass, "canopy.outcome").as_str(), calls.len()), ("settled", 0));
}

#[tokio::test]
async fn a_failed_reconcile_and_its_failed_call_are_marked() {
    let (traces, _collecting) = Traces::collect();
    let mut harness = Harness::new(SYNTHETIC);
    harness.cluster().fails_after_writes = Some(1);
    harness.reconcile().await.unwrap_err();
    let (pass, calls) = traces.last();
    assert_eq!(pass.fields["canopy.outcome"], "failed");
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(!calls[0].fields.contains_key("otel.status_code"), "{calls:?}");
    for span in [&pass, &calls[1]] {
        assert_eq!((&*span.fields["otel.status_code"], &*span.fields["error.type"]), ("ERROR", "api_server"));
        assert!(span.fields["error.message"].contains("InternalError"), "{span:?}");
    }
}
