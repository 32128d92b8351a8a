//! What the chart makes of its dashboards and alerts: no cluster is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::tools::{ROOT, run};
use crate::common::from_env;

/// A copy of the chart with one more dashboard and alert, whose words Helm could mistake for its own.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const DASHBOARD: &str = r#"{
  "title": "Tricky: {{ .Values.scope }} \"quoted\" $__rate_interval",
  "panels": [{"targets": [{"expr": "sum by (reason) (rate(focus_x{job=~\"$job\"}[$__rate_interval]))", "legendFormat": "{{reason}}"}]}]
}
"#;
const ALERTS: &str = r#"groups:
  - name: tricky
    rules:
      - alert: FocusTricky
        expr: focus_x{reason!="{{"} > 0
        annotations:
          summary: '{{ $labels.reason }}: {{ printf "%.0f" $value }} jobs'
"#;

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

impl Copy {
    fn new() -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("render-{:08x}", rand::random::<u32>()));
        let copy = Self(folder);
        copy_folder(&Path::new(ROOT).join("charts/focus-operator"), &copy.0);
        for (name, text) in [("dashboards/tricky_one.json", DASHBOARD), ("alerts/tricky.yaml", ALERTS)] {
            let path = copy.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        copy
    }

    /// The files of a folder of the chart, by their names.
    fn files(&self, folder: &str) -> BTreeMap<String, String> {
        let files = fs::read_dir(self.0.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.is_file())
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
            })
            .collect()
    }
}

/// The objects that `helm template` prints with monitoring on.
fn objects(helm: &str, chart: &Path) -> Vec<Value> {
    let on = "monitoring.prometheusRule.enabled=true,monitoring.dashboards.enabled=true";
    let chart = chart.to_str().unwrap();
    let args = ["template", "focus", chart, "--namespace", "focus", "--set", on];
    let printed = run(&from_env(helm), &[&args[..], &["--show-only", "templates/monitoring.yaml"]].concat());
    serde_saphyr::from_multiple(&printed).unwrap()
}

#[test]
fn every_dashboard_and_every_alert_arrives_as_it_is() {
    let copy = Copy::new();
    for helm in ["FOCUS_TEST_HELM4", "FOCUS_TEST_HELM3"] {
        let objects = objects(helm, &copy.0);
        let of_kind = |kind: &str| -> Vec<&Value> {
            objects.iter().filter(|object| object["kind"] == json!(kind)).collect()
        };
        let mut dashboards = BTreeMap::new();
        for map in of_kind("ConfigMap") {
            assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], json!("1"), "{}", map["metadata"]);
            let data = map["data"].as_object().unwrap();
            let (name, text) = data.iter().next().unwrap();
            assert_eq!(data.len(), 1);
            dashboards.insert(name.clone(), text.as_str().unwrap().to_owned());
        }
        assert_eq!(dashboards, copy.files("dashboards"));
        let rules = of_kind("PrometheusRule");
        let files = copy.files("alerts");
        assert_eq!(rules.len(), files.len());
        for (name, text) in files {
            let expected: Value = serde_saphyr::from_str(&text).unwrap();
            assert!(
                rules.iter().any(|rule| rule["spec"] == expected),
                "{helm}: {name} is not among {rules:?}"
            );
        }
        let mut names: Vec<String> = objects.iter().map(|o| o["metadata"]["name"].to_string()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), objects.len(), "two objects have one name");
    }
}
