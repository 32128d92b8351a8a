//! When things are due that come at an even rate, whatever becomes of those before. Pure, but for the waiting.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// An even row of arrivals.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    start: Instant,
    rate: f64,
}

impl Arrivals {
    /// Arrivals at `rate` per second, the first at `start`.
    pub fn new(start: Instant, rate: f64) -> Self {
        Self { start, rate }
    }

    /// When arrival `index`, counted from 0, is due.
    pub fn due(&self, index: u64) -> Instant {
        self.start + Duration::from_secs_f64(index as f64 / self.rate)
    }

    /// Waits until arrival `index` is due, if it is not yet, and gives that time.
    pub async fn wait(&self, index: u64) -> Instant {
        let due = self.due(index);
        sleep_until(due).await;
        due
    }
}

/// How many arrivals at `rate` per second there are in `duration`; at least one.
pub fn count(rate: f64, duration: Duration) -> u64 {
    ((rate * duration.as_secs_f64()).round() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_even_and_do_not_drift() {
        let start = Instant::now();
        for (rate, index, seconds) in
            [(50.0, 0, 0.0), (50.0, 1, 0.02), (50.0, 1500, 30.0), (3.0, 9_000_000, 3e6), (0.5, 1, 2.0)]
        {
            let due = Arrivals::new(start, rate).due(index) - start;
            assert!((due.as_secs_f64() - seconds).abs() < 1e-6, "{rate} {index}: {due:?}");
        }
    }

    #[tokio::test]
    async fn a_late_caller_does_not_move_what_follows() {
        let start = Instant::now() - Duration::from_secs(60);
        let arrivals = Arrivals::new(start, 10.0);
        for index in [0, 1, 2, 600] {
            assert_eq!(arrivals.wait(index).await, arrivals.due(index));
            assert!(Instant::now() >= arrivals.due(index));
        }
    }

    #[test]
    fn counts() {
        for (rate, seconds, expected) in [(50.0, 30.0, 1500), (100.0, 0.2, 20), (1.0, 0.1, 1), (3.0, 1.5, 5)]
        {
            assert_eq!(count(rate, Duration::from_secs_f64(seconds)), expected);
        }
    }
}
