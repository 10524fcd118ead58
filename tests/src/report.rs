//! The outcomes of the requests of a load, and checks of which of them failed.

use std::fmt::{self, Display};
use std::time::Duration;

use anyhow::{Result, ensure};

/// The longest time for a response; a later one is a failure. Without a protection, a request to a pod that hangs waits for up to
/// 10 s. On a machine with two processors that also starts pods, a request was seen to wait for 2.1 s.
pub const LATEST: Duration = Duration::from_secs(4);
/// The time after which a sender abandons a request.
pub(crate) const GIVEN_UP: Duration = Duration::from_secs(30);

/// The outcome of one request.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When it was due, from the start of the load.
    pub due: Duration,
    /// When it was sent: later only if its sender still waited for another response.
    pub began: Duration,
    /// From when it was due until its response or failure.
    pub took: Duration,
    /// The index of its body in the plan.
    pub body: usize,
    /// The number of its sender, which sends one request after the other.
    pub sender: usize,
    /// The phase in which it was due.
    pub phase: usize,
    /// The response, or the error of the connection.
    pub outcome: Result<Answer, String>,
}

/// The response of a gateway.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The revision of the model that answered; empty for an error.
    pub revision: String,
    /// The predicted class.
    pub class: Option<u64>,
    /// The body, if it is not a prediction.
    pub text: String,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, a connection that was reset, or an incomplete response.
    Connection,
    /// An error status.
    Status(u16),
    /// Another class than the expected one, or a body that is not a prediction.
    WrongClass,
    /// The expected class, but after more than [`LATEST`]; or no response before the sender abandoned the request.
    Late,
}

impl Sent {
    /// The kind of the failure and its text; `None` if the request got the expected class in time.
    pub(crate) fn failure(&self, bodies: &[(String, u64)]) -> Option<(Failure, String)> {
        match &self.outcome {
            Err(why) if self.began + GIVEN_UP <= self.due + self.took => Some((Failure::Late, why.clone())),
            Err(why) => Some((Failure::Connection, why.clone())),
            Ok(answer) if answer.status != 200 => {
                Some((Failure::Status(answer.status), format!("{}: {}", answer.status, answer.text)))
            }
            Ok(answer) if answer.class != Some(bodies[self.body].1) => {
                let text = format!("expected class {}, got {:?}", bodies[self.body].1, answer.class);
                Some((Failure::WrongClass, text))
            }
            Ok(_) if self.took > LATEST => Some((Failure::Late, format!("later than {LATEST:?}"))),
            Ok(_) => None,
        }
    }
}

/// Failures that a fault must cause in its own phase, where a protection is switched off.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The phase of the fault.
    pub phase: &'a str,
    /// The kinds of failures that may occur in it; at least one of the first kind must.
    pub kinds: &'a [Failure],
    /// The least number of failures of the first kind.
    pub at_least: usize,
}

/// The outcomes of a load.
#[derive(Debug)]
pub struct Report {
    pub(crate) phases: Vec<String>,
    pub(crate) bodies: Vec<(String, u64)>,
    /// The requests, by the time when they were due.
    pub sent: Vec<Sent>,
}

impl Report {
    /// Every request that failed, with its phase and the reason.
    pub fn failed(&self) -> Vec<String> {
        let line = |sent: &Sent| {
            let (_, reason) = sent.failure(&self.bodies)?;
            let Sent { due, took, sender, .. } = sent;
            let phase = &self.phases[sent.phase];
            Some(format!("{phase}: due at {due:.3?}, sender {sender}, after {took:.3?}: {reason}"))
        };
        self.sent.iter().filter_map(line).collect()
    }

    /// Fails unless every request got its prediction in time. Prints the figures of each phase.
    pub fn all_answered(&self, case: &str) -> Result<()> {
        self.failed_as_expected(case, &[])
    }

    /// Fails unless the requests of each phase of `expected` failed as it says, and no request of any other phase failed.
    /// Prints the figures of each phase.
    #[expect(clippy::print_stdout, reason = "people read the figures")]
    pub fn failed_as_expected(&self, case: &str, expected: &[Expected<'_>]) -> Result<()> {
        print!("{case}\n{self}");
        let failures = self.sent.iter().filter_map(|sent| Some((sent, sent.failure(&self.bodies)?)));
        let (mut unexpected, mut counts) = (0, vec![0; expected.len()]);
        for (sent, (kind, _)) in failures {
            let place = expected.iter().position(|one| one.phase == self.phases[sent.phase]);
            match place {
                Some(place) if expected[place].kinds.first() == Some(&kind) => counts[place] += 1,
                Some(place) if expected[place].kinds.contains(&kind) => {}
                _ => unexpected += 1,
            }
        }
        let lines = self.failed();
        let first = lines[..lines.len().min(20)].join("\n");
        ensure!(
            unexpected == 0,
            "{unexpected} of {} requests failed unexpectedly:\n{first}",
            self.sent.len()
        );
        for (Expected { phase, kinds, at_least }, count) in expected.iter().zip(counts) {
            ensure!(
                count >= *at_least,
                "expected at least {at_least} failures {:?} in phase {phase:?}, got {count}:\n{first}",
                kinds.first()
            );
        }
        Ok(())
    }

    /// Fails unless all requests that failed were due within one time of this length. Prints the figures of each phase.
    #[expect(clippy::print_stdout, reason = "people read the figures")]
    pub fn all_answered_but_for(&self, case: &str, time: Duration) -> Result<()> {
        print!("{case}\n{self}");
        let due =
            || self.sent.iter().filter(|sent| sent.failure(&self.bodies).is_some()).map(|sent| sent.due);
        if let (Some(first), Some(last)) = (due().min(), due().max()) {
            let took = last.saturating_sub(first);
            println!("  {} failed within {took:.2?}", due().count());
            ensure!(took <= time, "requests failed for {took:?}:\n{}", self.failed().join("\n"));
        }
        Ok(())
    }
}

impl Display for Report {
    /// One line for each phase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.phases.iter().enumerate() {
            let of_phase: Vec<_> = self.sent.iter().filter(|sent| sent.phase == place).collect();
            if of_phase.is_empty() {
                continue;
            }
            let failed = of_phase.iter().filter(|sent| sent.failure(&self.bodies).is_some()).count();
            let mut took: Vec<_> = of_phase.iter().map(|sent| sent.took).collect();
            took.sort();
            let (worst, p99) = (took[took.len() - 1], took[(took.len() - 1) * 99 / 100]);
            let count = of_phase.len();
            writeln!(f, "  {name}: {count} sent, {failed} failed, p99 {p99:.1?}, worst {worst:.1?}")?;
        }
        Ok(())
    }
}
