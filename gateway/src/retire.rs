//! Removes the series of models that are gone, some time after DNS stopped to know them. The series of a model that is
//! only idle stay: a counter that begins anew with each request would hide them from `increase`.

use std::sync::{Arc, Weak};

use canopy_contract::names::ModelRef;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::dns::{Cause, Look};
use crate::found::Found;
use crate::metrics::Metrics;
use crate::settings::Habits;

/// Looks at all models that have series, but for those `is_named` to the gateway, until nothing else holds `found`.
pub(crate) async fn retire(
    found: Weak<Found>,
    is_named: impl Fn(&ModelRef) -> bool,
    metrics: Arc<Metrics>,
    habits: Habits,
) {
    let mut ticks = interval(habits.check_series);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if found.strong_count() == 0 {
            return;
        }
        for model in metrics.models() {
            let Some(found) = found.upgrade() else { return };
            if is_named(&model) {
                continue;
            }
            // One after the other: nothing is in a hurry here, and requests need DNS as well.
            match found.is_there(&model).await {
                Ok(true) => metrics.is_there(&model),
                Ok(false) => metrics.is_absent(&model, Instant::now(), habits.keep_series),
                // That DNS fails says nothing about the model.
                Err(_) => {}
            }
        }
    }
}

impl Found {
    /// Whether `model` exists.
    async fn is_there(&self, model: &ModelRef) -> Result<bool, String> {
        if self.is_watched(model) {
            return Ok(true);
        }
        self.dns.look(model, Cause::Client).await.map(|look| look != Look::Unknown)
    }
}
