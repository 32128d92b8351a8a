//! Windows: the first half of a job id. Each live job has one to itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Gives out windows `0..count`.
#[derive(Clone, Debug)]
pub struct Windows {
    count: u16,
    reserved: Arc<Mutex<BTreeSet<u16>>>,
}

/// A window that is being given to a job; dropping it ends the reservation.
#[derive(Debug)]
pub struct Reservation {
    window: u16,
    reserved: Arc<Mutex<BTreeSet<u16>>>,
}

impl Windows {
    /// Windows `0..count`.
    pub fn new(count: u16) -> Self {
        Self { count, reserved: Arc::default() }
    }

    /// The lowest window that neither a live job nor a reservation has, or None. `live` is asked while no other
    /// reservation can be made, so that a job which was entered before its reservation ended is seen.
    pub fn reserve(&self, live: impl FnOnce() -> BTreeSet<u16>) -> Option<Reservation> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let live = live();
        let window = (0..self.count).find(|w| !live.contains(w) && !reserved.contains(w))?;
        reserved.insert(window);
        Some(Reservation { window, reserved: Arc::clone(&self.reserved) })
    }
}

impl Windows {
    /// How many windows a reservation or one of `live`, the windows of the live jobs, has.
    pub fn taken(&self, mut live: BTreeSet<u16>) -> usize {
        live.extend(self.reserved.lock().unwrap_or_else(PoisonError::into_inner).iter());
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
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.window);
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
    fn the_lowest_free_window_is_given() {
        let windows = Windows::new(3);
        for (live, wanted) in [
            (vec![], Some(0)),
            (vec![0], Some(1)),
            (vec![1], Some(0)),
            (vec![0, 1], Some(2)),
            (vec![0, 1, 2], None),
            (vec![7, 9], Some(0)),
        ] {
            let given = windows.reserve(|| live.iter().copied().collect());
            assert_eq!(given.as_ref().map(Reservation::window), wanted, "{live:?}");
        }
    }

    #[test]
    fn a_reservation_lasts_until_it_is_dropped() {
        let windows = Windows::new(2);
        let first = windows.reserve(BTreeSet::new).expect("free");
        let second = windows.reserve(BTreeSet::new).expect("free");
        assert_eq!((first.window(), second.window()), (0, 1));
        assert!(windows.reserve(BTreeSet::new).is_none());
        assert_eq!(windows.taken(BTreeSet::from([0, 9])), 2, "a job in the making has its window too");
        drop(first);
        assert_eq!((windows.taken(BTreeSet::new()), windows.taken(BTreeSet::from([0]))), (1, 2));
        assert_eq!(windows.reserve(BTreeSet::new).map(|r| r.window()), Some(0));
    }

    #[test]
    fn no_two_at_once_get_the_same() {
        let windows = Windows::new(30);
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..40).map(|_| scope.spawn(|| windows.reserve(BTreeSet::new))).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).collect()
        });
        let given: BTreeSet<_> = all.iter().flatten().map(Reservation::window).collect();
        assert_eq!((given.len(), all.iter().flatten().count()), (30, 30));
    }
}
