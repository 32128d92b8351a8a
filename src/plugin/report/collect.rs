//! What a report is made of, as the cluster gives it: not to leave this program before it is redacted.

use std::fmt::Debug;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, LogParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Args;
use crate::api::names::{COMPONENT_LABEL, JOB_LABEL};
use crate::api::{AnalyzerPool, FocusJob, GROUP, VERSION, crds};
use crate::plugin::cluster::{Cluster, ReadError};
use crate::plugin::screen::Screen;
use crate::plugin::show::job::{self, JobReport};
use crate::plugin::show::list::{self, Columns};

/// Most objects of a kind.
const MOST: u32 = 1000;
/// Most pods whose logs are read; most bytes of each log.
const LOGS: (usize, i64) = (40, 2 << 20);
/// How many logs and metrics are read at once.
const AT_ONCE: usize = 8;
/// Names of the ports that serve metrics, the likeliest first.
const PORTS: [&str; 3] = ["admin", "metrics", "http"];

/// What the cluster gave.
#[derive(Default)]
pub struct Collected {
    /// Objects by file name.
    pub objects: Vec<(String, Value)>,
    /// Text by file name.
    pub texts: Vec<(String, String)>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// Reads what is there, and may be read.
pub struct Collector<'a> {
    /// The cluster.
    pub cluster: Cluster,
    /// What is wanted.
    pub args: &'a Args,
    /// Until when.
    pub until: Instant,
    /// The time of the report.
    pub now: Timestamp,
}

impl Collected {
    fn list<K: Serialize>(&mut self, name: &str, read: Result<Vec<K>, ReadError>) -> Vec<K> {
        match read {
            Ok(items) => {
                let value = json!({"kind": "List", "apiVersion": "v1", "items": items});
                self.objects.push((format!("{name}.json"), value));
                items
            }
            Err(error) => {
                self.notes.push(format!("{name}: {error}"));
                Vec::new()
            }
        }
    }
}

