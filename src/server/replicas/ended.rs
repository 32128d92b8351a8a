//! Jobs whose end the watch has told of, for as long as their windows could be taken for those of jobs in the making.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// As many are remembered at most: one that is forgotten is waited for, as one that is being made is.
const MOST: usize = 16_384;

/// The names of jobs that are gone.
#[derive(Debug)]
pub struct Ended {
    kept: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    names: HashSet<String>,
    /// The same, the oldest first.
    since: VecDeque<(Instant, String)>,
}

impl Ended {
    /// Remembers each for so long.
    pub fn new(kept: Duration) -> Self {
        Self { kept, state: Mutex::default() }
    }

    /// The job called `name` is gone, as is told at `now`.
    pub fn gone(&self, name: &str, now: Instant) {
        let mut state = self.state();
        let old = |(at, _): &(Instant, String)| now.saturating_duration_since(*at) >= self.kept;
        while state.since.front().is_some_and(old) || state.since.len() >= MOST {
            if let Some((_, name)) = state.since.pop_front() {
                state.names.remove(&name);
            }
        }
        if state.names.insert(name.to_owned()) {
            state.since.push_back((now, name.to_owned()));
        }
    }

    /// A job called `name` is there.
    pub fn there(&self, name: &str) {
        let mut state = self.state();
        if state.names.remove(name) {
            state.since.retain(|(_, known)| known != name);
        }
    }

    /// Whether the job called `name` is known to be gone.
    pub fn has(&self, name: &str) -> bool {
        self.state().names.contains(name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gone_are_known_for_a_time_and_until_they_are_there_again() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        let ended = Ended::new(Duration::from_secs(60));
        ended.gone("a", start);
        ended.gone("b", after(30));
        assert!(ended.has("a") && ended.has("b") && !ended.has("c"));
        ended.there("b");
        assert!(!ended.has("b"), "a new job of the name");
        ended.gone("b", after(40));
        ended.gone("c", after(60));
        assert!(!ended.has("a") && ended.has("b") && ended.has("c"));
    }

    #[test]
    fn so_many_and_no_more_are_remembered() {
        let ended = Ended::new(Duration::from_secs(60));
        let now = Instant::now();
        for i in 0..MOST + 5 {
            ended.gone(&i.to_string(), now);
        }
        assert!(!ended.has("4") && ended.has("5") && ended.has(&(MOST + 4).to_string()));
        assert_eq!(ended.state().since.len(), MOST);
    }
}
