//! Power of two choices: picks two random endpoints and prefers the available, less loaded one. Pure functions.

use std::cmp::Ordering::{Equal, Greater, Less};

use crate::balance::outlier::Availability;

/// The load of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) availability: Availability,
    pub(crate) in_flight: u32,
    pub(crate) latency_rank: Option<f32>,
}

impl Load {
    /// Whether this endpoint is the better choice for one more request; `None` if both are equal.
    fn is_better_than(&self, other: &Self) -> Option<bool> {
        if self.availability != other.availability {
            return Some(self.availability < other.availability);
        }
        // An endpoint without a latency is assumed to be as fast as the other one.
        let latency_rank = |of: &Self, or: &Self| of.latency_rank.or(or.latency_rank).unwrap_or(1.0);
        let cost = |of: &Self, or: &Self| (of.in_flight + 1) as f32 * latency_rank(of, or);
        let (own, others) = (cost(self, other), cost(other, self));
        match own.total_cmp(&others) {
            Less => Some(true),
            Equal => None,
            Greater => Some(false),
        }
    }
}

/// Two random items of `all`, or the only one. `chance(n)` returns a random number below `n`.
pub(crate) fn choose_two<T>(
    all: impl Iterator<Item = T>,
    mut chance: impl FnMut(usize) -> usize,
) -> [Option<T>; 2] {
    let [mut first, mut second] = [None, None];
    for (seen, one) in all.enumerate() {
        match seen {
            0 => first = Some(one),
            1 => second = Some(one),
            _ => match chance(seen + 1) {
                0 => first = Some(one),
                1 => second = Some(one),
                _ => {}
            },
        }
    }
    [first, second]
}

/// The less loaded of a pair, or the only one.
pub(crate) fn less_loaded<T>(
    pair: [Option<(T, Load)>; 2],
    mut chance: impl FnMut(usize) -> usize,
) -> Option<(T, Load)> {
    match pair {
        [Some(first), Some(second)] => {
            let is_first = first.1.is_better_than(&second.1).unwrap_or_else(|| chance(2) == 0);
            Some(if is_first { first } else { second })
        }
        [only, _] => only,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const LOAD: Load = Load { availability: Availability::Healthy, in_flight: 0, latency_rank: None };

    #[track_caller]
    fn check(one: Load, other: Load, expected: Option<bool>) {
        assert_eq!(one.is_better_than(&other), expected, "{one:?} {other:?}");
        assert_eq!(other.is_better_than(&one), expected.map(|is| !is), "{other:?} {one:?}");
    }

    #[test]
    fn fewer_requests_in_flight_and_lower_latency_are_preferred() {
        let busy = |in_flight: u32| Load { in_flight, ..LOAD };
        check(LOAD, LOAD, None);
        check(busy(1), busy(2), Some(true));
        let takes =
            |latency_rank: f32, in_flight: u32| Load { latency_rank: Some(latency_rank), in_flight, ..LOAD };
        check(takes(1.0, 0), takes(2.0, 0), Some(true));
        check(takes(1.0, 6), takes(8.0, 0), Some(true));
        check(takes(1.0, 7), takes(8.0, 0), None);
        check(takes(8.0, 0), busy(1), Some(true));
    }

    #[test]
    fn a_probe_comes_first_and_an_ejected_endpoint_last() {
        let stands = |availability: Availability, in_flight: u32| Load { availability, in_flight, ..LOAD };
        check(stands(Availability::Probing, 9), LOAD, Some(true));
        check(stands(Availability::SlowStart, 0), stands(Availability::Healthy, 9), Some(false));
        check(stands(Availability::SlowStart, 0), stands(Availability::SlowStart, 1), Some(true));
        check(stands(Availability::Ejected, 0), stands(Availability::Healthy, 100), Some(false));
        check(stands(Availability::Ejected, 0), stands(Availability::Ejected, 1), Some(true));
    }

    #[test]
    fn each_pair_is_equally_likely() {
        let mut chance = fastrand::Rng::with_seed(1);
        let mut times = BTreeMap::new();
        for _ in 0..30_000 {
            let [Some(first), Some(second)] = choose_two(0..4, |below| chance.usize(..below)) else {
                unreachable!()
            };
            *times.entry((first.min(second), first.max(second))).or_insert(0) += 1;
        }
        assert_eq!(times.len(), 6);
        assert!(times.values().all(|times| (4_700..5_300).contains(times)), "{times:?}");
        assert_eq!(choose_two(0..0, |_| 0), [None, None]);
        assert_eq!(choose_two(0..1, |_| 0), [Some(0), None]);
    }
}
