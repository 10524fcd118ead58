//! How many log lines of one kind a second may have: the same line ten thousand times tells nothing more.
//!
//! Comes in: the wish to log, and the time. Goes out: whether to, and how many were left out since the last
//! line. Never: a line of its own, nor a wait.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lines per second for a kind of line that comes with every request.
pub const LINES_PER_SECOND: u32 = 100;

/// The budget of one kind of line.
#[derive(Debug)]
pub struct Budget {
    per_second: u32,
    /// The second in the upper half, the lines used in it in the lower.
    used: AtomicU64,
    left_out: AtomicU64,
}

impl Budget {
    /// A budget of `per_second` lines.
    pub const fn new(per_second: u32) -> Self {
        Self { per_second, used: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be written now; if so, how many were left out since the last one that was.
    pub fn admit(&self) -> Option<u64> {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        // Counting from 1: a new budget holds second 0, which must not pass for the present one.
        self.admit_at(START.elapsed().as_secs() + 1)
    }

    fn admit_at(&self, second: u64) -> Option<u64> {
        let take = |used: u64| {
            let (of, lines) = (used >> 32, used as u32);
            if of != second & u64::from(u32::MAX) {
                Some(second << 32 | 1)
            } else if lines < self.per_second {
                Some(used + 1)
            } else {
                None
            }
        };
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_line_tells_what_was_left_out() {
        let budget = Budget::new(3);
        let admitted = |second| (0..1000).filter(|_| budget.admit_at(second).is_some()).count();
        assert_eq!(admitted(1), 3);
        assert_eq!(budget.admit_at(2), Some(997));
        assert_eq!(budget.admit_at(2), Some(0));
        assert_eq!(admitted(2), 1);
        assert_eq!(admitted(3), 3);
    }

    #[test]
    fn a_new_budget_admits_at_once() {
        assert_eq!(Budget::new(1).admit(), Some(0));
    }
}
