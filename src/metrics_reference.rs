//! `focus metrics`: the reference of all metrics, made of the registries themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Context;
use kube::runtime::reflector;
use prometheus::Registry;
use prometheus::proto::{MetricFamily, MetricType};

use crate::api::FocusJob;
use crate::{analyzer, operator, server};

/// The reference as Markdown: a table for each role.
///
/// # Errors
/// When a registry cannot be made.
pub fn markdown() -> anyhow::Result<String> {
    let roles = [
        ("Operator", operator_registry().context("the operator's metrics")?),
        ("Focus Server", server_registry().context("the server's metrics")?),
        ("Analyzer", analyzer::metrics::Metrics::new().context("the analyzer's metrics")?.1),
    ];
    let sections = roles.iter().map(|(role, registry)| section(role, &registry.gather()));
    Ok(sections.collect::<Vec<_>>().join("\n"))
}

fn operator_registry() -> prometheus::Result<Registry> {
    let metrics = operator::metrics::Metrics::new()?;
    let (no_jobs, _) = reflector::store::<FocusJob>();
    metrics.watch_jobs(no_jobs, operator::queue::Queue::default())?;
    Ok(metrics.registry)
}

fn server_registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    server::describe(&registry)?;
    Ok(registry)
}

fn section(role: &str, families: &[MetricFamily]) -> String {
    let mut text =
        format!("### {role}\n\n| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n");
    for family in families {
        let (kind, labels, unit) = (kind(family), labels(family), unit(family.name()));
        let _ = writeln!(text, "| `{}` | {kind} | {labels} | {unit} | {} |", family.name(), family.help());
    }
    text + &buckets(families)
}

fn kind(family: &MetricFamily) -> &'static str {
    match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}

/// Each label, with its values unless a release changes them.
fn labels(family: &MetricFamily) -> String {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for pair in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
        labels.entry(pair.name()).or_default().insert(pair.value());
    }
    let told = labels.into_iter().map(|(label, values)| {
        let values: Vec<&str> =
            values.into_iter().filter(|value| *value != env!("CARGO_PKG_VERSION")).collect();
        if values.is_empty() { format!("`{label}`") } else { format!("`{label}`: {}", values.join(", ")) }
    });
    told.collect::<Vec<_>>().join("; ")
}

/// The base unit, which the name ends with.
fn unit(name: &str) -> &'static str {
    let base = name.strip_suffix("_total").unwrap_or(name);
    match base.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "bytes",
        _ => "",
    }
}

/// The bounds of the histograms; those with the same ones together.
fn buckets(families: &[MetricFamily]) -> String {
    let mut by_bounds: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for family in families {
        let Some(metric) = family.get_metric().first().filter(|_| kind(family) == "histogram") else {
            continue;
        };
        let bounds = metric.get_histogram().get_bucket().iter().map(|bucket| bucket.upper_bound());
        let bounds = bounds.filter(|bound| bound.is_finite()).map(|bound| bound.to_string());
        by_bounds.entry(bounds.collect::<Vec<_>>().join(", ")).or_default().push(family.name());
    }
    let mut text = String::from("\nBuckets, upper bounds in s:\n\n");
    for (bounds, names) in by_bounds {
        let names = names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "- {names}: {bounds}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_s_metrics_are_there_with_their_labels() {
        let text = markdown().expect("registries");
        for line in [
            "| `focus_operator_leader` | gauge |  |  | 1 while this operator leads",
            "| `focus_job_oldest_waiting_seconds` | gauge | `phase`: consumer, pod, queue | s | How long",
            "| `focus_api_requests_total` | counter | `outcome`: conflict, failed, not_found, ok, refused, timeout; \
             `resource`: focusjobs, focusjobs/status, pods; `verb`: create, delete, get, patch, update |  |",
            "| `focus_build_info` | gauge | `role`: server; `version` |  |",
            "| `focus_server_windows` | gauge | `state`: free, taken |",
            "| `focus_server_store_seconds` | histogram | `operation`: claim, discard,",
            "| `focus_analyzer_waiting_bytes` | gauge |  | bytes |",
            "| `process_cpu_seconds_total` | counter |  | s |",
            "- `focus_analyzer_line_compute_seconds`: 0.00001, 0.0001,",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn help_does_not_break_the_table() {
        for line in markdown().expect("registries").lines().filter(|line| line.starts_with("| `")) {
            assert_eq!(line.matches('|').count(), 6, "{line}");
            assert!(line.ends_with(". |") || line.contains("| `process_"), "a sentence: {line}");
        }
    }
}
