//! How many live jobs one caller may have. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Taken = HashMap<String, BTreeSet<u16>>;

/// Counts the jobs of each caller by their windows, which no two live jobs share.
pub struct Quota {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

/// Room for one job of a caller; dropping it gives the room back, or leaves it to the job that was made.
pub struct Place {
    caller: String,
    window: u16,
    taken: Arc<Mutex<Taken>>,
}

impl Quota {
    /// At most `most` live jobs for each caller; 0 is no limit.
    pub fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// Room for a job of `caller` in `window`; None when the caller has as many as are allowed. `live` gives the
    /// windows of the caller's live jobs, and is asked while no other place can be given.
    pub fn place(&self, caller: &str, window: u16, live: impl FnOnce() -> BTreeSet<u16>) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let own = taken.get(caller);
        let mut windows = live();
        windows.extend(own.into_iter().flatten());
        if self.most > 0 && windows.len() >= self.most {
            return None;
        }
        taken.entry(caller.to_owned()).or_default().insert(window);
        Some(Place { caller: caller.to_owned(), window, taken: Arc::clone(&self.taken) })
    }

    /// How many are allowed.
    pub fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(windows) = taken.get_mut(&self.caller) {
            windows.remove(&self.window);
            if windows.is_empty() {
                taken.remove(&self.caller);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_live_jobs_count_once_each() {
        let quota = Quota::new(2);
        let live = |windows: &[u16]| windows.iter().copied().collect::<BTreeSet<_>>();
        let first = quota.place("ann", 0, || live(&[])).expect("room");
        // The job of the first place is live already, and still it is one job.
        let second = quota.place("ann", 1, || live(&[0])).expect("room");
        assert!(quota.place("ann", 2, || live(&[0])).is_none());
        assert!(quota.place("bob", 2, || live(&[])).is_some(), "another caller");
        drop(first);
        assert!(quota.place("ann", 2, || live(&[0])).is_none(), "the job has taken the place");
        assert!(quota.place("ann", 2, || live(&[])).is_some(), "there was no job");
        drop(second);
        assert!(lock(&quota.taken).is_empty());
    }

    #[test]
    fn zero_is_no_limit() {
        let quota = Quota::new(0);
        let places: Vec<_> = (0..100).map(|w| quota.place("ann", w, BTreeSet::new)).collect();
        assert!(places.iter().all(Option::is_some));
    }
}
