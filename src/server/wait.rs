//! The parameters `wait` and `row_count`. Pure.

use std::time::Duration;

/// Longest `wait`.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Most rows that can be asked for.
const MAX_ROWS: usize = 100_000;

/// `wait=30s`, `wait=500ms` or `wait=30` (seconds; fractions too), at most 60 s. Absent or empty: no wait.
///
/// # Errors
/// A sentence for a person.
pub fn parse_wait(text: Option<&str>) -> Result<Duration, String> {
    let Some(text) = text.map(str::trim).filter(|t| !t.is_empty()) else { return Ok(Duration::ZERO) };
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1e-3),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 1.0),
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    number
        .parse::<f64>()
        .ok()
        .filter(|_| digits)
        .and_then(|n| Duration::try_from_secs_f64(n * unit).ok())
        .filter(|wait| *wait <= MAX_WAIT)
        .ok_or_else(|| format!("wait must be from 0 to 60 s, such as 30s, 500ms or 30, got {text:?}"))
}

/// How many rows are asked for.
///
/// # Errors
/// A sentence for a person.
pub fn parse_row_count(text: &str) -> Result<usize, String> {
    text.parse::<usize>()
        .ok()
        .filter(|rows| (1..=MAX_ROWS).contains(rows))
        .ok_or_else(|| format!("row_count must be an integer from 1 to {MAX_ROWS}, got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits() {
        for (text, millis) in [
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            ("0", Some(0)),
            ("500ms", Some(500)),
            ("1.5s", Some(1500)),
            ("60", Some(60_000)),
            ("60001ms", None),
            ("61", None),
            ("-1", None),
            ("1m", None),
            ("s", None),
            ("inf", None),
            ("NaN", None),
            ("1e1", None),
            ("soon", None),
        ] {
            assert_eq!(parse_wait(Some(text)).ok().map(|w| w.as_millis()), millis, "{text}");
        }
        assert_eq!((parse_wait(None), parse_wait(Some(""))), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
    }

    #[test]
    fn row_counts() {
        for (text, rows) in [
            ("1", Some(1)),
            ("100000", Some(100_000)),
            ("100001", None),
            ("0", None),
            ("-3", None),
            ("2.5", None),
            ("ten", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_row_count(text).ok(), rows, "{text}");
        }
    }
}
