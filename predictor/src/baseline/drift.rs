//! Drift: the population stability index of each feature and of the predicted classes, over sliding windows.
//!
//! A request only counts; the index is computed when it is scraped. No row is kept, and memory does not grow with time.
//!
//! Each worker has counts of its own. When a slot of time is over, the next request of the worker, or a scrape, adds them
//! to the windows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use canopy_contract::rows::Rows;
use canopy_runtime::server::workers;

use crate::baseline::reference::{BinEdges, Counts, Reference, psi};

/// A window with fewer rows has no index: chance alone would make it too large.
pub const ROWS_MIN: u64 = 500;
/// The resolution of the windows.
const SLOT: Duration = Duration::from_mins(5);
/// The number of separate counts; workers beyond it share them.
const APART: usize = 8;
/// How many rows are counted under one lock, so that a scrape waits for microseconds only.
const IN_ONE_GO: usize = 64;

/// The windows: name, slots per part, number of parts.
const WINDOWS: [(&str, u64, usize); 2] = [("1h", 1, 12), ("24h", 12, 24)];

/// What counts the live rows of one model.
#[derive(Debug)]
pub struct Drift {
    reference: Reference,
    bin_edges: BinEdges,
    began: Instant,
    places: [Place; APART],
    windows: Mutex<[Window; WINDOWS.len()]>,
}

/// How far the rows of one window are from the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// The window's name.
    pub window: &'static str,
    /// By feature that is watched.
    pub features: Vec<f64>,
    /// Of the predicted classes, where enough rows were held out to compare with.
    pub classes: Option<f64>,
}

/// What one worker counts, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Place(Mutex<Running>);

#[derive(Debug)]
struct Running {
    slot: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Window {
    name: &'static str,
    slots_per_part: u64,
    /// In a ring: each with its number.
    parts: Vec<(u64, Counts)>,
}

impl Drift {
    /// Begins to count.
    pub fn new(reference: Reference, began: Instant) -> Self {
        let bin_edges = reference.bin_edges();
        let places =
            std::array::from_fn(|_| Place(Mutex::new(Running { slot: 0, counts: bin_edges.no_counts() })));
        let window = |(name, slots_per_part, parts)| Window {
            name,
            slots_per_part,
            parts: vec![(0, bin_edges.no_counts()); parts],
        };
        Self { windows: Mutex::new(WINDOWS.map(window)), places, bin_edges, reference, began }
    }

    /// Counts rows and the classes they were given.
    pub fn count(&self, rows: &Rows, classes: impl Iterator<Item = u32>, now: Instant) {
        let slot = self.slot(now);
        let place = &self.places[workers::worker_index() % APART];
        let mut rows = rows.iter().zip(classes).peekable();
        while rows.peek().is_some() {
            let mut running = lock(&place.0);
            if running.slot != slot {
                self.put(&mut running);
                running.slot = slot;
            }
            for (row, class) in rows.by_ref().take(IN_ONE_GO) {
                self.bin_edges.count(row, class, &mut running.counts);
            }
        }
    }

    /// The drift of each window that has enough rows.
    pub fn shifts(&self, now: Instant) -> Vec<Shift> {
        for place in &self.places {
            self.put(&mut lock(&place.0));
        }
        let slot = self.slot(now);
        let mut sum = self.bin_edges.no_counts();
        let mut shifts = Vec::new();
        // Requests do not count into the windows, so this lock is seldom contended.
        for window in lock(&self.windows).iter() {
            window.sum(slot, &mut sum);
            if sum.rows() >= ROWS_MIN {
                shifts.push(self.shift(window.name, &sum));
            }
        }
        shifts
    }

    fn shift(&self, window: &'static str, live: &Counts) -> Shift {
        let features = self.reference.features().iter().zip(live.bins());
        Shift {
            window,
            features: features.map(|(bins, live)| psi(bins.counts(), live)).collect(),
            classes: self.reference.classes().map(|classes| psi(classes, live.classes())),
        }
    }

    /// How many slots have passed. By the monotonic clock: a change of the wall clock's time changes nothing.
    fn slot(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / SLOT.as_secs()
    }

    fn put(&self, running: &mut Running) {
        let Running { slot, counts } = running;
        if counts.rows() > 0 {
            lock(&self.windows).iter_mut().for_each(|window| window.add(*slot, counts));
            counts.clear();
        }
    }
}

impl Window {
    fn add(&mut self, slot: u64, counts: &Counts) {
        let number = slot / self.slots_per_part;
        let place = number % self.parts.len() as u64;
        let (held, part) = &mut self.parts[place as usize];
        if *held < number {
            *held = number;
            part.clear();
        }
        // A part that the ring has overwritten is over.
        if *held == number {
            part.add(counts);
        }
    }

