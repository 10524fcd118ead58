//! The standard streams. Results go to standard output, everything else to standard error.
//!
//! Progress is one moving line on a terminal, and a few plain lines elsewhere.

use std::io::{self, IsTerminal as _, Read as _, Write as _, stderr, stdin, stdout};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// Writes results: text that ends with a line break.
pub(crate) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes a binary result.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut output = stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).context("failed to write to standard output")
}

/// Writes a line to standard error. Errors are ignored: there is no other place to report them.
pub(crate) fn say(line: &str) {
    drop(writeln!(stderr(), "{line}"));
}

/// Reads standard input, up to `limit` + 1 bytes; one more than the limit shows that there is too much.
pub(crate) fn read(limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stdin().lock().take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Progress of some work, reported by several threads.
pub(crate) struct Progress {
    what: String,
    unit: &'static str,
    moving: bool,
    /// Locked while a line is written, so that lines are written in order.
    done: Mutex<usize>,
}

impl Progress {
    /// Nothing of `what` is done yet; it is counted in `unit`.
    pub(crate) fn new(what: String, unit: &'static str) -> Self {
        Self { what, unit, moving: stderr().is_terminal(), done: Mutex::new(0) }
    }

    /// Shows that `done` of `of` are done: one moving line on a terminal, elsewhere a line for each quarter.
    pub(crate) fn show(&self, done: usize, of: usize) {
        let mut last = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if *last >= done {
            return;
        }
        let before = std::mem::replace(&mut *last, done);
        let quarter = |count: usize| count * 4 / of.max(1);
        let Self { what, unit, .. } = self;
        if self.moving {
            drop(write!(stderr(), "\r\x1b[K{what} {done}/{of} {unit}"));
        } else if quarter(before) < quarter(done) {
            say(&format!("{what} {done}/{of} {unit}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.moving {
            drop(write!(stderr(), "\r\x1b[K"));
        }
    }
}
