//! The `process_*` metrics. CPU time has a resolution below a second, unlike in the library's collector.

use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};
use rustix::time::{ClockId, clock_gettime};

const CPU_SECONDS: &str = "process_cpu_seconds_total";

/// The metrics of this process.
pub(crate) struct ProcessMetrics(ProcessCollector);

impl ProcessMetrics {
    /// The current process.
    pub(crate) fn new() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let cpu = families.iter_mut().filter(|family| family.name() == CPU_SECONDS);
        for metric in cpu.flat_map(MetricFamily::mut_metric) {
            let mut seconds = Counter::default();
            seconds.set_value(cpu_time().as_secs_f64());
            metric.set_counter(seconds);
        }
        families
    }
}

/// The CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_seconds_have_a_fraction() {
        let seconds = || {
            let families = ProcessMetrics::new().collect();
            let cpu = families.iter().find(|family| family.name() == CPU_SECONDS).unwrap();
            cpu.get_metric()[0].get_counter().get_value()
        };
        let before = seconds();
        // The loop ends, because each iteration takes CPU time.
        let after = (0..1_000_000).map(|_| seconds()).find(|&after| after > before).unwrap();
        assert!(after - before < 0.9, "{before} {after}");
    }
}
