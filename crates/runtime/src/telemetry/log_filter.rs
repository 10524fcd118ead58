//! The filter of log lines, in the syntax of `RUST_LOG`. It can be replaced while the process runs.
//!
//! A filter that has a malformed part is rejected as a whole.

use std::fmt;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{Directive, EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::reload;

static OF_PROCESS: OnceLock<LogFilter> = OnceLock::new();

/// A malformed filter, with the malformed part.
#[derive(Debug, thiserror::Error)]
#[error("{part:?} is neither a level (off, error, warn, info, debug, trace) nor TARGET=LEVEL: {cause}")]
pub struct FilterError {
    part: String,
    cause: ParseError,
}

/// Why the filter was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The text is malformed.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The process has no log.
    #[error("the process writes no log: {0}")]
    NoLog(#[from] reload::Error),
}

/// The filter of the process's log.
pub struct LogFilter {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogFilter {
    /// A layer with a filter, and the handle that replaces the filter.
    pub(crate) fn reloadable(filter: EnvFilter) -> (reload::Layer<EnvFilter, Registry>, Self) {
        let (layer, filter) = reload::Layer::new(filter);
        (layer, Self { filter })
    }

    /// Makes this the filter of the process, unless it has one already.
    pub(crate) fn install(self) {
        drop(OF_PROCESS.set(self));
    }

    /// The filter of this process, if it has a log.
    pub fn of_process() -> Option<&'static Self> {
        OF_PROCESS.get()
    }

    /// Replaces the filter by `text`; empty text is `info`.
    pub fn change(&self, text: &str) -> Result<(), ChangeError> {
        let filter = parse(text)?;
        let (from, to) = (self.to_string(), filter.to_string());
        // Logged before the change, so it is recorded even if the new filter drops it.
        tracing::warn!(from, to, "changing the log filter");
        Ok(self.filter.reload(filter)?)
    }
}

impl fmt::Display for LogFilter {
    /// The filter in force.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filter.with_current(EnvFilter::to_string).map_or(Ok(()), |filter| f.write_str(&filter))
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.to_string()).finish()
    }
}

/// Parses a filter; empty text is `info`.
pub(crate) fn parse(text: &str) -> Result<EnvFilter, FilterError> {
    let text = text.trim();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let read = part.parse::<Directive>();
        read.map_err(|cause| FilterError { part: part.to_owned(), cause })?;
    }
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    builder.parse(text).map_err(|cause| FilterError { part: text.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn an_error_names_the_malformed_part_of_a_filter() {
        let filter = |text: &str| parse(text).map(|filter| filter.to_string()).map_err(|e| e.to_string());
        assert_eq!(filter("").unwrap(), "info");
        assert_eq!(filter(" debug\n").unwrap(), "debug");
        assert_eq!(filter("warn,canopy_gateway=debug").unwrap(), "canopy_gateway=debug,warn");
        for (text, part) in [("info,a=loud", "a=loud"), ("a=b=c", "a=b=c"), ("info,[{", "[{")] {
            let said = filter(text).unwrap_err();
            assert!(said.starts_with(&format!("{part:?} is neither a level (off, error, ")), "{said}");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_change_applies_to_later_lines_and_malformed_text_changes_nothing() {
        let (filter, levels) = LogFilter::reloadable(parse("info").unwrap());
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let layer = layer.with_filter(filter);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let tell =
                |number: u8| tracing::debug!(target: "canopy_gateway::http::request_context", number, "told");
            tell(1);
            levels.change("warn,canopy_gateway=debug").unwrap();
            tell(2);
            levels.change("canopy_gateway=loud").unwrap_err();
            assert_eq!(levels.to_string(), "canopy_gateway=debug,warn");
            tell(3);
            levels.change("off").unwrap();
            tell(4);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let told = (1..=4).filter(|number| text.contains(&format!("told number={number}")));
        assert_eq!(told.collect::<Vec<_>>(), [2, 3], "{text}");
        assert_eq!(text.matches("changing the log filter").count(), 2, "{text}");
    }
}
