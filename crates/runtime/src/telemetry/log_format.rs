//! The format of log lines, with a limit on warnings and errors of each place in the code.
//!
//! A place may write ten lines at once and then one a second. The next line that is written has the number of suppressed lines in its
//! field `suppressed`. Memory grows with the number of places in the code only.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::log_limit::{self, LogLimit};

/// The number of warnings or errors that a place may write at once.
const BURST: u32 = 10;

/// A format that suppresses warnings and errors beyond the limit of their place.
#[derive(Debug)]
pub(crate) struct LimitedFormat<F> {
    format: F,
    is_json: bool,
    limits: CallsiteLimits,
}

/// The limit of each place in the code.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallsiteLimits(Arc<Mutex<HashMap<Identifier, Callsite>>>);

#[derive(Debug)]
struct Callsite {
    metadata: &'static Metadata<'static>,
    limit: LogLimit,
}

impl<F> LimitedFormat<F> {
    /// Writes lines by `format`, which writes JSON if `is_json`, within `limits`.
    pub(crate) fn new(format: F, is_json: bool, limits: CallsiteLimits) -> Self {
        Self { format, is_json, limits }
    }
}

impl<S, N, F> FormatEvent<S, N> for LimitedFormat<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let is_limited = *metadata.level() <= Level::WARN;
        match if is_limited { self.limits.admit(metadata, log_limit::now()) } else { Some(0) } {
            None => Ok(()),
            Some(0) => self.format.format_event(context, writer, event),
            Some(suppressed) => {
                let mut line = String::new();
                self.format.format_event(context, Writer::new(&mut line), event)?;
                if self.is_json {
                    let members = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
                    writeln!(writer, "{members},\"suppressed\":{suppressed}}}")
                } else {
                    writeln!(writer, "{} suppressed={suppressed}", line.trim_end())
                }
            }
        }
    }
}

impl CallsiteLimits {
    /// See [`LogLimit::admit`], for the place in the code that `metadata` describes.
    fn admit(&self, metadata: &'static Metadata<'static>, now: Duration) -> Option<u64> {
        let mut callsites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Callsite { metadata, limit: LogLimit::burst(BURST) };
        callsites.entry(metadata.callsite()).or_insert_with(new).limit.admit_at(now)
    }

    /// For each place the number of lines that were suppressed and not reported yet.
    pub(crate) fn suppressed(&self) -> Vec<(String, u64)> {
        let callsites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let suppressed = callsites.values().filter_map(|Callsite { metadata, limit }| {
            let (file, line) = (metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
            Some((format!("{file}:{line}"), limit.suppressed())).filter(|&(_, count)| count > 0)
        });
        suppressed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    fn fail() {
        tracing::warn!(code = "x", "failed");
    }

    /// Replaces each limit by one that admits the next line and has suppressed seven.
    fn suppress_seven(limits: &CallsiteLimits) {
        for callsite in limits.0.lock().unwrap().values_mut() {
            callsite.limit = LogLimit::burst(1);
            for _ in 0..8 {
                callsite.limit.admit_at(Duration::ZERO);
            }
            callsite.limit.allow_next();
        }
    }

    #[test]
    fn both_formats_write_the_number_of_suppressed_lines_and_leave_other_lines_as_they_are() {
        let (lines, limits) = (Lines::default(), CallsiteLimits::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let json = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
        let json = json.map_event_format(|format| LimitedFormat::new(format, true, limits.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(json), || {
            for _ in 0..1000 {
                fail();
                tracing::info!("fine");
            }
            let (failed, fine): (Vec<_>, Vec<_>) =
                lines.take().into_iter().partition(|line| line.contains("failed"));
            assert_eq!((failed.len(), fine.len()), (10, 1000));
            assert_eq!(limits.suppressed()[0].1, 990);
            suppress_seven(&limits);
            fail();
            let line: Value = serde_json::from_str(&lines.take()[0]).unwrap();
            assert_eq!((&line["suppressed"], &line["code"]), (&json!(7), &json!("x")), "{line}");
        });

        let (lines, limits) = (Lines::default(), CallsiteLimits::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let pretty = layer.map_event_format(|format| LimitedFormat::new(format, false, limits.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(pretty), || {
            fail();
            suppress_seven(&limits);
            fail();
            let last = lines.take().pop().unwrap();
            assert!(last.ends_with("=\"x\" suppressed=7"), "{last}");
        });
    }
}
