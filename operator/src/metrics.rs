//! What the operator measures of itself: the only file that spells its metrics.
//!
//! Comes in: what happened. Goes out: counters and gauges in the process's registry. Never: the name of a
//! model; a cluster may have thousands.

use std::time::Instant;

use canopy_runtime::metrics::Registry;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts};

/// Seconds of a pass: from one that finds nothing to do to one that waits for a slow API server.
const RECONCILE_SECONDS_BUCKETS: [f64; 10] =
    [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

/// How a pass over a model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileOutcome {
    /// The model is as its spec asks.
    Settled,
    /// A change is in work, or somebody else has to do something first.
    Waiting,
    /// The API server could not be asked.
    Failed,
}

impl ReconcileOutcome {
    const ALL: [Self; 3] = [Self::Settled, Self::Waiting, Self::Failed];

    /// The word for it.
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
    /// Registers all of them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            reconciles: IntCounterVec::new(
                Opts::new("canopy_operator_reconciles_total", "Passes over a model, by how they ended."),
                &["outcome"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "canopy_operator_reconcile_duration_seconds",
                    "Seconds of a pass over a model.",
                )
                .buckets(RECONCILE_SECONDS_BUCKETS.to_vec()),
            )?,
            models: IntGaugeVec::new(
                Opts::new("canopy_operator_models", "Models, by the status of their condition Ready."),
                &["ready"],
            )?,
            writes: IntCounterVec::new(
                Opts::new("canopy_operator_writes_total", "Writes to the API server, by the kind of object."),
                &["kind"],
            )?,
            leader: IntGauge::new("canopy_operator_leader", "1 where this process holds the Lease, else 0.")?,
        };
        let Self { reconciles, duration, models, writes, leader } = &metrics;
        registry.register(Box::new(reconciles.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(models.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        // A rate has no first step where a series begins with it: an alert would miss the first failures.
        for outcome in ReconcileOutcome::ALL {
            reconciles.with_label_values(&[outcome.as_str()]).reset();
        }
        Ok(metrics)
    }

    /// A pass begins; dropped without a word it counts as failed, as when the process ends in its middle.
    pub fn start_reconcile(&self) -> ReconcileTimer<'_> {
        ReconcileTimer { metrics: self, started: Instant::now(), outcome: ReconcileOutcome::Failed }
    }

    /// An object was written or deleted.
    pub fn count_write(&self, kind: &str) {
        self.writes.with_label_values(&[kind]).inc();
    }

    /// This process holds the Lease, or no longer does.
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

/// A pass that is under way: counted and measured when dropped.
#[derive(Debug)]
pub struct ReconcileTimer<'a> {
    metrics: &'a Metrics,
    started: Instant,
    outcome: ReconcileOutcome,
}

impl ReconcileTimer<'_> {
    /// The pass reached its end.
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
