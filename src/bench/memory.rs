//! Whether a process' memory is flat. Pure.

/// One look at the memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// When, s.
    pub at: f64,
    /// Resident memory, bytes.
    pub bytes: f64,
}

/// What became of the memory from the first look to the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// At the first look, bytes.
    pub first: f64,
    /// At the last look, bytes.
    pub last: f64,
    /// The largest, bytes.
    pub largest: f64,
    /// Slope of the line that fits all looks best (least squares), bytes per minute.
    pub per_minute: f64,
}

/// The trend of `looks`, in the order of time; None of fewer than 3, or when no time passed.
pub fn trend(looks: &[Look]) -> Option<Trend> {
    let (first, last) = (looks.first()?, looks.last()?);
    if looks.len() < 3 {
        return None;
    }
    let count = looks.len() as f64;
    let mean = |of: fn(&Look) -> f64| looks.iter().map(of).sum::<f64>() / count;
    let (middle, level) = (mean(|look| look.at), mean(|look| look.bytes));
    let spread: f64 = looks.iter().map(|look| (look.at - middle).powi(2)).sum();
    let together: f64 = looks.iter().map(|look| (look.at - middle) * (look.bytes - level)).sum();
    (spread > 0.0).then(|| Trend {
        first: first.bytes,
        last: last.bytes,
        largest: looks.iter().map(|look| look.bytes).fold(0.0, f64::max),
        per_minute: together / spread * 60.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes() {
        for (bytes, expected) in [
            (vec![], None),
            (vec![5.0, 5.0], None),
            (vec![5.0, 5.0, 5.0, 5.0], Some((5.0, 5.0, 0.0))),
            (vec![0.0, 2.0, 4.0, 6.0], Some((6.0, 6.0, 60.0))),
            (vec![9.0, 6.0, 3.0, 0.0], Some((0.0, 9.0, -90.0))),
            // One high look among level ones moves the line less than it moves the ends.
            (vec![1.0, 1.0, 7.0, 1.0, 1.0], Some((1.0, 7.0, 0.0))),
        ] {
            let looks: Vec<Look> = bytes
                .iter()
                .enumerate()
                .map(|(i, bytes)| Look { at: 2.0 * i as f64, bytes: *bytes })
                .collect();
            let got = trend(&looks).map(|trend| (trend.last, trend.largest, trend.per_minute));
            assert_eq!(got, expected, "{bytes:?}");
        }
        let at_once = [Look { at: 1.0, bytes: 1.0 }; 3];
        assert_eq!(trend(&at_once), None);
    }
}
