//! What a run found, as aligned text and as JSON. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::stats::{Summary, summarize};

/// What a run found.
#[derive(Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The run in a sentence.
    pub title: String,
    /// RFC 3339.
    pub started_at: String,
    /// Versions and the machine.
    pub environment: BTreeMap<String, String>,
    /// What was measured.
    pub phases: Vec<Row>,
    /// What cluster and broker need for the bare thing.
    pub floor: Vec<Row>,
    /// Single numbers.
    pub facts: Vec<Fact>,
    /// What a reader must know to read the numbers.
    pub notes: Vec<String>,
    /// Jobs that were too slow or never got there, and other demands not met. Not empty: exit code 1.
    pub failures: Vec<Failure>,
}

/// One measured interval.
#[derive(Serialize, Clone, Debug)]
pub struct Row {
    /// From what to what.
    pub name: String,
    /// Its summary, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Summary>,
    /// Each sample, s, in the order of the jobs; none where there are too many to be kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<f64>,
}

impl Row {
    /// A row of `samples`, s.
    pub fn new(name: impl Into<String>, samples: Vec<f64>) -> Self {
        Self { name: name.into(), seconds: summarize(&samples), samples }
    }

    /// A row of which only the summary is known.
    pub fn of(name: impl Into<String>, seconds: Option<Summary>) -> Self {
        Self { name: name.into(), seconds, samples: Vec::new() }
    }
}

/// One number.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct Fact {
    /// What it is, with its unit.
    pub name: String,
    /// The number.
    pub value: f64,
}

/// A demand that was not met.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The job's name, or what else failed.
    pub job: String,
    /// CamelCase cause; a condition's reason where there is one.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
}

impl Failure {
    /// A failure of `job`.
    pub fn new(job: impl Into<String>, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { job: job.into(), reason: reason.into(), message: message.into() }
    }
}

impl Report {
    /// A report that starts now, with the environment that every run has.
    pub fn new(title: String) -> Self {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let environment = BTreeMap::from([
            ("focus".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("machine".to_owned(), format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
            ("cpus".to_owned(), cpus.to_string()),
        ]);
        let started_at = k8s_openapi::jiff::Timestamp::now().to_string();
        Self { title, started_at, environment, ..Self::default() }
    }

    /// Adds a number.
    pub fn fact(&mut self, name: impl Into<String>, value: f64) {
        self.facts.push(Fact { name: name.into(), value });
    }

    /// Makes a failure of a row whose 99th percentile is above `most`.
    pub fn limit_p99(&mut self, row: &Row, most: Option<Duration>) {
        let Some(most) = most else { return };
        let (most, Some(p99)) = (most.as_secs_f64() * 1e3, row.seconds.map(|s| s.p99 * 1e3)) else { return };
        if p99 > most {
            let message = format!("the 99th percentile is {p99:.1} ms, the limit {most:.1} ms");
            self.failures.push(Failure::new(&row.name, "TooSlow", message));
        }
    }

    /// The report as aligned plain text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        let environment: Vec<_> = self.environment.iter().map(|(k, v)| format!("{k} {v}")).collect();
        let _ = writeln!(text, "{}; {}", self.started_at, environment.join(", "));
        let rows = self.phases.iter().chain(&self.floor).map(|r| r.name.as_str());
        let width = rows.chain(self.facts.iter().map(|f| f.name.as_str())).map(|n| n.chars().count()).max();
        let width = width.unwrap_or(0).max(FLOOR_TITLE.len());
        write_rows(&mut text, "times in ms", &self.phases, width);
        write_rows(&mut text, FLOOR_TITLE, &self.floor, width);
        if !self.facts.is_empty() {
            text.push('\n');
        }
        for fact in &self.facts {
            let _ = writeln!(text, "{:<width$}  {:>9}", fact.name, number(fact.value));
        }
        for note in &self.notes {
            let _ = write!(text, "\nnote: {note}");
        }
        for failure in &self.failures {
            let _ = write!(text, "\nfailed: {}: {}: {}", failure.job, failure.reason, failure.message);
        }
        if !self.notes.is_empty() || !self.failures.is_empty() {
            text.push('\n');
        }
        text
    }
}

const FLOOR_TITLE: &str = "floor, measured in the same run, ms";

fn write_rows(text: &mut String, title: &str, rows: &[Row], width: usize) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(text, "\n{title:<width$}");
    for heading in ["min", "p50", "p90", "p99", "max"] {
        let _ = write!(text, "  {heading:>9}");
    }
    let _ = writeln!(text, "  {:>6}", "n");
    for row in rows {
        let _ = write!(text, "{:<width$}", row.name);
        let cells = row.seconds.map(|s| [s.min, s.p50, s.p90, s.p99, s.max]);
        for cell in cells.map_or([None; 5], |c| c.map(Some)) {
            let _ = write!(text, "  {:>9}", cell.map_or_else(|| "-".to_owned(), milliseconds));
        }
        let _ = writeln!(text, "  {:>6}", row.seconds.map_or(0, |s| s.n));
    }
}