impl Collector<'_> {
    /// Reads all of it.
    pub async fn collect(&self) -> Collected {
        let mut all = Collected::default();
        let jobs = self.patient().list(&self.args.choice).await;
        let more = jobs.as_ref().is_ok_and(|(_, more)| *more);
        let mut jobs = all.list("focusjobs", jobs.map(|(jobs, _)| jobs));
        if more {
            all.notes.push(format!("focusjobs: there are more than these {}", jobs.len()));
        }
        list::sort(&mut jobs);
        all.texts.push(("status.txt".to_owned(), self.status(&jobs)));
        let pools: Api<AnalyzerPool> = self.api();
        let pools = all.list("analyzerpools", self.objects("AnalyzerPools", &pools, None).await);
        if all.notes.is_empty() && jobs.is_empty() && pools.is_empty() {
            all.notes.push(format!("FocusJobs and AnalyzerPools: there are none {}", self.place()));
        }
        let events: Api<Event> = self.api();
        all.list("events", self.objects("Events", &events, None).await);
        let pods: Api<Pod> = self.api();
        let analyzers =
            all.list("analyzer-pods", self.objects("analyzers' pods", &pods, Some(JOB_LABEL)).await);
        let parts = self.parts().await;
        let read = parts.is_ok();
        let parts = all.list("operator-and-server-pods", parts);
        if read && parts.is_empty() {
            all.notes.push(format!(
                "logs and metrics of operator and server: no pod has the labels {}; name their namespace by \
                 --operator-namespace",
                parts_labels()
            ));
        }
        let versions = self.versions(&mut all.notes).await;
        all.objects.push(("versions.json".to_owned(), versions));
        self.logs_and_metrics(&mut all, &parts, &analyzers).await;
        all
    }

    /// The cluster, with a new deadline for the next call, which is never later than the report's.
    fn patient(&self) -> Cluster {
        self.cluster.again().not_after(self.until)
    }

    /// Objects where the jobs are.
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        let client = self.cluster.client.clone();
        if self.args.choice.all_namespaces {
            Api::all(client)
        } else {
            Api::namespaced(client, &self.cluster.namespace)
        }
    }

    /// Where objects are looked for, and what to say if that is the wrong place.
    fn place(&self) -> String {
        if self.args.choice.all_namespaces {
            "in any namespace".to_owned()
        } else {
            format!("in namespace {}; name that of the jobs by -n, or all by -A", self.cluster.namespace)
        }
    }

    async fn objects<K>(&self, what: &str, api: &Api<K>, labels: Option<&str>) -> Result<Vec<K>, ReadError>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let mut params = ListParams::default().limit(MOST);
        params.label_selector = labels.map(str::to_owned);
        Ok(self.patient().read(&format!("listing {what}"), api.list(&params)).await?.items)
    }

    /// The pods of operator and server: in the namespace that was named, else anywhere, else where the jobs are.
    async fn parts(&self) -> Result<Vec<Pod>, ReadError> {
        let client = || self.cluster.client.clone();
        let labels = parts_labels();
        let what = "pods of operator and server";
        if let Some(namespace) = &self.args.operator_namespace {
            return self.objects(what, &Api::namespaced(client(), namespace), Some(&labels)).await;
        }
        match self.objects(what, &Api::all(client()), Some(&labels)).await {
            Err(ReadError::Forbidden { .. }) => {
                let here = Api::namespaced(client(), &self.cluster.namespace);
                self.objects(what, &here, Some(&labels)).await
            }
            found => found,
        }
    }

    /// The table of jobs, and each of those that are not well.
    fn status(&self, jobs: &[FocusJob]) -> String {
        let screen = Screen { width: None, height: None, colour: false, unicode: true, headings: true };
        let columns = Columns { namespace: true, wide: true };
        let mut text = list::draw(jobs, columns, self.now, &screen);
        for job in jobs.iter().filter(|job| job::exit_code(job) != 0) {
            let report = JobReport::new(job, None, Vec::new());
            text.push_str(&format!("\n{}", job::draw(job, &report, self.now, &screen, 0)));
        }
        text
    }

    async fn versions(&self, notes: &mut Vec<String>) -> Value {
        let (cluster, client) = (self.patient(), self.cluster.client.clone());
        let kubernetes =
            cluster.read("asking the API server for its version", client.apiserver_version()).await;
        let mut versions = json!({
            "kubectl_focus": env!("CARGO_PKG_VERSION"), "api": format!("{GROUP}/{VERSION}"),
            "machine": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
        });
        match kubernetes {
            Ok(version) => versions["kubernetes"] = json!(version.git_version),
            Err(error) => notes.push(format!("versions: {error}")),
        }
        let api: Api<CustomResourceDefinition> = Api::all(client);
        for ours in crds::all() {
            let name = ours.name_any();
            let read = cluster.read(&format!("reading the definition {name}"), api.get(&name)).await;
            match read {
                Ok(theirs) => {
                    // The API server adds what is left open beside the versions, such as the name of the list.
                    let same = ours.spec.versions == theirs.spec.versions;
                    let stored = theirs.status.and_then(|status| status.stored_versions);
                    versions["definitions"][&name] =
                        json!({"stored_versions": stored, "as_of_this_program": same});
                }
                Err(error) => notes.push(format!("versions: {error}")),
            }
        }
        versions
    }

    async fn logs_and_metrics(&self, all: &mut Collected, parts: &[Pod], analyzers: &[Pod]) {
        let mut wanted: Vec<Wanted> = parts.iter().filter_map(Wanted::metrics).collect();
        if !self.args.no_logs {
            wanted.extend(parts.iter().chain(analyzers).take(LOGS.0).flat_map(Wanted::logs));
            let more = (parts.len() + analyzers.len()).saturating_sub(LOGS.0);
            if more > 0 {
                all.notes.push(format!("logs: of {more} more pods"));
            }
        }
        let read = futures::stream::iter(wanted).map(|wanted| async move {
            let text = self.text(&wanted).await;
            (wanted.file, text)
        });
        let mut read = read.buffer_unordered(AT_ONCE);
        while let Some((file, text)) = read.next().await {
            match text {
                Ok(text) => all.texts.push((file, text)),
                Err(error) => all.notes.push(format!("{file}: {error}")),
            }
        }
    }

    async fn text(&self, wanted: &Wanted) -> Result<String, ReadError> {
        let Wanted { namespace, pod, source, .. } = wanted;
        let (cluster, client) = (self.patient(), self.cluster.client.clone());
        match source {
            Source::Log { container, previous } => {
                let params = LogParams {
                    container: Some(container.clone()),
                    previous: *previous,
                    tail_lines: Some(self.args.lines),
                    limit_bytes: Some(LOGS.1),
                    timestamps: true,
                    ..LogParams::default()
                };
                let api: Api<Pod> = Api::namespaced(client, namespace);
                cluster.read(&format!("reading the log of pod {pod}"), api.logs(pod, &params)).await
            }
            Source::Metrics { port } => {
                let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics");
                let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError);
                let call = async { client.request_text(request?).await };
                cluster.read(&format!("reading the metrics of pod {pod}"), call).await
            }
        }
    }
}

