//! The chart's recording and alerting rules, as Prometheus reads them.
//!
//! A test may shorten every duration in them by one factor: `for`, `keep_firing_for`, ranges (`[5m]`), subqueries
//! (`[1h:1m]`), offsets and a group's `interval`. Nothing else is touched: neither thresholds, nor names, nor labels.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where the chart has them.
const FOLDERS: [&str; 2] = ["rules", "alerts"];
const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("y", 31_536_000_000),
];

/// Rule files: their names, and what is in them.
pub struct Rules(Vec<(String, Value)>);

impl Rules {
    /// No rules.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// All of the chart's.
    pub fn of_chart() -> Self {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/focus-operator");
        let mut files: Vec<PathBuf> = FOLDERS
            .iter()
            .filter_map(|folder| std::fs::read_dir(chart.join(folder)).ok())
            .flatten()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        files.sort();
        Self(files.iter().map(|path| read(path)).collect())
    }

    /// The same with every duration divided by `factor`.
    pub fn shortened(mut self, factor: u64) -> Self {
        for (_, file) in &mut self.0 {
            for group in groups_of(file) {
                shorten_fields(group, &["interval"], factor);
            }
            for rule in rules_of(file) {
                shorten_fields(rule, &["for", "keep_firing_for"], factor);
                rule["expr"] = shorten_expression(rule["expr"].as_str().unwrap(), factor).into();
            }
        }
        self
    }

    /// Writes them to `folder`, and gives the files.
    pub fn write(&self, folder: &Path) -> Vec<PathBuf> {
        std::fs::create_dir(folder).unwrap();
        let write = |(name, rules): &(String, Value)| {
            let path = folder.join(name);
            std::fs::write(&path, rules.to_string()).unwrap();
            path
        };
        self.0.iter().map(write).collect()
    }
}

fn read(path: &Path) -> (String, Value) {
    let text = std::fs::read_to_string(path).unwrap();
    let value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path.file_name().unwrap().to_str().unwrap().to_owned(), value)
}

fn groups_of(file: &mut Value) -> impl Iterator<Item = &mut Value> {
    file["groups"].as_array_mut().unwrap().iter_mut()
}

fn rules_of(file: &mut Value) -> impl Iterator<Item = &mut Value> {
    groups_of(file).flat_map(|group| group["rules"].as_array_mut().unwrap().iter_mut())
}

fn shorten_fields(object: &mut Value, fields: &[&str], factor: u64) {
    for field in fields {
        if let Some(text) = object[field].as_str() {
            object[*field] =
                divided(text, factor).unwrap_or_else(|| panic!("{field}: {text} is no duration")).into();
        }
    }
}

/// Divides the durations of a PromQL expression: they stand in brackets, or after `offset`.
pub fn shorten_expression(expression: &str, factor: u64) -> String {
    let mut out = String::new();
    let (mut word, mut in_brackets, mut after_offset) = (String::new(), false, false);
    for letter in expression.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() || letter == '_' {
            word.push(letter);
            continue;
        }
        let duration = if in_brackets || after_offset { divided(&word, factor) } else { None };
        after_offset = word == "offset" || (after_offset && word.is_empty());
        out.push_str(&duration.unwrap_or_else(|| std::mem::take(&mut word)));
        word.clear();
        in_brackets = letter == '[' || (in_brackets && letter != ']');
        out.push(letter);
    }
    out.truncate(out.len() - 1);
    out
}

/// The duration `text` (`1h30m`) divided; None when it is none.
fn divided(text: &str, factor: u64) -> Option<String> {
    let (mut rest, mut total) = (text, 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == &rest[digits..end])?;
        total += number * unit;
        rest = &rest[end..];
    }
    (!text.is_empty()).then(|| format!("{}ms", (total / factor).max(1)))
}
