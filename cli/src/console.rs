//! The terminal, or whatever stands in its place: the only file that uses the standard streams.
//!
//! Comes in: results, remarks, progress. Goes out: results on standard output, everything else on standard error.
//! Never: a moving line where nobody watches it move.

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

/// Writes a line for people. There is nobody to tell where that fails.
pub(crate) fn say(line: &str) {
    drop(writeln!(stderr(), "{line}"));
}

/// Everything that comes in, up to `limit` bytes and one more that tells there is too much.
pub(crate) fn read(limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stdin().lock().take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How far some work has come. Whoever does it may tell so from several threads.
pub(crate) struct Progress {
    what: String,
    unit: &'static str,
    moving: bool,
    /// Held while a line is written: one that is late must not follow one that is further.
    done: Mutex<usize>,
}

impl Progress {
    /// Nothing of `what` is done yet; it is counted in `unit`.
    pub(crate) fn new(what: String, unit: &'static str) -> Self {
        Self { what, unit, moving: stderr().is_terminal(), done: Mutex::new(0) }
    }

    /// So many are done of so many: one moving line on a terminal, elsewhere a line for each quarter.
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
