//! Whether a process should get traffic, and if not, why.
//!
//! Comes in: each part's word that it is ready, or what it waits for. Goes out: one answer for all. Never: a
//! look at the parts; each says it itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The readiness of a process: ready when every gate is open and it is not going away.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    closed: BTreeMap<String, String>,
    leaving: bool,
}

impl Readiness {
    /// Ready, until a gate says otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// A gate named `part`, closed for `reason` until it is opened.
    pub fn gate(&self, part: impl Into<String>, reason: impl Into<String>) -> ReadinessGate {
        let gate = ReadinessGate { readiness: self.clone(), part: part.into() };
        gate.close(reason);
        gate
    }

    /// The process is going away: never ready again.
    pub fn leave(&self) {
        self.with(|state| state.leaving = true);
    }

    /// Nothing, or why there should be no traffic.
    pub fn check(&self) -> Result<(), String> {
        self.with(|state| {
            if state.leaving {
                return Err("shutting down".to_owned());
            }
            let reasons: Vec<_> = state.closed.iter().map(|(part, why)| format!("{part}: {why}")).collect();
            if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // A panic elsewhere cannot leave the state half changed, so a poisoned lock is as good as any.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One part's say in the readiness of the process.
#[derive(Clone, Debug)]
pub struct ReadinessGate {
    readiness: Readiness,
    part: String,
}

impl ReadinessGate {
    /// The part is ready.
    pub fn open(&self) {
        self.readiness.with(|state| state.closed.remove(&self.part));
    }

    /// The part is not ready, for `reason`.
    pub fn close(&self, reason: impl Into<String>) {
        self.readiness.with(|state| state.closed.insert(self.part.clone(), reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_gate_is_open_and_it_stays() {
        let readiness = Readiness::new();
        assert_eq!(readiness.check(), Ok(()));
        let (model, store) = (readiness.gate("model", "loading"), readiness.gate("store", "opening"));
        assert_eq!(readiness.check(), Err("model: loading; store: opening".to_owned()));
        store.open();
        model.close("artifact is corrupt");
        assert_eq!(readiness.check(), Err("model: artifact is corrupt".to_owned()));
        model.open();
        assert_eq!(readiness.check(), Ok(()));
        readiness.leave();
        assert_eq!(readiness.check(), Err("shutting down".to_owned()));
    }
}