    /// Fills `sum` with what was counted in the part of time that `slot` is in, and in those before it that belong to
    /// the window.
    fn sum(&self, slot: u64, sum: &mut Counts) {
        sum.clear();
        let now = slot / self.slots_per_part;
        let belong = |number: u64| number + self.parts.len() as u64 > now;
        self.parts.iter().filter(|(number, _)| belong(*number)).for_each(|(_, part)| sum.add(part));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are whole after each addition, so a poisoned lock holds good ones.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_forest::data::samples::Samples;

    const MINUTE: Duration = Duration::from_mins(1);

    /// One feature that is `1..=1000`, and two classes in equal shares.
    fn train() -> Samples {
        let rows: Vec<_> = (1..=1000).map(|row| format!("{row},{}\n", row % 2)).collect();
        Samples::from_csv(format!("x,class\n{}", rows.concat()).as_bytes(), "class").unwrap()
    }

    /// A model that has learnt from these.
    fn drift(began: Instant) -> Drift {
        Drift::new(Reference::learn(&train(), &[0], vec![50, 50]), began)
    }

    /// So many rows, spread evenly over the feature from `from` on, of both classes in turn.
    fn send(drift: &Drift, count: usize, from: usize, now: Instant) {
        let rows = Rows::instances((0..count).map(|row| [(from + row * 1000 / count) as f64]));
        drift.count(&rows, (0..count as u32).map(|row| row % 2), now);
    }

    fn names(drift: &Drift, now: Instant) -> Vec<&'static str> {
        drift.shifts(now).iter().map(|shift| shift.window).collect()
    }

    #[test]
    fn below_the_least_number_of_rows_there_is_no_figure() {
        let began = Instant::now();
        let drift = drift(began);
        assert_eq!(drift.shifts(began), []);
        send(&drift, 499, 1, began);
        assert_eq!(drift.shifts(began), []);
        send(&drift, 1, 1, began);
        let shifts = drift.shifts(began);
        assert_eq!(shifts.iter().map(|shift| shift.window).collect::<Vec<_>>(), ["1h", "24h"]);
        for Shift { window: _, features, classes } in shifts {
            assert!(features[0] < 0.01 && classes.unwrap() < 0.01, "{features:?} {classes:?}");
        }
    }

    #[test]
    fn rows_leave_a_window_when_they_are_older_than_it() {
        let began = Instant::now();
        let drift = drift(began);
        send(&drift, 600, 1, began + 2 * MINUTE);
        for (minute, expected) in [
            (2, &["1h", "24h"][..]),
            (59, &["1h", "24h"]),
            (60, &["24h"]),
            (24 * 60 - 1, &["24h"]),
            (24 * 60, &[]),
        ] {
            assert_eq!(names(&drift, began + minute * MINUTE), expected, "minute {minute}");
        }
    }

    #[test]
    fn a_window_forgets_what_was_before_it_and_the_longer_one_does_not() {
        let began = Instant::now();
        let drift = drift(began);
        send(&drift, 10_000, 1, began);
        let later = began + 90 * MINUTE;
        send(&drift, 600, 2000, later);
        let shifts = drift.shifts(later);
        assert!(shifts[0].features[0] > 5.0, "{shifts:?}");
        assert!((0.01..0.1).contains(&shifts[1].features[0]), "{shifts:?}");
        assert!(shifts.iter().all(|shift| shift.classes.unwrap() < 1e-9), "{shifts:?}");
    }

    #[test]
    fn rows_count_for_their_own_time_without_a_scrape_in_between() {
        let began = Instant::now();
        let drift = drift(began);
        // No scrape between these, and the slot of the first is over when the second is counted.
        send(&drift, 400, 1, began);
        send(&drift, 400, 1, began + 50 * MINUTE);
        assert_eq!(names(&drift, began + 55 * MINUTE), ["1h", "24h"]);
        assert_eq!(names(&drift, began + 61 * MINUTE), ["24h"], "the first 400 are out of the hour");
    }

    #[test]
    fn a_year_of_slots_takes_the_memory_of_a_day() {
        let began = Instant::now();
        let drift = drift(began);
        for day in 0..365 {
            send(&drift, 500, 1, began + day * 24 * 60 * MINUTE);
        }
        let windows = drift.windows.lock().unwrap();
        assert_eq!(windows.each_ref().map(|window| window.parts.len()), [12, 24]);
        drop(windows);
        assert_eq!(names(&drift, began + 364 * 24 * 60 * MINUTE), ["1h", "24h"]);
    }

    #[test]
    fn a_time_before_the_beginning_is_the_beginning() {
        let before = Instant::now();
        let drift = drift(before + 30 * MINUTE);
        send(&drift, 500, 1, before);
        assert_eq!(names(&drift, before), ["1h", "24h"]);
    }

    #[test]
    fn counts_of_several_threads_add_up_during_scrapes() {
        let began = Instant::now();
        let drift = drift(began);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|step| send(&drift, 100, 1, began + step * MINUTE)));
            }
            scope.spawn(|| (0..50).for_each(|step| drop(drift.shifts(began + step * MINUTE))));
        });
        drift.shifts(began + 50 * MINUTE);
        let mut sum = drift.bin_edges.no_counts();
        drift.windows.lock().unwrap()[1].sum(drift.slot(began + 50 * MINUTE), &mut sum);
        assert_eq!(sum.rows(), 4 * 50 * 100);
    }

    #[test]
    fn too_few_rows_held_out_say_nothing_of_classes() {
        let began = Instant::now();
        for (held_out, is_told) in [(vec![10, 9], false), (vec![10, 10], true), (vec![20, 0], true)] {
            let drift = Drift::new(Reference::learn(&train(), &[0], held_out), began);
            send(&drift, 500, 1, began);
            assert_eq!(drift.shifts(began)[0].classes.is_some(), is_told);
        }
    }
}
