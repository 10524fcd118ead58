//! What follows from each answer of DNS about a model: which pods are in use, and when to ask again.
//!
//! Comes in: what DNS said, and when. Goes out: the table of pods, brought up to date. Never: a pod given up
//! because DNS fails, or at once because it names none: both happen while pods go on serving.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::balancer::Balancer;
use crate::discovery::dns::Resolution;
use crate::settings::Tuning;

/// Since when DNS knows no pod of a model.
#[derive(Default)]
pub(crate) struct EndpointRefresh {
    vanished_since: Option<Instant>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Asking again, after a while.
    ResolveIn(Duration),
    /// Nothing: there is no such model any more.
    Forget,
}

impl EndpointRefresh {
    /// DNS said `look` of the model with `pods`.
    pub(crate) fn apply(
        &mut self,
        resolution: &Result<Resolution, String>,
        balancer: &Balancer,
        tuning: &Tuning,
        now: Instant,
    ) -> NextStep {
        let soon = tuning.negative_ttl;
        match resolution {
            Ok(
                resolution @ (Resolution::Endpoints(addresses, ttl)
                | Resolution::SomeEndpoints(addresses, ttl)),
            ) => {
                self.vanished_since = None;
                let addresses = addresses.iter().map(|&ip| SocketAddr::new(ip, tuning.predictor_port));
                match resolution {
                    // Each answer that is cut has another part: the pods that it leaves out are still there.
                    Resolution::SomeEndpoints(..) => balancer.add(addresses),
                    Resolution::Endpoints(..) | Resolution::NoneReady | Resolution::Unknown => {
                        balancer.replace(addresses)
                    }
                }
                // An answer that counts for no time at all must not make this a storm.
                NextStep::ResolveIn((*ttl).max(soon).min(tuning.resolve_interval))
            }
            Ok(none @ (Resolution::NoneReady | Resolution::Unknown)) => {
                let since = *self.vanished_since.get_or_insert(now);
                balancer.keep_reachable();
                let left = tuning.vanished_grace.saturating_sub(now - since);
                if balancer.len() > 0 && !left.is_zero() {
                    return NextStep::ResolveIn(soon.min(left));
                }
                balancer.replace(std::iter::empty());
                if *none == Resolution::Unknown { NextStep::Forget } else { NextStep::ResolveIn(soon) }
            }
            Err(_) => NextStep::ResolveIn(soon),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::UpstreamError;

    const FIVE: NextStep = NextStep::ResolveIn(Duration::from_secs(5));
    const ONE: NextStep = NextStep::ResolveIn(Duration::from_secs(1));

    /// A model, and a clock that is put on by hand.
    struct Case {
        refresh: EndpointRefresh,
        balancer: Balancer,
        now: Instant,
    }

    impl Case {
        fn new() -> Self {
            Self {
                refresh: EndpointRefresh::default(),
                balancer: Balancer::none(Duration::from_secs(1)),
                now: Instant::now(),
            }
        }

        #[track_caller]
        #[expect(clippy::needless_pass_by_value, reason = "cases are written as values")]
        fn check(
            &mut self,
            after: u64,
            resolution: Result<Resolution, String>,
            next: &NextStep,
            balancer: usize,
        ) {
            self.now += Duration::from_secs(after);
            let found = self.refresh.apply(&resolution, &self.balancer, &Tuning::default(), self.now);
            assert_eq!((&found, self.balancer.len()), (next, balancer), "{resolution:?}");
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside look-ups that failed")]
    fn balancer(count: u8, ttl: u64) -> Result<Resolution, String> {
        let addresses = (1..=count).map(|last| [127, 0, 0, last].into()).collect();
        Ok(Resolution::Endpoints(addresses, Duration::from_secs(ttl)))
    }

    #[test]
    fn an_answer_counts_as_long_as_it_says_but_five_seconds_at_most_and_one_at_least() {
        let mut case = Case::new();
        case.check(0, balancer(1, 30), &FIVE, 1);
        case.check(5, balancer(3, 3), &NextStep::ResolveIn(Duration::from_secs(3)), 3);
        case.check(3, balancer(2, 0), &ONE, 2);
    }

    #[test]
    fn an_answer_that_is_cut_adds_pods_and_takes_none_away() {
        let mut case = Case::new();
        case.check(0, balancer(2, 5), &FIVE, 2);
        let some = vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        case.check(5, Ok(Resolution::SomeEndpoints(some, Duration::from_secs(5))), &FIVE, 3);
        let asked = case.balancer.pick(&[]).unwrap();
        case.balancer.failed(&asked, &UpstreamError::Unreachable { why: String::new(), delivered: false });
        let other = vec![[127, 0, 0, 4].into()];
        case.check(5, Ok(Resolution::SomeEndpoints(other, Duration::from_secs(5))), &FIVE, 3);
        case.check(5, balancer(2, 5), &FIVE, 2);
    }

    #[test]
    fn pods_that_vanish_are_used_for_fifteen_seconds() {
        for (gone, next) in [(Resolution::NoneReady, ONE), (Resolution::Unknown, NextStep::Forget)] {
            let mut case = Case::new();
            case.check(0, balancer(2, 5), &FIVE, 2);
            case.check(5, Ok(gone.clone()), &ONE, 2);
            case.check(14, Ok(gone.clone()), &ONE, 2);
            case.check(1, Ok(gone.clone()), &next, 0);
        }
        let mut case = Case::new();
        case.check(0, balancer(2, 5), &FIVE, 2);
        case.check(5, Ok(Resolution::Unknown), &ONE, 2);
        case.check(14, balancer(1, 5), &FIVE, 1);
        case.check(5, Ok(Resolution::Unknown), &ONE, 1);
        case.check(14, Ok(Resolution::Unknown), &ONE, 1);
        case.check(1, balancer(1, 5), &FIVE, 1);
    }

    #[test]
    fn vanished_pods_that_refuse_connections_are_not_waited_for() {
        let mut case = Case::new();
        case.check(0, balancer(1, 5), &FIVE, 1);
        let asked = case.balancer.pick(&[]).unwrap();
        case.balancer.failed(&asked, &UpstreamError::Unreachable { why: String::new(), delivered: false });
        case.check(1, balancer(1, 5), &FIVE, 1);
        case.check(1, Ok(Resolution::NoneReady), &ONE, 0);
    }

    #[test]
    fn a_model_without_pods_is_forgotten_once_it_is_gone() {
        let mut case = Case::new();
        case.check(0, Ok(Resolution::NoneReady), &ONE, 0);
        case.check(100, Ok(Resolution::NoneReady), &ONE, 0);
        case.check(1, Ok(Resolution::Unknown), &NextStep::Forget, 0);
    }

    #[test]
    fn what_was_last_known_stays_while_dns_fails() {
        let mut case = Case::new();
        case.check(0, balancer(2, 5), &FIVE, 2);
        for _ in 0..100 {
            case.check(5, Err("SERVFAIL".to_owned()), &ONE, 2);
        }
        case.check(5, Ok(Resolution::NoneReady), &ONE, 2);
        case.check(100, Err("SERVFAIL".to_owned()), &ONE, 2);
        case.check(1, Ok(Resolution::NoneReady), &ONE, 0);
    }
}
