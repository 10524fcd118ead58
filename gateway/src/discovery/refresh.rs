//! What follows from each answer of DNS about a model: which pods are in use, and when to ask again.
//!
//! Comes in: what DNS said, and when. Goes out: the table of pods, brought up to date. Never: a pod given up
//! because DNS fails, or at once because it names none: both happen while pods go on serving.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::endpoints::Pods;
use crate::discovery::dns::Look;
use crate::settings::Habits;

/// Since when DNS knows no pod of a model.
#[derive(Default)]
pub(crate) struct Standing {
    vanished: Option<Instant>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Asking again, after a while.
    AskIn(Duration),
    /// Nothing: there is no such model any more.
    Forget,
}

impl Standing {
    /// DNS said `look` of the model with `pods`.
    pub(crate) fn heard(
        &mut self,
        look: &Result<Look, String>,
        pods: &Pods,
        habits: &Habits,
        now: Instant,
    ) -> Next {
        let soon = habits.ask_again_for_nothing;
        match look {
            Ok(look @ (Look::Pods(addresses, ttl) | Look::SomePods(addresses, ttl))) => {
                self.vanished = None;
                let addresses = addresses.iter().map(|&ip| SocketAddr::new(ip, habits.predictor_port));
                match look {
                    // Each answer that is cut has another part: the pods that it leaves out are still there.
                    Look::SomePods(..) => pods.add(addresses),
                    Look::Pods(..) | Look::NoneReady | Look::Unknown => pods.replace(addresses),
                }
                // An answer that counts for no time at all must not make this a storm.
                Next::AskIn((*ttl).max(soon).min(habits.ask_again))
            }
            Ok(none @ (Look::NoneReady | Look::Unknown)) => {
                let since = *self.vanished.get_or_insert(now);
                pods.keep_reachable();
                let left = habits.keep_vanished.saturating_sub(now - since);
                if pods.len() > 0 && !left.is_zero() {
                    return Next::AskIn(soon.min(left));
                }
                pods.replace(std::iter::empty());
                if *none == Look::Unknown { Next::Forget } else { Next::AskIn(soon) }
            }
            Err(_) => Next::AskIn(soon),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Trouble;

    const FIVE: Next = Next::AskIn(Duration::from_secs(5));
    const ONE: Next = Next::AskIn(Duration::from_secs(1));

    /// A model, and a clock that is put on by hand.
    struct Case {
        standing: Standing,
        pods: Pods,
        now: Instant,
    }

    impl Case {
        fn new() -> Self {
            Self {
                standing: Standing::default(),
                pods: Pods::none(Duration::from_secs(1)),
                now: Instant::now(),
            }
        }

        #[track_caller]
        #[expect(clippy::needless_pass_by_value, reason = "cases are written as values")]
        fn check(&mut self, after: u64, look: Result<Look, String>, next: &Next, pods: usize) {
            self.now += Duration::from_secs(after);
            let found = self.standing.heard(&look, &self.pods, &Habits::default(), self.now);
            assert_eq!((&found, self.pods.len()), (next, pods), "{look:?}");
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside look-ups that failed")]
    fn pods(count: u8, ttl: u64) -> Result<Look, String> {
        let addresses = (1..=count).map(|last| [127, 0, 0, last].into()).collect();
        Ok(Look::Pods(addresses, Duration::from_secs(ttl)))
    }

    #[test]
    fn an_answer_counts_as_long_as_it_says_but_five_seconds_at_most_and_one_at_least() {
        let mut case = Case::new();
        case.check(0, pods(1, 30), &FIVE, 1);
        case.check(5, pods(3, 3), &Next::AskIn(Duration::from_secs(3)), 3);
        case.check(3, pods(2, 0), &ONE, 2);
    }

    #[test]
    fn an_answer_that_is_cut_adds_pods_and_takes_none_away() {
        let mut case = Case::new();
        case.check(0, pods(2, 5), &FIVE, 2);
        let some = vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        case.check(5, Ok(Look::SomePods(some, Duration::from_secs(5))), &FIVE, 3);
        let asked = case.pods.pick(&[]).unwrap();
        case.pods.failed(&asked, &Trouble::Unreachable { why: String::new(), delivered: false });
        let other = vec![[127, 0, 0, 4].into()];
        case.check(5, Ok(Look::SomePods(other, Duration::from_secs(5))), &FIVE, 3);
        case.check(5, pods(2, 5), &FIVE, 2);
    }

    #[test]
    fn pods_that_vanish_are_used_for_fifteen_seconds() {
        for (gone, next) in [(Look::NoneReady, ONE), (Look::Unknown, Next::Forget)] {
            let mut case = Case::new();
            case.check(0, pods(2, 5), &FIVE, 2);
            case.check(5, Ok(gone.clone()), &ONE, 2);
            case.check(14, Ok(gone.clone()), &ONE, 2);
            case.check(1, Ok(gone.clone()), &next, 0);
        }
        let mut case = Case::new();
        case.check(0, pods(2, 5), &FIVE, 2);
        case.check(5, Ok(Look::Unknown), &ONE, 2);
        case.check(14, pods(1, 5), &FIVE, 1);
        case.check(5, Ok(Look::Unknown), &ONE, 1);
        case.check(14, Ok(Look::Unknown), &ONE, 1);
        case.check(1, pods(1, 5), &FIVE, 1);
    }

    #[test]
    fn vanished_pods_that_refuse_connections_are_not_waited_for() {
        let mut case = Case::new();
        case.check(0, pods(1, 5), &FIVE, 1);
        let asked = case.pods.pick(&[]).unwrap();
        case.pods.failed(&asked, &Trouble::Unreachable { why: String::new(), delivered: false });
        case.check(1, pods(1, 5), &FIVE, 1);
        case.check(1, Ok(Look::NoneReady), &ONE, 0);
    }

    #[test]
    fn a_model_without_pods_is_forgotten_once_it_is_gone() {
        let mut case = Case::new();
        case.check(0, Ok(Look::NoneReady), &ONE, 0);
        case.check(100, Ok(Look::NoneReady), &ONE, 0);
        case.check(1, Ok(Look::Unknown), &Next::Forget, 0);
    }

    #[test]
    fn what_was_last_known_stays_while_dns_fails() {
        let mut case = Case::new();
        case.check(0, pods(2, 5), &FIVE, 2);
        for _ in 0..100 {
            case.check(5, Err("SERVFAIL".to_owned()), &ONE, 2);
        }
        case.check(5, Ok(Look::NoneReady), &ONE, 2);
        case.check(100, Err("SERVFAIL".to_owned()), &ONE, 2);
        case.check(1, Ok(Look::NoneReady), &ONE, 0);
    }
}
