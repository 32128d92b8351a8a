//! Whether every metric is used: by a dashboard, by a rule, or by a page that a person wrote.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::common::prometheus::Prometheus;

use super::dashboards::{FOLDER, queries};
use super::promql::unmentioned;

/// Of what the roles show, nothing is there that nobody has a use for.
pub async fn of_every_metric(prometheus: &Prometheus) {
    let series = prometheus.query("count by (__name__) ({__name__=~\"(focus|process)_.+\"})").await;
    let names: BTreeSet<String> =
        series.into_iter().map(|sample| sample.labels["__name__"].clone()).collect();
    let metrics: BTreeSet<String> = names.iter().map(|name| metric_of(name, &names)).collect();
    assert!(metrics.len() > 50, "only {metrics:?}");
    let mut texts: Vec<String> = queries().into_iter().map(|query| query.expr).collect();
    texts.extend(files(&Path::new(FOLDER).with_file_name("alerts"), "yaml"));
    texts.extend(
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"), "md").iter().map(|page| by_hand(page)),
    );
    let unused = unmentioned(metrics, &texts);
    assert!(unused.is_empty(), "no dashboard, alert or page written by hand mentions {unused:?}");
}

/// The metric that series of this name belong to: a histogram has three names.
fn metric_of(name: &str, names: &BTreeSet<String>) -> String {
    let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
    base.filter(|base| names.contains(&format!("{base}_bucket"))).unwrap_or(name).to_owned()
}

/// A page without the part that `focus metrics` makes: that part mentions everything.
fn by_hand(page: &str) -> String {
    let Some((before, rest)) = page.split_once("<!-- reference -->") else { return page.to_owned() };
    let (_, after) = rest.split_once("<!-- end of reference -->").unwrap();
    format!("{before}{after}")
}

/// The texts of the files of this kind in `folder` and below.
fn files(folder: &Path, extension: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in entries {
        if path.is_dir() {
            texts.extend(files(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            texts.push(std::fs::read_to_string(&path).unwrap());
        }
    }
    texts
}
