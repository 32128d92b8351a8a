//! Growing, jittered pauses between attempts.

use std::time::Duration;

/// Pauses that double from `first` to `longest`, each shortened by up to half at random, so that many who lost
/// the same thing do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to pause now.
    pub fn pause(&mut self) -> Duration {
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(self.longest);
        pause
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between half of `pause` and the whole.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(5), ms(250));
        for full in [5, 10, 20, 40, 80, 160, 250, 250] {
            let pause = backoff.pause();
            assert!(pause >= ms(full) / 2 && pause <= ms(full), "{pause:?} of {full} ms");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(5));
    }
}
