//! Lines about trouble, written sparingly: a thousand a second of the same one tell no more than a few.
//!
//! Comes in: events. Goes out: their lines; of warnings and errors from one place in the code ten at once and then one a
//! second, the next of which says how many were left out (`suppressed`). Never: a line lost without being counted; more
//! memory than there are places in the code; a look at a clock that somebody can set.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// How many lines of one place may come at once.
const AT_ONCE: u32 = 10;
/// After how long one more may come.
const EVERY: Duration = Duration::from_secs(1);

/// A format that writes nothing for what is too much.
#[derive(Debug)]
pub(crate) struct Sparing<F> {
    format: F,
    is_json: bool,
    places: Places,
}

/// What was written of each place in the code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Mutex<HashMap<Identifier, Place>>>);

#[derive(Debug)]
struct Place {
    metadata: &'static Metadata<'static>,
    /// How many lines it may write now,
    room: u32,
    /// and since when so many.
    since: Instant,
    left_out: u64,
}

impl<F> Sparing<F> {
    /// As `format` writes them, which is JSON or for people; what was left out is remembered in `places`.
    pub(crate) fn new(format: F, is_json: bool, places: Places) -> Self {
        Self { format, is_json, places }
    }
}

impl<S, N, F> FormatEvent<S, N> for Sparing<F>
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
        let is_trouble = *metadata.level() <= Level::WARN;
        match if is_trouble { self.places.admit(metadata, Instant::now()) } else { Some(0) } {
            None => Ok(()),
            Some(0) => self.format.format_event(context, writer, event),
            Some(left_out) => {
                let mut line = String::new();
                self.format.format_event(context, Writer::new(&mut line), event)?;
                if self.is_json {
                    let members = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
                    writeln!(writer, "{members},\"suppressed\":{left_out}}}")
                } else {
                    writeln!(writer, "{} suppressed={left_out}", line.trim_end())
                }
            }
        }
    }
}

impl Places {
    /// Whether a place may write a line now; if so, how many were left out since the last one.
    fn admit(&self, metadata: &'static Metadata<'static>, now: Instant) -> Option<u64> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || Place { metadata, room: AT_ONCE, since: now, left_out: 0 };
        places.entry(metadata.callsite()).or_insert_with(full).admit(now)
    }

    /// How many were left out and have not been told yet, by place.
    pub(crate) fn untold(&self) -> Vec<(String, u64)> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = places.values().filter(|place| place.left_out > 0).map(|place| {
            let (file, line) = (place.metadata.file().unwrap_or_default(), place.metadata.line());
            (format!("{file}:{}", line.unwrap_or_default()), place.left_out)
        });
        untold.collect()
    }
}

impl Place {
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.since).as_secs() / EVERY.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed >= AT_ONCE - self.room {
            (self.room, self.since) = (AT_ONCE, now);
        } else {
            self.room += passed;
            self.since += EVERY * passed;
        }
        if self.room == 0 {
            self.left_out += 1;
            return None;
        }
        self.room -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn metadata() -> &'static Metadata<'static> {
        tracing::warn_span!("a place").metadata().unwrap()
    }

    #[test]
    fn ten_come_at_once_then_one_a_second_and_each_says_what_was_left_out() {
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry());
        let (places, metadata, start) = (Places::default(), metadata(), Instant::now());
        let mut admitted = Vec::new();
        // A thousand a second, for three seconds.
        for millisecond in 0..3000 {
            let now = start + Duration::from_millis(millisecond);
            admitted.extend(places.admit(metadata, now).map(|left_out| (millisecond, left_out)));
        }
        let at_once = (0..10).map(|millisecond| (millisecond, 0));
        let then = [(1000, 990), (2000, 999)];
        assert_eq!(admitted, at_once.chain(then).collect::<Vec<_>>());
        let untold = places.untold();
        assert_eq!(untold[0].1, 999);
        assert!(untold[0].0.starts_with("crates/runtime/src/sparing.rs:"), "{untold:?}");
        // After a rest there is room for as many as at first, and no more.
        let later = start + Duration::from_hours(1);
        let again: Vec<_> = (0..20).filter_map(|_| places.admit(metadata, later)).collect();
        assert_eq!(again, [&[999][..], &[0; 9]].concat());
    }

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

    /// The place has had its line a second ago, and has left out seven since.
    fn rested(places: &Places) {
        let second_ago = Instant::now().checked_sub(EVERY).unwrap();
        for place in places.0.lock().unwrap().values_mut() {
            (place.room, place.since, place.left_out) = (0, second_ago, 7);
        }
    }

    #[test]
    fn both_formats_say_what_was_left_out_and_other_lines_are_as_they_were() {
        let (lines, places) = (Lines::default(), Places::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let json = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
        let json = json.map_event_format(|format| Sparing::new(format, true, places.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(json), || {
            for _ in 0..1000 {
                fail();
                tracing::info!("fine");
            }
            let (failed, fine): (Vec<_>, Vec<_>) =
                lines.take().into_iter().partition(|line| line.contains("failed"));
            assert_eq!((failed.len(), fine.len()), (10, 1000));
            assert_eq!(places.untold()[0].1, 990);
            rested(&places);
            fail();
            let line: Value = serde_json::from_str(&lines.take()[0]).unwrap();
            assert_eq!((&line["suppressed"], &line["code"]), (&json!(7), &json!("x")), "{line}");
        });

        let (lines, places) = (Lines::default(), Places::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let pretty = layer.map_event_format(|format| Sparing::new(format, false, places.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(pretty), || {
            fail();
            rested(&places);
            fail();
            let last = lines.take().pop().unwrap();
            assert!(last.ends_with("=\"x\" suppressed=7"), "{last}");
        });
    }
}
