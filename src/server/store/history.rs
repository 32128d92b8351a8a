//! `GET /history`: what may be asked of the records of past and present jobs. Pure.

use std::time::Duration;

/// Most records of one answer.
const MOST: i64 = 1000;
/// Records of an answer, unless told otherwise.
const LIMIT: i64 = 50;
/// How far an answer goes back, unless told otherwise.
const SINCE: Duration = Duration::from_secs(24 * 3600);
/// How far an answer may go back.
const LONGEST_SINCE: Duration = Duration::from_secs(3660 * 24 * 3600);

/// The parameters as they came.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Parameters {
    /// How far to go back, such as `24h`, `90m`, `7d` or `3600` (s).
    pub since: Option<String>,
    /// `recent` or `slowest`.
    pub sort: Option<String>,
    /// Most records.
    pub limit: Option<String>,
}

/// The order of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The newest job first.
    Recent,
    /// The job whose consumer took longest first; jobs that never had one are left out.
    Slowest,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// How far to go back.
    pub since: Duration,
    /// The order.
    pub sort: Sort,
    /// Most records.
    pub limit: i64,
}

impl Query {
    /// What `parameters` ask for.
    ///
    /// # Errors
    /// A sentence for a person.
    pub fn of(parameters: &Parameters) -> Result<Self, String> {
        let given = |text: &'_ Option<String>| {
            text.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned)
        };
        let since = given(&parameters.since).map_or(Ok(SINCE), |text| since(&text))?;
        let sort = match given(&parameters.sort).as_deref() {
            None | Some("recent") => Sort::Recent,
            Some("slowest") => Sort::Slowest,
            Some(other) => return Err(format!("sort must be recent or slowest, got {other:?}")),
        };
        let limit = given(&parameters.limit).map_or(Ok(LIMIT), |text| limit(&text))?;
        Ok(Self { since, sort, limit })
    }
}

fn since(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(24 * 3600),
        _ => None,
    };
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .map(Duration::from_secs)
        .filter(|since| (Duration::from_secs(1)..=LONGEST_SINCE).contains(since))
        .ok_or_else(|| {
            format!("since must be a number of s, m, h or d, such as 24h, at most 3660d, got {text:?}")
        })
}

fn limit(text: &str) -> Result<i64, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| format!("limit must be an integer from 1 to {MOST}, got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(since: &str, sort: &str, limit: &str) -> Result<Query, String> {
        let given = |text: &str| Some(text.to_owned());
        Query::of(&Parameters { since: given(since), sort: given(sort), limit: given(limit) })
    }

    #[test]
    fn parameters() {
        for (since, sort, limit, wanted) in [
            ("", "", "", Some((86_400, Sort::Recent, 50))),
            ("90m", "slowest", "1", Some((5400, Sort::Slowest, 1))),
            ("7d", "recent", "1000", Some((604_800, Sort::Recent, 1000))),
            ("3600", "", "", Some((3600, Sort::Recent, 50))),
            ("0", "", "", None),
            ("-1h", "", "", None),
            ("h", "", "", None),
            ("1w", "", "", None),
            ("1.5h", "", "", None),
            ("99999999999999999999d", "", "", None),
            ("1\u{fc}", "", "", None),
            ("", "fastest", "", None),
            ("", "", "0", None),
            ("", "", "1001", None),
            ("", "", "ten", None),
        ] {
            let asked = query(since, sort, limit).ok().map(|q| (q.since.as_secs(), q.sort, q.limit));
            assert_eq!(asked, wanted, "{since} {sort} {limit}");
        }
        assert!(Query::of(&Parameters::default()).is_ok());
    }
}
