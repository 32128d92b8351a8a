//! Times too many to be kept one by one: counted in buckets whose width is 0.1 % of the time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::probe::stats::Summary;

/// The longest time that is told from a longer one, µs.
const LONGEST: u64 = 120_000_000;
/// Significant digits.
const DIGITS: u8 = 3;
/// Parts, so that those who count at once seldom meet.
const PARTS: usize = 8;

/// Times from many tasks.
pub struct Spread {
    parts: Vec<Mutex<Histogram<u64>>>,
}

impl Spread {
    /// No times yet.
    ///
    /// # Errors
    /// Never in practice: the bounds are written here.
    pub fn new() -> anyhow::Result<Self> {
        let part = || Ok(Mutex::new(Histogram::new_with_bounds(1, LONGEST, DIGITS)?));
        Ok(Self { parts: (0..PARTS).map(|_| part()).collect::<anyhow::Result<_>>()? })
    }

    /// Counts `time`, seen by task number `task`.
    pub fn add(&self, task: usize, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let part = &self.parts[task % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    /// All times together, s; None when there are none.
    pub fn summary(&self) -> Option<Summary> {
        let mut parts = self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = parts.next()?.clone();
        for part in parts {
            // They have the same bounds.
            all.add(&*part).ok()?;
        }
        let seconds = |micros: u64| micros as f64 / 1e6;
        let at = |quantile: f64| seconds(all.value_at_quantile(quantile).min(all.max()));
        (!all.is_empty()).then(|| Summary {
            n: usize::try_from(all.len()).unwrap_or(usize::MAX),
            min: seconds(all.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: seconds(all.max()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_tasks_are_told_within_a_thousandth() {
        let spread = Spread::new().unwrap();
        assert_eq!(spread.summary(), None);
        for millis in 1..=1000 {
            spread.add(millis, Duration::from_millis(millis as u64));
        }
        let got = spread.summary().unwrap();
        assert_eq!(got.n, 1000);
        for (got, expected) in
            [(got.min, 0.001), (got.p50, 0.5), (got.p90, 0.9), (got.p99, 0.99), (got.max, 1.0)]
        {
            assert!((got / expected - 1.0).abs() < 2e-3, "{got} {expected}");
        }
        spread.add(0, Duration::from_secs(9999));
        assert!(spread.summary().unwrap().max >= 120.0);
    }
}
