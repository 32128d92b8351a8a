//! What the operator says of its own costs, from its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::probe::exposition::{CPU, Exposition, MEMORY, Metrics};
use crate::probe::report::{Failure, Report};

const WRITES: &str = "focus_api_writes_total";
/// How long the operator must write nothing to count as settled, and how long that is awaited.
const SETTLED: Duration = Duration::from_secs(2);
const SETTLING: Duration = Duration::from_secs(20);

/// The metrics at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// CPU time since the operator's start, s.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub bytes: f64,
    /// API writes since its start, by labels as they are printed.
    pub writes: BTreeMap<String, f64>,
}

impl Sample {
    /// All API writes.
    pub fn writes_total(&self) -> f64 {
        self.writes.values().sum()
    }
}

/// The operator's metrics, sampled each half second for the largest memory; ends when dropped.
pub struct Operator {
    metrics: Metrics,
    peak: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Operator {
    /// The operator whose metrics are at `url`; None for `none`.
    ///
    /// # Errors
    /// When they do not answer.
    pub async fn find(url: &str) -> anyhow::Result<Option<Self>> {
        if url == "none" {
            return Ok(None);
        }
        let (metrics, peak) = (Metrics::at(url)?, Arc::new(AtomicU64::new(0)));
        scrape(&metrics).await.context("is the operator running? --operator-metrics names its metrics")?;
        let task = tokio::spawn(sample_memory(metrics.clone(), peak.clone())).abort_handle();
        Ok(Some(Self { metrics, peak, task }))
    }

    /// The metrics now.
    ///
    /// # Errors
    /// When they do not answer.
    pub async fn sample(&self) -> anyhow::Result<Sample> {
        scrape(&self.metrics).await
    }

    /// The metrics after the operator has written nothing for 2 s, or after 20 s.
    ///
    /// # Errors
    /// When they do not answer.
    pub async fn settled(&self, stop: &CancellationToken) -> anyhow::Result<Sample> {
        let (start, mut since) = (Instant::now(), Instant::now());
        let mut last = self.sample().await?;
        while since.elapsed() < SETTLED && start.elapsed() < SETTLING && !stop.is_cancelled() {
            sleep(Duration::from_millis(250)).await;
            let now = self.sample().await?;
            if now.writes != last.writes {
                since = Instant::now();
                last = now;
            }
        }
        self.sample().await
    }

    /// The largest resident memory seen, bytes.
    pub fn peak_bytes(&self) -> f64 {
        self.peak.load(Ordering::Relaxed) as f64
    }
}

async fn sample_memory(metrics: Metrics, peak: Arc<AtomicU64>) {
    let mut ticks = interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        if let Ok(sample) = scrape(&metrics).await {
            peak.fetch_max(sample.bytes as u64, Ordering::Relaxed);
        }
    }
}

/// The metrics of an operator that is measured.
///
/// # Errors
/// When they do not answer.
pub async fn read(operator: &Option<Operator>) -> anyhow::Result<Option<Sample>> {
    match operator {
        Some(operator) => operator.sample().await.map(Some),
        None => Ok(None),
    }
}

async fn scrape(metrics: &Metrics) -> anyhow::Result<Sample> {
    sample(&metrics.read().await?)
}

/// The three metrics. An operator that has not yet written shows no writes.
fn sample(metrics: &Exposition) -> anyhow::Result<Sample> {
    let writes = metrics.series(WRITES).map(|(labels, value)| (labels.to_owned(), value)).collect();
    Ok(Sample { cpu_seconds: metrics.sum(CPU)?, bytes: metrics.sum(MEMORY)?, writes })
}

/// What was written between two samples, such as `resource=pods,verb=create 3`.
pub fn differences(before: &Sample, after: &Sample) -> String {
    let changed = after.writes.iter().filter_map(|(labels, count)| {
        let more = count - before.writes.get(labels).unwrap_or(&0.0);
        (more > 0.0).then(|| format!("{labels} {more}"))
    });
    changed.collect::<Vec<_>>().join("; ")
}

/// Enters what `jobs` jobs cost between two samples.
pub fn enter_costs(before: &Sample, after: &Sample, peak: f64, jobs: usize, report: &mut Report) {
    let per_job = |value: f64| if jobs == 0 { 0.0 } else { value / jobs as f64 };
    if after.writes.is_empty() {
        let message = format!("the operator's metrics have no {WRITES} after {jobs} jobs");
        report.failures.push(Failure::new("(operator)", "NoWritesMetric", message));
    }
    let cpu = after.cpu_seconds - before.cpu_seconds;
    report.fact("operator: CPU s", cpu);
    report.fact("operator: CPU ms per job", per_job(cpu) * 1e3);
    report.fact("operator: largest resident memory, MiB", peak.max(after.bytes) / 1024.0 / 1024.0);
    report.fact("operator: API writes per job", per_job(after.writes_total() - before.writes_total()));
    for (labels, count) in &after.writes {
        let more = count - before.writes.get(labels).unwrap_or(&0.0);
        if more > 0.0 {
            report.fact(format!("operator: API writes per job, {labels}"), per_job(more));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Sample> {
        sample(&Exposition::parse(text))
    }

    const TEXT: &str = "\
# HELP focus_api_writes_total Writes.
# TYPE focus_api_writes_total counter
focus_api_writes_total{resource=\"pods\",verb=\"create\"} 10
focus_api_writes_total{resource=\"focusjobs/status\",verb=\"patch\"} 21
focus_api_writes_total_other 7
process_cpu_seconds_total 1.5
process_resident_memory_bytes 1048576
";

    #[test]
    fn metrics_are_parsed() {
        let sample = parse(TEXT).unwrap();
        assert_eq!((sample.cpu_seconds, sample.bytes, sample.writes_total()), (1.5, 1_048_576.0, 31.0));
        for missing in [CPU, MEMORY] {
            let without: Vec<_> = TEXT.lines().filter(|l| !l.starts_with(missing)).collect();
            assert!(parse(&without.join("\n")).unwrap_err().to_string().contains(missing));
        }
    }

    #[test]
    fn costs_are_differences() {
        let before = parse(TEXT).unwrap();
        let mut after = before.clone();
        after.cpu_seconds += 2.0;
        after.writes.insert("resource=pods,verb=create".to_owned(), 20.0);
        assert_eq!(differences(&before, &after), "resource=pods,verb=create 10");
        let mut report = Report::default();
        enter_costs(&before, &after, 2_097_152.0, 10, &mut report);
        let facts: Vec<_> = report.facts.iter().map(|f| f.value).collect();
        assert_eq!(facts, [2.0, 200.0, 2.0, 1.0, 1.0]);
        assert!(report.failures.is_empty());
        enter_costs(&Sample::default(), &Sample::default(), 0.0, 1, &mut report);
        assert_eq!(report.failures[0].reason, "NoWritesMetric");
    }
}
