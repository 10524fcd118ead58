//! Applies the result of each look-up to the endpoints of a model, and decides when to look up again. Endpoints stay while DNS
//! fails, and for a grace period after DNS returns none: in both cases they may still be serving.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::balancer::Balancer;
use crate::discovery::dns::Resolution;
use crate::settings::Tuning;

/// The state of a model's look-ups: since when DNS returns no endpoint.
#[derive(Default)]
pub(crate) struct EndpointRefresh {
    vanished_since: Option<Instant>,
}

/// What to do after a look-up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Look up again after this time.
    ResolveIn(Duration),
    /// Forget the model: it no longer exists.
    Forget,
}

impl EndpointRefresh {
    /// Applies `resolution` to the endpoints of a model.
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
                    // A truncated response has a random part of the endpoints; those that it omits may still exist.
                    Resolution::SomeEndpoints(..) => balancer.add(addresses),
                    Resolution::Endpoints(..) | Resolution::NoneReady | Resolution::Unknown => {
                        balancer.replace(addresses);
                    }
                }
                // A TTL of 0 must not cause a storm of queries.
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

    /// A model with a manual clock.
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
            endpoints: usize,
        ) {
            self.now += Duration::from_secs(after);
            let found = self.refresh.apply(&resolution, &self.balancer, &Tuning::default(), self.now);
            assert_eq!((&found, self.balancer.len()), (next, endpoints), "{resolution:?}");
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside look-ups that failed")]
    fn endpoints(count: u8, ttl: u64) -> Result<Resolution, String> {
        let addresses = (1..=count).map(|last| [127, 0, 0, last].into()).collect();
        Ok(Resolution::Endpoints(addresses, Duration::from_secs(ttl)))
    }

    #[test]
    fn the_ttl_is_respected_between_one_and_five_seconds() {
        let mut case = Case::new();
        case.check(0, endpoints(1, 30), &FIVE, 1);
        case.check(5, endpoints(3, 3), &NextStep::ResolveIn(Duration::from_secs(3)), 3);
        case.check(3, endpoints(2, 0), &ONE, 2);
    }

    #[test]
    fn a_truncated_response_adds_endpoints_and_removes_none() {
        let mut case = Case::new();
        case.check(0, endpoints(2, 5), &FIVE, 2);
        let some = vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        case.check(5, Ok(Resolution::SomeEndpoints(some, Duration::from_secs(5))), &FIVE, 3);
        let asked = case.balancer.pick(&[]).unwrap();
        case.balancer.failed(&asked, &UpstreamError::Unreachable { why: String::new(), delivered: false });
        let other = vec![[127, 0, 0, 4].into()];
        case.check(5, Ok(Resolution::SomeEndpoints(other, Duration::from_secs(5))), &FIVE, 3);
        case.check(5, endpoints(2, 5), &FIVE, 2);
    }

    #[test]
    fn endpoints_that_dns_no_longer_returns_are_used_for_fifteen_seconds() {
        for (gone, next) in [(Resolution::NoneReady, ONE), (Resolution::Unknown, NextStep::Forget)] {
            let mut case = Case::new();
            case.check(0, endpoints(2, 5), &FIVE, 2);
            case.check(5, Ok(gone.clone()), &ONE, 2);
            case.check(14, Ok(gone.clone()), &ONE, 2);
            case.check(1, Ok(gone.clone()), &next, 0);
        }
        let mut case = Case::new();
        case.check(0, endpoints(2, 5), &FIVE, 2);
        case.check(5, Ok(Resolution::Unknown), &ONE, 2);
        case.check(14, endpoints(1, 5), &FIVE, 1);
        case.check(5, Ok(Resolution::Unknown), &ONE, 1);
        case.check(14, Ok(Resolution::Unknown), &ONE, 1);
        case.check(1, endpoints(1, 5), &FIVE, 1);
    }

    #[test]
    fn vanished_endpoints_that_refuse_connections_are_removed_at_once() {
        let mut case = Case::new();
        case.check(0, endpoints(1, 5), &FIVE, 1);
        let asked = case.balancer.pick(&[]).unwrap();
        case.balancer.failed(&asked, &UpstreamError::Unreachable { why: String::new(), delivered: false });
        case.check(1, endpoints(1, 5), &FIVE, 1);
        case.check(1, Ok(Resolution::NoneReady), &ONE, 0);
    }

    #[test]
    fn a_model_without_endpoints_is_forgotten_when_it_no_longer_exists() {
        let mut case = Case::new();
        case.check(0, Ok(Resolution::NoneReady), &ONE, 0);
        case.check(100, Ok(Resolution::NoneReady), &ONE, 0);
        case.check(1, Ok(Resolution::Unknown), &NextStep::Forget, 0);
    }

    #[test]
    fn endpoints_stay_while_dns_fails() {
        let mut case = Case::new();
        case.check(0, endpoints(2, 5), &FIVE, 2);
        for _ in 0..100 {
            case.check(5, Err("SERVFAIL".to_owned()), &ONE, 2);
        }
        case.check(5, Ok(Resolution::NoneReady), &ONE, 2);
        case.check(100, Err("SERVFAIL".to_owned()), &ONE, 2);
        case.check(1, Ok(Resolution::NoneReady), &ONE, 0);
    }
}
