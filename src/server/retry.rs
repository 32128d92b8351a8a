//! Pauses between attempts.

use std::time::Duration;

use rand::RngExt;

/// Pauses that double from the first to the longest, each jittered by up to a fifth.
#[derive(Clone, Debug)]
pub struct Retry {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Retry {
    /// From `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Starts again with the first.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Starts again with `first`.
    pub fn reset_to(&mut self, first: Duration) {
        self.first = first;
        self.reset();
    }

    /// The next pause.
    pub fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause.mul_f64(rand::rng().random_range(0.8..=1.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut retry = Retry::new(Duration::from_millis(25), Duration::from_millis(100));
        for wanted in [25, 50, 100, 100] {
            let pause = retry.next().as_secs_f64() * 1000.0 / f64::from(wanted);
            assert!((0.79..=1.21).contains(&pause), "{wanted}");
        }
        retry.reset();
        assert!(retry.next() < Duration::from_millis(31));
    }
}
