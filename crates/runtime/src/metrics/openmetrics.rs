//! Writes metrics in the text format of `OpenMetrics` 1.0, which has exemplars, unlike that of Prometheus.
//!
//! Prometheus stores the same names from both formats.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use crate::metrics::exemplars::{Exemplar, Family, Series};

/// Units in names of metrics, for which the format requires a UNIT line.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// Writes all families with their exemplars.
pub(crate) fn write(families: &[MetricFamily], exemplars: &[Arc<Family>]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for family in families {
        let exemplars = exemplars.iter().find(|of| of.name() == family.name());
        write_family(&mut text, family, exemplars.map(|family| &**family))?;
    }
    text.push_str("# EOF\n");
    Ok(text)
}

fn write_family(text: &mut String, family: &MetricFamily, exemplars: Option<&Family>) -> fmt::Result {
    // The name of a counter's family does not have the suffix `_total` of its samples.
    let counted = family.name().strip_suffix("_total");
    let (kind, name) = match (family.get_field_type(), counted) {
        (MetricType::COUNTER, Some(name)) => ("counter", name),
        (MetricType::GAUGE, _) => ("gauge", family.name()),
        (MetricType::HISTOGRAM, _) => ("histogram", family.name()),
        (MetricType::COUNTER | MetricType::SUMMARY | MetricType::UNTYPED, _) => ("unknown", family.name()),
    };
    writeln!(text, "# TYPE {name} {kind}")?;
    if let Some(unit) = UNITS.iter().find(|unit| name.strip_suffix(**unit).is_some_and(|n| n.ends_with('_')))
    {
        writeln!(text, "# UNIT {name} {unit}")?;
    }
    writeln!(text, "# HELP {name} {}", Escaped(family.help()))?;
    for metric in family.get_metric() {
        let labels = metric.get_label();
        let sample = family.name();
        match family.get_field_type() {
            MetricType::COUNTER => {
                line(text, (sample, ""), labels, None, &Number(metric.get_counter().get_value()))?;
            }
            MetricType::GAUGE => {
                line(text, (sample, ""), labels, None, &Number(metric.get_gauge().get_value()))?;
            }
            MetricType::HISTOGRAM => {
                let exemplars = exemplars.and_then(|family| family.labelled(labels));
                write_histogram(text, sample, metric, exemplars.as_deref())?;
            }
            // No collector of the library has this type.
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
    Ok(())
}

fn write_histogram(
    text: &mut String,
    name: &str,
    metric: &Metric,
    exemplars: Option<&Series>,
) -> fmt::Result {
    let (labels, histogram) = (metric.get_label(), metric.get_histogram());
    let bounded =
        histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let all = bounded.chain([(f64::INFINITY, histogram.get_sample_count())]);
    for (index, (bound, count)) in all.enumerate() {
        let exemplar = exemplars.and_then(|series| series.of_bucket(index));
        let value = WithExemplar(count, exemplar);
        line(text, (name, "_bucket"), labels, Some(Number(bound)), &value)?;
    }
    line(text, (name, "_sum"), labels, None, &Number(histogram.get_sample_sum()))?;
    line(text, (name, "_count"), labels, None, &histogram.get_sample_count())
}

fn line(
    text: &mut String,
    (name, ending): (&str, &str),
    labels: &[LabelPair],
    bound: Option<Number>,
    value: &dyn fmt::Display,
) -> fmt::Result {
    write!(text, "{name}{ending}")?;
    let mut opening = '{';
    for pair in labels {
        write!(text, "{opening}{}=\"{}\"", pair.name(), Escaped(pair.value()))?;
        opening = ',';
    }
    if let Some(bound) = bound {
        write!(text, "{opening}le=\"{bound}\"")?;
        opening = ',';
    }
    let closing = if opening == ',' { "}" } else { "" };
    writeln!(text, "{closing} {value}")
}

/// A bucket with its count and exemplar.
struct WithExemplar(u64, Option<Exemplar>);

impl fmt::Display for WithExemplar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let Some(Exemplar { trace_id, seconds, at }) = self.1 else { return Ok(()) };
        // A clock before 1970 gives the timestamp 0.
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        write!(
            f,
            " # {{trace_id=\"{trace_id}\"}} {} {}.{:03}",
            Number(seconds),
            at.as_secs(),
            at.subsec_millis()
        )
    }
}

/// An escaped text, for label values and for help.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A number in the notation of Prometheus, such as `le="1.0"` and `le="5e-05"`. In another notation it could become another series.
#[derive(Clone, Copy)]
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0;
        if number.is_nan() {
            return f.write_str("NaN");
        }
        if number.is_infinite() {
            return f.write_str(if number > 0.0 { "+Inf" } else { "-Inf" });
        }
        let scientific = format!("{number:e}");
        let (digits, exponent) = scientific.split_once('e').ok_or(fmt::Error)?;
        let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
        if (-4..6).contains(&exponent) {
            let is_whole = number.fract() == 0.0;
            write!(f, "{number}{}", if is_whole { ".0" } else { "" })
        } else {
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(f, "{digits}e{sign}{:02}", exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_as_prometheus_does() {
        for (number, expected) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.25, "0.25"),
            (0.000_1, "0.0001"),
            (0.000_05, "5e-05"),
            (0.000_012_5, "1.25e-05"),
            (16_384.0, "16384.0"),
            (999_999.0, "999999.0"),
            (1_234_567.0, "1.234567e+06"),
            (1e300, "1e+300"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Number(number).to_string(), expected);
        }
    }
}