/// Seconds as ms with one decimal.
fn milliseconds(seconds: f64) -> String {
    // The sum turns a rounded -0.0 into 0.0.
    format!("{:.1}", (seconds * 1e4).round() / 10.0 + 0.0)
}

/// Two decimals, none where there is nothing behind the point.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (seconds, expected) in [
            (0.0, "0.0"),
            (0.0012, "1.2"),
            (1.0, "1000.0"),
            (-0.00001, "0.0"),
            (-0.0012, "-1.2"),
            (31.25, "31250.0"),
        ] {
            assert_eq!(milliseconds(seconds), expected);
        }
        for (value, expected) in [(0.0, "0"), (4.0, "4"), (3.996, "4.00"), (70.123, "70.12")] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn tables() {
        let report = Report {
            title: "a run".to_owned(),
            started_at: "2030-01-01T00:00:00Z".to_owned(),
            environment: BTreeMap::from([("cpus".to_owned(), "2".to_owned())]),
            phases: vec![Row::new("configure answer", vec![0.002, 0.001]), Row::new("first line", vec![])],
            floor: vec![Row::new("queue declare", vec![0.0005])],
            facts: vec![Fact { name: "jobs/s".to_owned(), value: 70.5 }],
            notes: vec!["a note".to_owned()],
            failures: vec![Failure::new("18-3", "NoConsumer", "no consumer yet")],
        };
        let expected = "\
a run
2030-01-01T00:00:00Z; cpus 2

times in ms                                min        p50        p90        p99        max       n
configure answer                           1.0        1.0        2.0        2.0        2.0       2
first line                                   -          -          -          -          -       0

floor, measured in the same run, ms        min        p50        p90        p99        max       n
queue declare                              0.5        0.5        0.5        0.5        0.5       1

jobs/s                                   70.50

note: a note
failed: 18-3: NoConsumer: no consumer yet
";
        assert_eq!(report.to_text(), expected);
        let bare = Report { title: "t".to_owned(), started_at: "s".to_owned(), ..Report::default() };
        assert_eq!(bare.to_text(), "t\ns; \n");
    }

    #[test]
    fn a_limit_that_is_passed_is_a_failure() {
        let row = Row::new("x", vec![0.02; 100]);
        for (row, most, failures) in [
            (&row, None, 0),
            (&row, Some(20), 0),
            (&row, Some(19), 1),
            (&Row::new("none", vec![]), Some(1), 0),
        ] {
            let mut report = Report::default();
            report.limit_p99(row, most.map(Duration::from_millis));
            assert_eq!(report.failures.len(), failures, "{most:?}");
        }
    }

    #[test]
    fn json_keeps_the_samples() {
        let row = serde_json::to_value(Row::new("x", vec![0.25, 0.5])).unwrap();
        assert_eq!(row["samples"], serde_json::json!([0.25, 0.5]));
        assert_eq!(row["seconds"]["p50"], 0.25);
        assert_eq!(serde_json::to_value(Row::new("x", vec![])).unwrap().get("seconds"), None);
    }
}
