//! What the analyzer still waits for, as `/readyz` tells it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A broker that confirms nothing for so long is not to be counted on: headers go out every half second.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

/// Shared between the parts that know and the port that tells.
pub struct Readiness {
    state: Mutex<State>,
}

struct State {
    source_open: bool,
    broker: Broker,
}

enum Broker {
    Awaited(String),
    Confirmed(Instant),
}

impl Default for Readiness {
    fn default() -> Self {
        let broker = Broker::Awaited("the broker: connecting".to_owned());
        Self { state: Mutex::new(State { source_open: false, broker }) }
    }
}

impl Readiness {
    /// The source is open.
    pub fn source_open(&self) {
        self.lock().source_open = true;
    }

    /// The broker has confirmed a message for the queue.
    pub fn confirmed(&self) {
        self.lock().broker = Broker::Confirmed(Instant::now());
    }

    /// The queue cannot be reached, and why.
    pub fn broker_awaited(&self, what: String) {
        self.lock().broker = Broker::Awaited(what);
    }

    /// Whether the queue could be reached when last tried.
    pub fn has_broker(&self) -> bool {
        matches!(self.lock().broker, Broker::Confirmed(_))
    }

    /// What is still awaited; nothing means ready.
    pub fn awaited(&self) -> Vec<String> {
        let state = self.lock();
        let mut awaited = Vec::new();
        if !state.source_open {
            awaited.push("the source: opening".to_owned());
        }
        match &state.broker {
            Broker::Awaited(what) => awaited.push(what.clone()),
            Broker::Confirmed(when) if when.elapsed() > CONFIRM_LIMIT => {
                awaited.push(format!("the broker: no confirm for {:.0} s", when.elapsed().as_secs_f64()));
            }
            Broker::Confirmed(_) => {}
        }
        awaited
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_source_and_broker() {
        let readiness = Readiness::default();
        assert_eq!(readiness.awaited(), ["the source: opening", "the broker: connecting"]);
        readiness.confirmed();
        assert_eq!(readiness.awaited(), ["the source: opening"]);
        readiness.source_open();
        assert!(readiness.awaited().is_empty() && readiness.has_broker());
        readiness.broker_awaited("queue q".to_owned());
        assert_eq!(readiness.awaited(), ["queue q"]);
        assert!(!readiness.has_broker());
    }
}
