//! The metrics of another process, in the Prometheus text format.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Response};

/// CPU time since the process' start, s.
pub use crate::telemetry::process::CPU;
/// Resident memory, bytes.
pub const MEMORY: &str = "process_resident_memory_bytes";

/// How long the metrics may take to be read.
const CALL: Duration = Duration::from_secs(5);

/// Where a process tells its metrics.
#[derive(Clone)]
pub struct Metrics {
    url: String,
    http: Client,
}

impl Metrics {
    /// The metrics at `url`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn at(url: impl Into<String>) -> anyhow::Result<Self> {
        let http = Client::builder().timeout(CALL).build().context("making the HTTP client")?;
        Ok(Self { url: url.into(), http })
    }

    /// The metrics as they are now.
    ///
    /// # Errors
    /// When they do not answer.
    pub async fn read(&self) -> anyhow::Result<Exposition> {
        let what = || format!("reading the metrics at {}", self.url);
        let answer = self.http.get(&self.url).send().await.and_then(Response::error_for_status);
        let text = answer.with_context(what)?.text().await.with_context(what)?;
        Ok(Exposition::parse(&text))
    }
}

/// All series at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition(Vec<Series>);

#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    labels: String,
    value: f64,
}

impl Exposition {
    /// Reads the text format; what is no series is left out.
    pub fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').replace('"', "");
            Some(Series { name: name.to_owned(), labels, value: value.parse().ok()? })
        });
        Self(series.collect())
    }

    /// Labels, such as `verb=create`, and value of each series of the metric `name`.
    pub fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter(move |series| series.name == name).map(|s| (s.labels.as_str(), s.value))
    }

    /// The sum of all series of the metric `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn sum(&self, name: &str) -> anyhow::Result<f64> {
        let found = self.series(name).map(|(_, value)| value).reduce(|a, b| a + b);
        found.with_context(|| format!("there is no metric {name}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_and_summed() {
        let text = "\
# HELP a_total A.
# TYPE a_total counter
a_total{reason=\"x\",kind=\"y\"} 10
a_total{reason=\"z\"} 21
a_total_other 7
nonsense
b 1.5
";
        let found = Exposition::parse(text);
        assert_eq!(
            found.series("a_total").collect::<Vec<_>>(),
            [("reason=x,kind=y", 10.0), ("reason=z", 21.0)]
        );
        assert_eq!((found.sum("a_total").unwrap(), found.sum("b").unwrap()), (31.0, 1.5));
        assert!(found.sum("nonsense").unwrap_err().to_string().contains("nonsense"));
    }
}
