//! How long a consumer that cannot be waits before it looks at its queue again. Pure.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::broker::consume::BrokerError;

/// First and longest pause while the queue is missing and nobody will tell when it comes: looking is all there is.
const UNTOLD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// The same when the broker tells of new queues and the operator of those that are ready: looking is but the safety net,
/// and each look at a missing queue is an error in the broker's log. Also after a refusal, which only people can mend.
const RARE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// While another has the queue: nobody tells when it goes, and a look costs little.
const TAKEN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// The pauses, one row for each cause.
#[derive(Debug)]
pub struct Pauses {
    untold: Backoff,
    rare: Backoff,
    taken: Backoff,
}

impl Pauses {
    /// From the first on.
    pub fn new() -> Self {
        let row = |(first, longest)| Backoff::new(first, longest);
        Self { untold: row(UNTOLD), rare: row(RARE), taken: row(TAKEN) }
    }

    /// The next after `error`; `told`: the broker tells of new queues.
    pub fn next(&mut self, error: &BrokerError, told: bool) -> Duration {
        match error {
            BrokerError::Taken => self.taken.pause(),
            BrokerError::NoQueue if !told => self.untold.pause(),
            BrokerError::Lost | BrokerError::Unseen => self.untold.pause(),
            _ => self.rare.pause(),
        }
    }

    /// Starts over.
    pub fn reset(&mut self) {
        for row in [&mut self.untold, &mut self.rare, &mut self.taken] {
            row.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_will_be_told_looks_rarely() {
        let ms = Duration::from_millis;
        for (error, told, first, longest) in [
            (BrokerError::NoQueue, true, ms(500), ms(5000)),
            (BrokerError::NoQueue, false, ms(5), ms(1000)),
            (BrokerError::Taken, true, ms(5), ms(250)),
            (BrokerError::Taken, false, ms(5), ms(250)),
            (BrokerError::Unseen, true, ms(5), ms(1000)),
            (BrokerError::Timeout("subscribing"), false, ms(500), ms(5000)),
        ] {
            let mut pauses = Pauses::new();
            let is = pauses.next(&error, told);
            assert!((first / 2..=first).contains(&is), "{error} {told}: {is:?}");
            let last = (0..20).map(|_| pauses.next(&error, told)).last().unwrap_or_default();
            assert!((longest / 2..=longest).contains(&last), "{error} {told}: {last:?}");
            pauses.reset();
            assert!(pauses.next(&error, told) <= first, "{error} {told}");
        }
    }
}
