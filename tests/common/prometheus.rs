//! The real Prometheus as a child process: it scrapes what a test runs, with the labels that the chart's PodMonitors
//! give, and evaluates the chart's own rules.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::process::Process;
use super::rules::Rules;
use super::until;

/// How often targets are scraped, and rules evaluated: often, so that tests end soon.
const INTERVAL: &str = "500ms";

/// Something to scrape.
#[derive(Clone, Debug)]
pub struct Target {
    address: String,
    labels: BTreeMap<String, String>,
}

impl Target {
    /// `component` (operator, server, analyzer) at `address` (`host:port`), as a pod of a PodMonitor of the chart.
    pub fn new(component: &str, address: &str, namespace: &str, pod: &str) -> Self {
        let job = format!("focus-{component}");
        let labels =
            [("job", job.as_str()), ("namespace", namespace), ("pod", pod), ("container", component)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { address: address.to_owned(), labels: labels.into() }
    }

    /// A role that the test runs as a process.
    pub fn of(process: &Process, component: &str, namespace: &str, pod: &str) -> Self {
        Self::new(component, &format!("127.0.0.1:{}", process.port), namespace, pod)
    }
}

/// One series of an instant query's answer.
#[derive(Clone, Debug)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// One series of a range query's answer: Unix seconds and values.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub points: Vec<(f64, f64)>,
}

/// An alert that is firing.
#[derive(Clone, Debug)]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

impl Alert {
    pub fn name(&self) -> &str {
        &self.labels["alertname"]
    }
}