/// Labels of the pods of operator and server, whatever the chart's `nameOverride` is.
fn parts_labels() -> String {
    format!("{COMPONENT_LABEL} in (operator, server),app.kubernetes.io/part-of=focus")
}

/// A text that a pod has.
struct Wanted {
    file: String,
    namespace: String,
    pod: String,
    source: Source,
}

enum Source {
    Log { container: String, previous: bool },
    Metrics { port: i32 },
}

impl Wanted {
    fn new(pod: &Pod, folder: &str, end: &str, source: Source) -> Self {
        let (namespace, pod) = (pod.namespace().unwrap_or_default(), pod.name_any());
        Self { file: format!("{folder}/{namespace}/{pod}{end}"), namespace, pod, source }
    }

    /// The log of each container, and what it had written before its last end.
    fn logs(pod: &Pod) -> Vec<Self> {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let log = |(name, previous): (&str, bool)| {
            let end = format!(".{name}{}.log", if previous { ".previous" } else { "" });
            Self::new(pod, "logs", &end, Source::Log { container: name.to_owned(), previous })
        };
        let restarted = |name: &str| {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            statuses
                .is_some_and(|all| all.iter().any(|status| status.name == name && status.restart_count > 0))
        };
        containers
            .flat_map(|container| {
                let previous = restarted(&container.name).then_some((container.name.as_str(), true));
                std::iter::once((container.name.as_str(), false)).chain(previous).map(log)
            })
            .collect()
    }

    /// The metrics of an operator or server.
    fn metrics(pod: &Pod) -> Option<Self> {
        let ports =
            || pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|c| c.ports.iter().flatten());
        let port = PORTS.iter().find_map(|name| ports().find(|port| port.name.as_deref() == Some(name)))?;
        Some(Self::new(pod, "metrics", ".prom", Source::Metrics { port: port.container_port }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_operator_is_found_whatever_the_chart_is_called() {
        let rendered = include_str!("../../../tests/chart/golden/small.yaml");
        let deployment =
            rendered.split("\n---\n").find(|document| document.contains("kind: Deployment")).unwrap();
        let (_, pod) = deployment.split_once("\n  template:\n").unwrap();
        let labels = parts_labels();
        let (_, wanted) = labels.rsplit_once(',').unwrap();
        for line in [wanted.replace('=', ": "), format!("{COMPONENT_LABEL}: operator")] {
            assert!(pod.contains(&format!("        {line}\n")), "{line} is not among the labels of\n{pod}");
        }
        assert!(pod.contains("app.kubernetes.io/name: views"), "{pod}");
    }

    #[test]
    fn each_container_s_logs_and_the_metrics_of_the_likeliest_port() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "focus", "name": "server-0"},
            "spec": {"containers": [
                {"name": "server", "ports": [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 8081}]},
                {"name": "proxy"}
            ]},
            "status": {"containerStatuses": [
                {"name": "server", "restartCount": 2, "image": "", "imageID": "", "ready": true},
                {"name": "proxy", "restartCount": 0, "image": "", "imageID": "", "ready": true}
            ]}
        }))
        .unwrap();
        let files: Vec<String> = Wanted::logs(&pod).into_iter().map(|wanted| wanted.file).collect();
        let expected = ["server.log", "server.previous.log", "proxy.log"];
        assert_eq!(files, expected.map(|end| format!("logs/focus/server-0.{end}")));
        let metrics = Wanted::metrics(&pod).unwrap();
        assert_eq!(metrics.file, "metrics/focus/server-0.prom");
        assert!(matches!(metrics.source, Source::Metrics { port: 8081 }));
        assert!(Wanted::metrics(&Pod::default()).is_none());
    }
}
