//! Jobs whose end the watch has told of, for as long as their windows could be taken for those of jobs in the making.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::server::cache::Cache;

/// As many are remembered at most: one that is forgotten is waited for, as one that is being made is.
const MOST: usize = 16_384;

/// The names of jobs that are gone.
pub struct Ended(Mutex<Cache<String, ()>>);

impl Ended {
    /// Remembers each for so long.
    pub fn new(kept: Duration) -> Self {
        Self(Mutex::new(Cache::new(MOST, kept)))
    }

    /// The job called `name` is gone, as is told at `now`.
    pub fn gone(&self, name: &str, now: Instant) {
        self.names().put(name.to_owned(), (), now);
    }

    /// A job called `name` is there.
    pub fn there(&self, name: &str) {
        self.names().remove(name);
    }

    /// Whether the job called `name` is known to be gone at `now`.
    pub fn has(&self, name: &str, now: Instant) -> bool {
        self.names().get(name, now).is_some()
    }

    fn names(&self) -> MutexGuard<'_, Cache<String, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert!(ended.has("a", after(30)) && ended.has("b", after(30)) && !ended.has("c", after(30)));
        ended.there("b");
        assert!(!ended.has("b", after(30)), "a new job of the name");
        ended.gone("b", after(40));
        ended.gone("c", after(60));
        assert!(!ended.has("a", after(60)) && ended.has("b", after(60)) && ended.has("c", after(60)));
    }

    #[test]
    fn so_many_and_no_more_are_remembered() {
        let ended = Ended::new(Duration::from_secs(60));
        let start = Instant::now();
        let after = |i: usize| start + Duration::from_millis(u64::try_from(i).expect("small"));
        for i in 0..MOST + 5 {
            ended.gone(&i.to_string(), after(i));
        }
        let has = |i: usize| ended.has(&i.to_string(), after(MOST + 5));
        assert!(!has(4) && has(5) && has(MOST + 4));
        assert_eq!((0..MOST + 5).filter(|i| has(*i)).count(), MOST);
    }
}
