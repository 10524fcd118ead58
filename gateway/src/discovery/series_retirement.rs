//! Removes the series of a model some time after DNS reports it as unknown. The series of an idle model stay: `increase` would not
//! see requests to a counter that starts anew.

use std::sync::{Arc, Weak};

use canopy_contract::names::ModelRef;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::discovery::dns::{QueryOrigin, Resolution};
use crate::discovery::registry::ModelRegistry;
use crate::metrics::Metrics;
use crate::settings::Tuning;

/// Checks all models that have series, except static ones, until the registry is dropped.
pub(crate) async fn retire(
    registry: Weak<ModelRegistry>,
    is_static: impl Fn(&ModelRef) -> bool,
    metrics: Arc<Metrics>,
    tuning: Tuning,
) {
    let mut ticks = interval(tuning.series_check_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if registry.strong_count() == 0 {
            return;
        }
        for model in metrics.models() {
            let Some(registry) = registry.upgrade() else { return };
            if is_static(&model) {
                continue;
            }
            // One at a time: this is not urgent, and requests use DNS as well.
            match registry.exists(&model).await {
                Ok(true) => metrics.mark_present(&model),
                Ok(false) => metrics.mark_absent(&model, Instant::now(), tuning.series_retention),
                // A DNS failure says nothing about the model.
                Err(_) => {}
            }
        }
    }
}

impl ModelRegistry {
    /// Whether `model` exists.
    async fn exists(&self, model: &ModelRef) -> Result<bool, String> {
        if self.is_watched(model) {
            return Ok(true);
        }
        self.dns.resolve(model, QueryOrigin::Client).await.map(|resolution| resolution != Resolution::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_contract::code::Code;
    use canopy_runtime::metrics::Registry;
    use canopy_runtime::trace::TraceContext;
    use std::time::Duration;

    /// How many series of iris.shop have `version`.
    fn reported(registry: &Registry, version: &str) -> usize {
        let text = canopy_runtime::metrics::encode_openmetrics(registry).unwrap();
        let label = format!("version=\"{version}\"");
        text.lines().filter(|line| line.contains("model=\"iris\"") && line.contains(&label)).count()
    }

    #[test]
    fn a_removed_model_leaves_no_series_and_starts_from_zero_when_it_returns() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let (iris, wine) = (
            ModelRef::parse("iris.shop", "default").unwrap(),
            ModelRef::parse("wine.shop", "default").unwrap(),
        );
        let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = http::HeaderMap::new();
        headers.insert("traceparent", http::HeaderValue::from_static(sent));
        let trace = TraceContext::from_headers(&headers);
        let happens = |model: &ModelRef, version: &str| {
            for code in Code::ALL {
                metrics.series_of(model, version).record_request(code, Duration::ZERO, &trace);
                metrics.series_of(model, version).record_attempt(Some(code), Duration::ZERO, &trace);
            }
            metrics.count_feedback(model, version, 2, 1);
        };
        let canopy = |registry: &Registry| {
            let text = canopy_runtime::metrics::encode_openmetrics(registry).unwrap();
            text.lines().filter(|line| line.contains("model=\"")).count()
        };
        happens(&wine, "1");
        let before = canopy(&registry);
        for version in ["", "1", "2"] {
            happens(&iris, version);
            assert!(reported(&registry, version) > 2 * Code::ALL.len(), "version {version}");
        }
        assert_eq!(metrics.models(), [iris.clone(), wine.clone()]);
        let (began, hour) = (Instant::now(), Duration::from_hours(1));
        metrics.mark_absent(&iris, began, hour);
        metrics.mark_present(&iris);
        metrics.mark_absent(&iris, began + hour, hour);
        assert!(reported(&registry, "2") > 0, "the model existed in between");
        metrics.mark_absent(&iris, began + 2 * hour, hour);
        assert_eq!((canopy(&registry), metrics.models()), (before, vec![wine]));
        metrics.count_feedback(&iris, "1", 1, 0);
        let text = canopy_runtime::metrics::encode(&registry).unwrap();
        let line =
            r#"canopy_feedback_total{model="iris",model_namespace="shop",result="correct",version="1"} 1"#;
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn the_number_of_versions_with_series_is_bounded() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let iris = ModelRef::parse("iris.shop", "default").unwrap();
        let trace = TraceContext::from_headers(&http::HeaderMap::new());
        let lines = || canopy_runtime::metrics::encode(&registry).unwrap().lines().count();
        let mut happens = (0..1000).map(|number| {
            let version = number.to_string();
            metrics.series_of(&iris, &version).record_request(Code::Ok, Duration::ZERO, &trace);
            metrics.series_of(&iris, &version).record_attempt(Some(Code::Ok), Duration::ZERO, &trace);
            metrics.count_feedback(&iris, &version, 1, 0);
        });
        happens.by_ref().take(20).for_each(drop);
        let before = lines();
        happens.for_each(drop);
        assert_eq!(lines(), before);
        assert!(reported(&registry, "999") > 0 && reported(&registry, "0") == 0);
    }
}
