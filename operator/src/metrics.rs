//! The operator's own metrics.
//!
//! No metric has the name of a model as a label, because a cluster may have thousands of models.

use std::time::Instant;

use canopy_runtime::metrics::Registry;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts};

/// Histogram buckets, in seconds: from a reconcile without changes to one that waits for a slow API server.
const RECONCILE_SECONDS_BUCKETS: [f64; 10] =
    [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

/// Result of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileOutcome {
    /// The model matches its spec.
    Settled,
    /// A change is in progress, or the model is blocked.
    Waiting,
    /// A call to the API server failed.
    Failed,
}

impl ReconcileOutcome {
    const ALL: [Self; 3] = [Self::Settled, Self::Waiting, Self::Failed];

    /// The value of the label `outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

/// How many models are ready, are not, and have not been judged yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelCounts {
    /// With the condition Ready True.
    pub ready: i64,
    /// With another status of it.
    pub not_ready: i64,
    /// Without it.
    pub unknown: i64,
}

/// The operator's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: IntCounterVec,
    duration: Histogram,
    models: IntGaugeVec,
    writes: IntCounterVec,
    leader: IntGauge,
}

impl Metrics {
    /// Registers all metrics.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            reconciles: IntCounterVec::new(
                Opts::new("canopy_operator_reconciles_total", "Reconciles of models by outcome."),
                &["outcome"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "canopy_operator_reconcile_duration_seconds",
                    "Duration of a reconcile of a model in seconds.",
                )
                .buckets(RECONCILE_SECONDS_BUCKETS.to_vec()),
            )?,
            models: IntGaugeVec::new(
                Opts::new("canopy_operator_models", "Models by the status of their condition Ready."),
                &["ready"],
            )?,
            writes: IntCounterVec::new(
                Opts::new("canopy_operator_writes_total", "Writes to the API server by kind of object."),
                &["kind"],
            )?,
            leader: IntGauge::new("canopy_operator_leader", "1 if this process is the leader, else 0.")?,
        };
        let Self { reconciles, duration, models, writes, leader } = &metrics;
        registry.register(Box::new(reconciles.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(models.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        // Start each series at 0: the rate of a series that appears with its first failure would miss that failure.
        for outcome in ReconcileOutcome::ALL {
            reconciles.with_label_values(&[outcome.as_str()]).reset();
        }
        Ok(metrics)
    }

    /// Starts the timer of a reconcile. If it is dropped without `finish`, the reconcile counts as failed.
    pub fn start_reconcile(&self) -> ReconcileTimer<'_> {
        ReconcileTimer { metrics: self, started: Instant::now(), outcome: ReconcileOutcome::Failed }
    }

    /// Counts a write or a deletion of an object.
    pub fn count_write(&self, kind: &str) {
        self.writes.with_label_values(&[kind]).inc();
    }

    /// Records whether this process is the leader.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(is_leader.into());
    }

    /// The models that one scope has now, instead of those it had before.
    pub fn replace_models(&self, before: ModelCounts, now: ModelCounts) {
        let changes = [
            ("true", now.ready - before.ready),
            ("false", now.not_ready - before.not_ready),
            ("unknown", now.unknown - before.unknown),
        ];
        for (status, change) in changes {
            self.models.with_label_values(&[status]).add(change);
        }
    }
}

/// A reconcile in progress. It is counted and timed on drop.
#[derive(Debug)]
pub struct ReconcileTimer<'a> {
    metrics: &'a Metrics,
    started: Instant,
    outcome: ReconcileOutcome,
}

impl ReconcileTimer<'_> {
    /// Ends the reconcile with an outcome.
    pub fn finish(mut self, outcome: ReconcileOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for ReconcileTimer<'_> {
    fn drop(&mut self) {
        self.metrics.reconciles.with_label_values(&[self.outcome.as_str()]).inc();
        self.metrics.duration.observe(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_runtime::metrics::encode;

    #[test]
    fn every_outcome_is_counted_from_0() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        metrics.start_reconcile().finish(ReconcileOutcome::Settled);
        drop(metrics.start_reconcile());
        let text = encode(&registry).unwrap();
        for (outcome, count) in [("settled", 1), ("waiting", 0), ("failed", 1)] {
            let line = format!("canopy_operator_reconciles_total{{outcome=\"{outcome}\"}} {count}\n");
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
    }
}
