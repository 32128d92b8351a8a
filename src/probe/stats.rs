//! Percentiles. Pure.

use serde::Serialize;
use tokio::time::Instant;

/// What a set of samples looks like, in the samples' unit.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many samples.
    pub n: usize,
    /// The smallest.
    pub min: f64,
    /// Half of the samples are not above it.
    pub p50: f64,
    /// 90 % of the samples are not above it.
    pub p90: f64,
    /// 99 % of the samples are not above it.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// The summary of `samples`, in any order; None when there are none.
///
/// Percentiles are by nearest rank: the p-th is the sample of rank `ceil(p / 100 * n)`, counted from 1 in
/// ascending order. It is always one of the samples, so the 99th of fewer than 100 samples is the largest.
pub fn summarize(samples: &[f64]) -> Option<Summary> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Summary {
        n: sorted.len(),
        min: *sorted.first()?,
        p50: nearest_rank(&sorted, 50)?,
        p90: nearest_rank(&sorted, 90)?,
        p99: nearest_rank(&sorted, 99)?,
        max: *sorted.last()?,
    })
}

/// The `percent`-th percentile of ascending samples, by nearest rank.
fn nearest_rank(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (percent * sorted.len()).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Seconds from `from` to `to`; negative when `to` was first, as news that come by different ways may be.
pub fn between(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(later) => later.as_secs_f64(),
        None => -(from - to).as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_may_be_negative() {
        let now = Instant::now();
        let later = now + std::time::Duration::from_millis(250);
        for (from, to, expected) in [(now, later, 0.25), (later, now, -0.25), (now, now, 0.0)] {
            assert_eq!(between(from, to), expected);
        }
    }

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(summarize(&[]), None);
    }

    #[test]
    fn summaries() {
        let up_to = |n: u32| (1..=n).rev().map(f64::from).collect::<Vec<_>>();
        for (samples, expected) in [
            (vec![7.0], [7.0, 7.0, 7.0, 7.0, 7.0]),
            (vec![2.0, 1.0], [1.0, 1.0, 2.0, 2.0, 2.0]),
            (vec![3.0, 1.0, 2.0], [1.0, 2.0, 3.0, 3.0, 3.0]),
            (vec![5.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0, 5.0, 5.0]),
            (up_to(10), [1.0, 5.0, 9.0, 10.0, 10.0]),
            (up_to(20), [1.0, 10.0, 18.0, 20.0, 20.0]),
            (up_to(100), [1.0, 50.0, 90.0, 99.0, 100.0]),
            (up_to(101), [1.0, 51.0, 91.0, 100.0, 101.0]),
            (up_to(1000), [1.0, 500.0, 900.0, 990.0, 1000.0]),
            (vec![-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0, 1.0, 1.0]),
        ] {
            let got = summarize(&samples).map(|s| [s.min, s.p50, s.p90, s.p99, s.max]);
            assert_eq!(got, Some(expected), "{samples:?}");
            assert_eq!(summarize(&samples).map(|s| s.n), Some(samples.len()));
        }
    }
}
