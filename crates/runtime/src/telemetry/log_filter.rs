//! Which lines of the log are written: told at the start, and again while the process runs.
//!
//! Comes in: a text as `RUST_LOG` has it. Goes out: the filter that is in force. Never: a filter of which a part could
//! not be read, nor a cost for a line that is not written; what a place in the code may write is remembered there.

use std::fmt;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{Directive, EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::reload;

static OF_PROCESS: OnceLock<LogFilter> = OnceLock::new();

/// A text that is no filter, and which part of it.
#[derive(Debug, thiserror::Error)]
#[error("{part:?} is neither a level (off, error, warn, info, debug, trace) nor TARGET=LEVEL: {cause}")]
pub struct FilterError {
    part: String,
    cause: ParseError,
}

/// Why the levels stayed as they were.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The text is no filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The process does not log.
    #[error("the process writes no log: {0}")]
    NoLog(#[from] reload::Error),
}

/// The levels of the process's log.
pub struct LogFilter {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogFilter {
    /// A filter that can be changed, and by what.
    pub(crate) fn reloadable(filter: EnvFilter) -> (reload::Layer<EnvFilter, Registry>, Self) {
        let (layer, filter) = reload::Layer::new(filter);
        (layer, Self { filter })
    }

    /// These are the levels of this process, unless it has some already.
    pub(crate) fn install(self) {
        drop(OF_PROCESS.set(self));
    }

    /// Those of this process, if it writes a log.
    pub fn of_process() -> Option<&'static Self> {
        OF_PROCESS.get()
    }

    /// Makes `text` the filter from now on; an empty one is `info`.
    pub fn change(&self, text: &str) -> Result<(), ChangeError> {
        let filter = parse(text)?;
        let (from, to) = (self.to_string(), filter.to_string());
        // Before, so that who silences the log is seen as well.
        tracing::warn!(from, to, "the levels of the log change");
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

/// Reads a filter; an empty text is `info`.
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
    fn a_text_that_is_no_filter_is_told_with_the_part_that_is_wrong() {
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
    fn a_change_counts_from_then_on_and_a_wrong_text_changes_nothing() {
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
        assert_eq!(text.matches("the levels of the log change").count(), 2, "{text}");
    }
}
