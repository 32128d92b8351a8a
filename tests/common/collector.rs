//! A real OpenTelemetry Collector, which writes the spans that it takes into a file.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{broker, from_env, until};

/// One span, as the collector wrote it.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    /// µs since the Unix epoch.
    pub start_us: i64,
    pub end_us: i64,
    /// The reason of a failure.
    pub failed: Option<String>,
    /// The attributes that are strings.
    pub attributes: std::collections::BTreeMap<String, String>,
}

pub struct Collector {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Collector {
    /// Starts it, ready to take spans.
    pub async fn start() -> Self {
        let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("focus-collector-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&folder).unwrap();
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '0.0.0.0:{port}'}}}}}}}}\n\
             exporters: {{file: {{path: '{}/spans', flush_interval: 100ms}}}}\n\
             service:\n\
             \x20 telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}\n\
             \x20 pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}\n",
            folder.display()
        );
        let file = folder.join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new(from_env("FOCUS_TEST_OTEL_COLLECTOR"))
            .arg("--config")
            .arg(file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let collector = Self { child, folder, port };
        until("the collector listens", || async { TcpStream::connect(("127.0.0.1", port)).ok() }).await;
        collector
    }

    /// Its address on this machine.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its address as pods see it: they reach this machine as they reach the broker.
    pub fn url_for_pods(&self) -> String {
        let broker = broker::url_for_pods();
        let (_, place) = broker.rsplit_once('@').unwrap();
        let host = place.split(['/', '?']).next().unwrap().rsplit_once(':').map_or(place, |(host, _)| host);
        format!("http://{host}:{}", self.port)
    }

    /// All that it has written.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.folder.join("spans")).unwrap_or_default()
    }

    /// The spans that it has taken.
    pub fn spans(&self) -> Vec<Span> {
        let text = self.text();
        // The last line may not be complete.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().flat_map(|line| spans(&serde_json::from_str(line).unwrap())).collect()
    }

    /// Waits until it has a span of each of these (service, name) of the trace; gives the trace's spans.
    pub async fn until_trace(&self, trace: &str, expected: &[(&str, &str)]) -> Vec<Span> {
        let missing = || {
            let spans: Vec<Span> = self.spans().into_iter().filter(|span| span.trace == trace).collect();
            let has = |(service, name): &&(&str, &str)| {
                spans.iter().any(|span| span.service == *service && span.name == *name)
            };
            let missing: Vec<_> = expected.iter().filter(|wanted| !has(wanted)).copied().collect();
            (spans, missing)
        };
        until(&format!("spans {expected:?} of trace {trace}"), || async {
            let (spans, missing) = missing();
            missing.is_empty().then_some(spans)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- spans ---\n{:#?}", self.spans());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spans(line: &Value) -> Vec<Span> {
    let mut all = Vec::new();
    for resource in line["resourceSpans"].as_array().unwrap() {
        let service = strings(&resource["resource"]["attributes"]).remove("service.name").unwrap();
        for span in
            resource["scopeSpans"].as_array().unwrap().iter().flat_map(|s| s["spans"].as_array().unwrap())
        {
            let text = |field: &str| span[field].as_str().unwrap_or_default().to_owned();
            let micros = |field: &str| text(field).parse::<i64>().unwrap() / 1000;
            let failed = span["status"]["code"] == 2;
            all.push(Span {
                service: service.clone(),
                trace: text("traceId"),
                id: text("spanId"),
                parent: text("parentSpanId"),
                name: text("name"),
                start_us: micros("startTimeUnixNano"),
                end_us: micros("endTimeUnixNano"),
                failed: failed.then(|| span["status"]["message"].as_str().unwrap_or_default().to_owned()),
                attributes: strings(&span["attributes"]),
            });
        }
    }
    all
}

fn strings(attributes: &Value) -> std::collections::BTreeMap<String, String> {
    let pair = |attribute: &Value| {
        let value = attribute["value"]["stringValue"].as_str()?;
        Some((attribute["key"].as_str()?.to_owned(), value.to_owned()))
    };
    attributes.as_array().into_iter().flatten().filter_map(pair).collect()
}
