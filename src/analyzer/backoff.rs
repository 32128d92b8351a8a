//! Growing, jittered waits between attempts.

use std::time::Duration;

/// Waits that double from `first` to `most`, each shortened by up to half at random so that many analyzers
/// which lost the same broker do not come back at the same moment.
pub struct Backoff {
    first: Duration,
    most: Duration,
    current: Duration,
}

impl Backoff {
    /// Starts at `first`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, current: first }
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.current.mul_f64(rand::random_range(0.5..=1.0));
        self.current = (self.current * 2).min(self.most);
        wait
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.current = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_cap() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(5), ms(250));
        for full in [5, 10, 20, 40, 80, 160, 250, 250] {
            let wait = backoff.next_wait();
            assert!(wait >= ms(full) / 2 && wait <= ms(full), "{wait:?} of {full} ms");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= ms(5));
    }
}
