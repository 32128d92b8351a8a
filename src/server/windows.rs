//! Windows: the first half of a job id. Each live job has one to itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Gives out windows `0..count`, one after the other: one that has just become free is given last. Elsewhere it may
/// still be held, by a database that learns of the end a moment later or by another replica, and each such window
/// costs a request one more attempt.
#[derive(Clone, Debug)]
pub struct Windows {
    count: u16,
    reserved: Reserved,
}

type Reserved = Arc<Mutex<State>>;

#[derive(Debug)]
struct State {
    reserved: BTreeSet<u16>,
    /// The window after the last that was given.
    next: u16,
}

/// A window that is being given to a job; dropping it ends the reservation.
#[derive(Debug)]
pub struct Reservation {
    window: u16,
    reserved: Reserved,
}

impl Windows {
    /// Windows `0..count`, beginning with `first`: replicas that begin with different ones meet less often.
    pub fn new(count: u16, first: u16) -> Self {
        let state = State { reserved: BTreeSet::new(), next: first % count.max(1) };
        Self { count, reserved: Arc::new(Mutex::new(state)) }
    }

    /// The next window that neither a live job nor a reservation has, or None. `live` is asked while no other
    /// reservation can be made, so that a job which was entered before its reservation ended is seen.
    pub fn reserve(&self, live: impl FnOnce() -> BTreeSet<u16>) -> Option<Reservation> {
        let mut state = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let live = live();
        let mut row = (state.next..self.count).chain(0..state.next);
        let window = row.find(|w| !live.contains(w) && !state.reserved.contains(w))?;
        state.reserved.insert(window);
        state.next = (window + 1) % self.count;
        Some(Reservation { window, reserved: Arc::clone(&self.reserved) })
    }
}

impl Windows {
    /// How many windows a reservation or one of `live`, the windows of the live jobs, has.
    pub fn taken(&self, mut live: BTreeSet<u16>) -> usize {
        live.extend(&self.reserved.lock().unwrap_or_else(PoisonError::into_inner).reserved);
        live.range(..self.count).count()
    }
}

impl Reservation {
    /// The window.
    pub fn window(&self) -> u16 {
        self.window
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).reserved.remove(&self.window);
    }
}

/// The name of the job in `window` that was asked for at `unique` (ms since the Unix epoch).
pub fn job_id(window: u16, unique: i64) -> String {
    format!("{window}-{unique}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_given_in_turn() {
        for (first, live, wanted) in [
            (0, vec![], vec![0, 1, 2, 0]),
            (2, vec![], vec![2, 0, 1, 2]),
            (5, vec![], vec![2, 0, 1, 2]),
            (0, vec![1], vec![0, 2, 0, 2]),
            (0, vec![0, 1], vec![2, 2, 2]),
            (1, vec![0, 1, 2], vec![]),
            (0, vec![7, 9], vec![0, 1, 2, 0]),
        ] {
            let windows = Windows::new(3, first);
            let give = || windows.reserve(|| live.iter().copied().collect()).map(|given| given.window());
            let given: Vec<u16> = std::iter::from_fn(give).take(wanted.len().max(1)).collect();
            assert_eq!(given, wanted, "{first} {live:?}");
        }
    }

    #[test]
    fn a_reservation_lasts_until_it_is_dropped() {
        let windows = Windows::new(2, 0);
        let first = windows.reserve(BTreeSet::new).expect("free");
        let second = windows.reserve(BTreeSet::new).expect("free");
        assert_eq!((first.window(), second.window()), (0, 1));
        assert!(windows.reserve(BTreeSet::new).is_none());
        assert_eq!(windows.taken(BTreeSet::from([0, 9])), 2, "a job in the making has its window too");
        drop(first);
        assert_eq!((windows.taken(BTreeSet::new()), windows.taken(BTreeSet::from([0]))), (1, 2));
        assert_eq!(windows.reserve(BTreeSet::new).map(|r| r.window()), Some(0), "the only free one");
    }

    #[test]
    fn no_two_at_once_get_the_same() {
        let windows = Windows::new(30, 29);
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..40).map(|_| scope.spawn(|| windows.reserve(BTreeSet::new))).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).collect()
        });
        let given: BTreeSet<_> = all.iter().flatten().map(Reservation::window).collect();
        assert_eq!((given.len(), all.iter().flatten().count()), (30, 30));
    }
}
