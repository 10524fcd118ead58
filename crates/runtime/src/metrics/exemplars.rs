//! Histograms of seconds with an exemplar per bucket: the trace of the latest sampled request.
//!
//! Recording an exemplar never blocks, and costs nothing for requests that are not sampled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::TraceId;
use prometheus::proto::LabelPair;
use prometheus::{Error, Histogram, HistogramOpts, HistogramVec};

use crate::trace::TraceContext;

/// A request in a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) trace_id: TraceId,
    pub(crate) seconds: f64,
    pub(crate) at: SystemTime,
}

/// Histograms of seconds, one for each combination of label values.
#[derive(Clone, Debug)]
pub struct SecondsVec {
    histograms: HistogramVec,
    family: Arc<Family>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Seconds {
    histogram: Histogram,
    series: Arc<Series>,
}

/// The exemplars of all histograms of one name.
#[derive(Debug)]
pub(crate) struct Family {
    name: String,
    labels: Vec<String>,
    bounds: &'static [f64],
    series: Mutex<HashMap<Vec<String>, Arc<Series>>>,
}

/// The exemplars of one histogram.
#[derive(Debug)]
pub(crate) struct Series {
    bounds: &'static [f64],
    /// By bucket; the last one has no bound.
    buckets: Box<[Mutex<Option<Exemplar>>]>,
}

impl SecondsVec {
    /// Histograms that are not registered, and their exemplars.
    pub(crate) fn new(
        (name, help): (&str, &str),
        bounds: &'static [f64],
        labels: &[&str],
    ) -> Result<(Self, HistogramVec, Arc<Family>), Error> {
        let histograms = HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds.to_vec()), labels)?;
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let family = Arc::new(Family { name: name.to_owned(), labels, bounds, series: Mutex::default() });
        Ok((Self { histograms: histograms.clone(), family: family.clone() }, histograms, family))
    }

    /// The histogram with these label values, in the order of the labels. Callers look it up once.
    pub fn with_label_values(&self, values: &[&str]) -> Seconds {
        Seconds { histogram: self.histograms.with_label_values(values), series: self.family.of(values) }
    }

    /// Removes the histogram with these label values and its exemplars, if it exists.
    pub fn remove_label_values(&self, values: &[&str]) {
        // It fails only if the histogram does not exist.
        let _ = self.histograms.remove_label_values(values);
        self.family.remove(values);
    }
}

impl Seconds {
    /// Records a duration, with the trace as its exemplar if it is sampled.
    pub fn observe(&self, took: Duration, trace: &TraceContext) {
        let seconds = took.as_secs_f64();
        self.histogram.observe(seconds);
        if trace.is_sampled() {
            self.series.keep(Exemplar { trace_id: trace.trace_id(), seconds, at: SystemTime::now() });
        }
    }
}

impl Family {
    fn of(&self, values: &[&str]) -> Arc<Series> {
        let key: Vec<_> = values.iter().map(|&value| value.to_owned()).collect();
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key).or_insert_with(|| Arc::new(Series::new(self.bounds))).clone()
    }

    fn remove(&self, values: &[&str]) {
        let key: Vec<_> = values.iter().map(|&value| value.to_owned()).collect();
        self.series.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// The name of the histograms.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The exemplars of the histogram with these labels, in any order.
    pub(crate) fn labelled(&self, pairs: &[LabelPair]) -> Option<Arc<Series>> {
        let value = |label: &String| {
            pairs.iter().find(|pair| pair.name() == label).map(|pair| pair.value().to_owned())
        };
        let key: Vec<_> = self.labels.iter().map(value).collect::<Option<_>>()?;
        self.series.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }
}

impl Series {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| Mutex::default()).collect() }
    }

    fn keep(&self, exemplar: Exemplar) {
        let bucket = self.bounds.partition_point(|bound| *bound < exemplar.seconds);
        // If the lock is held, the holder writes an equally new exemplar or reads for a scrape. Skipping one is harmless.
        if let Ok(mut kept) = self.buckets[bucket].try_lock() {
            *kept = Some(exemplar);
        }
    }

    /// The last one in a bucket.
    pub(crate) fn of_bucket(&self, bucket: usize) -> Option<Exemplar> {
        *self.buckets.get(bucket)?.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn trace(number: u8, flags: &str) -> TraceContext {
        let text = format!("00-{number:032x}-00000000000000aa-{flags}");
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::try_from(text).unwrap());
        TraceContext::from_headers(&headers)
    }

    #[test]
    fn each_bucket_has_the_last_sampled_request_as_its_exemplar() {
        let (seconds, ..) = SecondsVec::new(("a_seconds", "A."), &[0.001, 1.0], &["b", "c"]).unwrap();
        let series = seconds.with_label_values(&["x", "y"]);
        for (number, flags, milliseconds) in
            [(1, "01", 1), (2, "01", 500), (3, "01", 1000), (4, "00", 600), (5, "01", 1001)]
        {
            series.observe(Duration::from_millis(milliseconds), &trace(number, flags));
        }
        let pair = |name: &str, value: &str| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let kept = seconds.family.labelled(&[pair("c", "y"), pair("b", "x")]).unwrap();
        let traces = (0..4).map(|bucket| kept.of_bucket(bucket).map(|kept| kept.trace_id.to_string()));
        let expected = [1_u8, 3, 5].map(|number| Some(format!("{number:032x}")));
        assert_eq!(traces.collect::<Vec<_>>(), [&expected[..], &[None]].concat());
        assert!(seconds.family.labelled(&[pair("b", "x"), pair("c", "z")]).is_none());
        seconds.with_label_values(&["x", "z"]);
        for _ in 0..2 {
            seconds.remove_label_values(&["x", "y"]);
            assert!(seconds.family.labelled(&[pair("c", "y"), pair("b", "x")]).is_none());
            assert!(seconds.family.labelled(&[pair("b", "x"), pair("c", "z")]).is_some());
        }
    }
}