/// A running Prometheus; it is killed and its data removed when this is dropped.
pub struct Prometheus {
    child: Child,
    folder: PathBuf,
    url: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Prometheus {
    /// Starts it with `rules`, and waits until all of `targets` are up.
    pub async fn start(targets: &[Target], rules: &Rules) -> Self {
        let folder = std::env::temp_dir().join(format!("focus-prometheus-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&folder).unwrap();
        write_targets(&folder, targets);
        let files = rules.write(&folder.join("rules"));
        // JSON is YAML too.
        let config = json!({
            "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": files,
            "scrape_configs": [{"job_name": "test", "file_sd_configs": [{"files": [folder.join("targets.json")]}]}]
        });
        std::fs::write(folder.join("prometheus.yml"), config.to_string()).unwrap();
        let mut prometheus = Self::spawn(folder);
        prometheus.until_listening().await;
        prometheus.until_up(targets).await;
        prometheus
    }

    fn spawn(folder: PathBuf) -> Self {
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            // It chooses a free port itself, and says in its log which.
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting prometheus: {error}; hack/setup installs it"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (log.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, folder, url: String::new(), log }
    }

    async fn until_listening(&mut self) {
        let log = self.log.clone();
        let address = until("Prometheus listens", || async { listening_on(&log.lock().unwrap()) }).await;
        self.url = format!("http://{address}");
        until("Prometheus is ready", || async {
            let answer = reqwest::get(format!("{}/-/ready", self.url)).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Waits until each of `targets` has been scraped well.
    pub async fn until_up(&self, targets: &[Target]) {
        until(&format!("{} targets are up", targets.len()), || async {
            let up = self.query("up == 1").await;
            let is_up = |target: &Target| {
                up.iter().any(|sample| {
                    target.labels.iter().all(|(name, value)| sample.labels.get(name) == Some(value))
                })
            };
            targets.iter().all(is_up).then_some(())
        })
        .await;
    }

    /// Replaces the targets; those that are gone are no longer scraped, as after a pod's deletion.
    pub fn set_targets(&self, targets: &[Target]) {
        write_targets(&self.folder, targets);
    }

    /// What `promql` gives now: a vector's series, or a scalar as one series without labels.
    pub async fn query(&self, promql: &str) -> Vec<Sample> {
        let data =
            self.get("query", &[("query", promql)]).await.unwrap_or_else(|why| panic!("{promql}: {why}"));
        if data["resultType"] == "scalar" {
            return vec![Sample { labels: BTreeMap::new(), value: point(&data["result"]).1 }];
        }
        let series = data["result"].as_array().unwrap().iter();
        series.map(|one| Sample { labels: strings(&one["metric"]), value: point(&one["value"]).1 }).collect()
    }

    /// The one value of `promql`; None when it gives no series.
    pub async fn value(&self, promql: &str) -> Option<f64> {
        let found = self.query(promql).await;
        assert!(found.len() < 2, "{promql} gives more than one series: {found:?}");
        found.first().map(|sample| sample.value)
    }

    /// What `promql` gives from `start` to `end` (Unix seconds), each `step` s.
    ///
    /// # Errors
    /// What Prometheus says against the query.
    pub async fn query_range(
        &self,
        promql: &str,
        start: f64,
        end: f64,
        step: f64,
    ) -> Result<Vec<Series>, String> {
        let [start, end, step] = [start, end, step].map(|number| number.to_string());
        let data = self
            .get("query_range", &[("query", promql), ("start", &start), ("end", &end), ("step", &step)])
            .await?;
        let series = data["result"].as_array().unwrap().iter();
        Ok(series
            .map(|one| Series {
                labels: strings(&one["metric"]),
                points: one["values"].as_array().unwrap().iter().map(point).collect(),
            })
            .collect())
    }

    /// The alerts that are firing.
    pub async fn firing(&self) -> Vec<Alert> {
        let data = self.get("alerts", &[]).await.unwrap();
        let alerts = data["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
        alerts
            .map(|alert| Alert {
                labels: strings(&alert["labels"]),
                annotations: strings(&alert["annotations"]),
            })
            .collect()
    }

    /// Waits until the alert `name` fires with `labels`.
    pub async fn until_firing_with(&self, name: &str, labels: &[(&str, &str)]) -> Alert {
        until(&format!("{name} fires with {labels:?}"), || self.find_firing(name, labels)).await
    }

    /// Whether the alert `name` fires with `labels` now.
    pub async fn is_firing(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.find_firing(name, labels).await.is_some()
    }

    async fn find_firing(&self, name: &str, labels: &[(&str, &str)]) -> Option<Alert> {
        let has = |alert: &Alert, (label, value): &(&str, &str)| {
            alert.labels.get(*label).is_some_and(|found| found == value)
        };
        let mut firing = self.firing().await.into_iter();
        firing.find(|alert| alert.name() == name && labels.iter().all(|pair| has(alert, pair)))
    }

    /// Waits until the alert `name` does not fire.
    pub async fn until_quiet(&self, name: &str) {
        until(&format!("{name} does not fire"), || async {
            self.firing().await.iter().all(|alert| alert.name() != name).then_some(())
        })
        .await;
    }

    /// The rules as Prometheus has loaded them, with the health of their last evaluation: the API's `groups`.
    pub async fn rules(&self) -> Value {
        self.get("rules", &[]).await.unwrap()["groups"].clone()
    }

    async fn get(&self, what: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("{}/api/v1/{what}", self.url);
        let answer = reqwest::Client::new().get(url).query(query).send().await;
        let mut body: Value = answer.unwrap().json().await.unwrap();
        if body["status"] == "success" { Ok(body["data"].take()) } else { Err(body["error"].to_string()) }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
        if std::thread::panicking() {
            eprintln!("--- log of Prometheus ---\n{}", self.log.lock().unwrap().join("\n"));
        }
    }
}

/// The address in the log line that tells it.
fn listening_on(log: &[String]) -> Option<String> {
    let line = log.iter().find(|line| line.contains("msg=\"Listening on\""))?;
    Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
}

/// Prometheus looks at the file whenever it is replaced.
fn write_targets(folder: &Path, targets: &[Target]) {
    let groups: Vec<Value> =
        targets.iter().map(|target| json!({"targets": [target.address], "labels": target.labels})).collect();
    std::fs::write(folder.join("targets.new"), json!(groups).to_string()).unwrap();
    std::fs::rename(folder.join("targets.new"), folder.join("targets.json")).unwrap();
}

fn strings(object: &Value) -> BTreeMap<String, String> {
    let pairs = object.as_object().unwrap().iter();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// `[time, "value"]`.
fn point(pair: &Value) -> (f64, f64) {
    (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().parse().unwrap())
}
