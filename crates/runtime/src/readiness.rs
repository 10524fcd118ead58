//! The readiness of a process: ready while all gates of its parts are open and no shutdown has begun.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The readiness of a process: it is ready while all gates are open and no shutdown has begun.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    closed: BTreeMap<String, String>,
    leaving: bool,
}

impl Readiness {
    /// Ready until a gate is closed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A gate named `part`, closed for `reason` until it is opened.
    pub fn gate(&self, part: impl Into<String>, reason: impl Into<String>) -> ReadinessGate {
        let gate = ReadinessGate { readiness: self.clone(), part: part.into() };
        gate.close(reason);
        gate
    }

    /// Withdraws readiness permanently, because the process is shutting down.
    pub fn leave(&self) {
        self.with(|state| state.leaving = true);
    }

    /// Whether the process is ready, or the reasons why it is not.
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
        // Every change is complete when it is made, so the state is valid after a panic.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The readiness of one part.
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
    fn a_process_is_ready_while_all_gates_are_open_and_no_shutdown_has_begun() {
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
