//! The chart's dashboards, as their files have them, and what each kind of panel needs of an answer.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::common::prometheus::Series;

/// Where they are.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/focus-operator/dashboards");

/// One query of one panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// Dashboard, panel and reference, for messages.
    pub place: String,
    kind: String,
    legend: String,
    words: Option<BTreeSet<String>>,
    /// Whether one moment is asked for, and not a range.
    pub instant: bool,
    /// The expression, with Grafana's variables.
    pub expr: String,
}

impl Query {
    /// The expression for `namespace`, whatever the job; `range` is what the picked time range would be.
    pub fn resolved(&self, namespace: &str, range: &str) -> String {
        let expr = self.expr.replace("$namespace", namespace).replace("$job", ".+");
        let expr = expr.replace("$__rate_interval", "15s").replace("$__range", range);
        assert!(!expr.contains('$'), "{}: a variable is left in {expr}", self.place);
        expr
    }

    /// Why the panel could not show `answer`; None: it can.
    pub fn misses(&self, answer: &[Series]) -> Option<String> {
        let numbers = || answer.iter().flat_map(|series| &series.points).filter(|(_, value)| !value.is_nan());
        if numbers().next().is_none() {
            return Some("no data".to_owned());
        }
        for label in placeholders(&self.legend) {
            if let Some(series) = answer.iter().find(|series| !series.labels.contains_key(&label)) {
                return Some(format!("the legend's {label} is not among {:?}", series.labels));
            }
        }
        match self.kind.as_str() {
            "heatmap" => misses_buckets(answer),
            "state-timeline" => {
                let words = self.words.as_ref()?;
                let strange = numbers().find(|(_, value)| !words.contains(&value.to_string()));
                strange.map(|(_, value)| format!("{value} has no word among {words:?}"))
            }
            _ => None,
        }
    }
}

/// A heatmap's rows are the bounds of a histogram, the last of them infinite, with counts that grow from row to row.
fn misses_buckets(answer: &[Series]) -> Option<String> {
    let mut rows: Vec<(f64, f64)> = Vec::new();
    for series in answer {
        let Some(bound) = series.labels.get("le").and_then(|le| le.replace("+Inf", "inf").parse().ok())
        else {
            return Some(format!("a series without a bucket's bound: {:?}", series.labels));
        };
        rows.push((bound, series.points.iter().map(|(_, value)| value).sum()));
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    if rows.len() < 3 || rows.last()?.0.is_finite() {
        return Some(format!("these are not the buckets of a histogram: {rows:?}"));
    }
    if rows.windows(2).any(|pair| pair[0].1 > pair[1].1 + 1e-9) {
        return Some(format!("buckets do not hold what lower ones hold: {rows:?}"));
    }
    (rows.last()?.1 <= 0.0).then(|| "all buckets are empty".to_owned())
}

/// The labels in `{{label}}`.
fn placeholders(legend: &str) -> Vec<String> {
    legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim().to_owned())).collect()
}

/// Every query of every dashboard.
pub fn queries() -> Vec<Query> {
    let mut files: Vec<_> = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    files.iter().flat_map(|file| queries_of(file)).collect()
}

fn queries_of(file: &Path) -> Vec<Query> {
    let board: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    panels.flat_map(|panel| queries_in(board["title"].as_str().unwrap(), panel)).collect()
}

fn queries_in(board: &str, panel: &Value) -> Vec<Query> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mappings = panel["fieldConfig"]["defaults"]["mappings"].as_array();
    let words = mappings.map(|mappings| {
        let options = mappings.iter().filter_map(|mapping| mapping["options"].as_object());
        options.flat_map(|options| options.keys().cloned()).collect()
    });
    let targets = panel["targets"].as_array().unwrap().iter();
    targets
        .map(|target| Query {
            place: format!("{board} / {} {}", text(&panel["title"]), text(&target["refId"])),
            kind: text(&panel["type"]),
            legend: text(&target["legendFormat"]),
            words: words.clone(),
            instant: target["instant"] == true,
            expr: text(&target["expr"]),
        })
        .collect()
}

#[test]
fn a_heatmap_needs_the_buckets_of_a_histogram() {
    let series = |le: &str, value: f64| Series {
        labels: [("le".to_owned(), le.to_owned())].into(),
        points: vec![(0.0, value)],
    };
    let query = Query {
        place: "here".to_owned(),
        kind: "heatmap".to_owned(),
        legend: "{{le}}".to_owned(),
        words: None,
        instant: false,
        expr: String::new(),
    };
    let good = [series("0.5", 1.0), series("+Inf", 3.0), series("1", 2.0)];
    assert_eq!(query.misses(&good), None);
    for (answer, words) in [
        (&[][..], "no data"),
        (&good[..1], "not the buckets"),
        (&[series("0.5", 1.0), series("1", 2.0), series("2", 3.0)], "not the buckets"),
        (&[series("0.5", 2.0), series("1", 1.0), series("+Inf", 3.0)], "lower ones"),
        (&[series("0.5", 0.0), series("1", 0.0), series("+Inf", 0.0)], "empty"),
    ] {
        let missed = query.misses(answer).unwrap();
        assert!(missed.contains(words), "{missed}");
    }
}
