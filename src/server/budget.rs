//! The memory that the lines of all jobs share. Pure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// Of the process's memory, the part that lines may take, %. The rest is for what is on the way, for readers of streams
/// that are behind, and for answers.
const PART_OF_LINES: usize = 60;

/// What the lines of all jobs may take.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    used: IntGauge,
    shares: AtomicUsize,
}

/// The part of one job. It goes back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// Of a process that may take `memory_mib` MiB; `used` tells how many bytes of lines there are.
    pub fn new(memory_mib: u32, used: IntGauge) -> Self {
        let memory = usize::try_from(memory_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        Self { most: memory / 100 * PART_OF_LINES, used, shares: AtomicUsize::new(0) }
    }

    /// The part of one more job.
    pub fn share(self: &Arc<Self>) -> Share {
        self.shares.fetch_add(1, Ordering::Relaxed);
        Share { budget: Arc::clone(self), bytes: 0 }
    }

    fn count(&self, change: i64) {
        self.used.add(change);
    }

    fn is_exceeded(&self) -> bool {
        usize::try_from(self.used.get()).unwrap_or(0) > self.most
    }
}

impl Share {
    /// Bytes that this job has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this job must let go of some: all have more than they may, and this one more than an equal part of it.
    pub fn is_too_large(&self) -> bool {
        let jobs = self.budget.shares.load(Ordering::Relaxed).max(1);
        self.budget.is_exceeded() && self.bytes > self.budget.most / jobs
    }

    /// Takes `bytes` more.
    pub fn take(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.count(signed(bytes));
    }

    /// Gives `bytes` back.
    pub fn give(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.count(-signed(bytes));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give(self.bytes);
        self.budget.shares.fetch_sub(1, Ordering::Relaxed);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Room for `most` bytes.
    pub fn budget(most: usize) -> Arc<Budget> {
        let used = IntGauge::new("used", "Used.").expect("a gauge");
        Arc::new(Budget { most, ..Budget::new(0, used) })
    }

    #[test]
    fn lines_have_their_part_of_the_memory() {
        let used = || IntGauge::new("used", "Used.").expect("a gauge");
        assert_eq!(Budget::new(100, used()).most, 60 << 20);
        assert!(Budget::new(u32::MAX, used()).most > 1 << 50);
    }

    #[test]
    fn who_has_more_than_an_equal_part_lets_go_when_all_have_too_much() {
        let budget = budget(100);
        let (mut large, mut small) = (budget.share(), budget.share());
        large.take(80);
        assert!(!large.is_too_large(), "there is room");
        small.take(30);
        assert!(large.is_too_large() && !small.is_too_large());
        large.give(10);
        assert!(!large.is_too_large());
        small.take(30);
        assert!(large.is_too_large() && small.is_too_large());
        drop(small);
        assert_eq!((budget.used.get(), large.bytes()), (70, 70));
        assert!(!large.is_too_large());
    }
}
