//! A bare pod of the analyzer's image, from its creation until Ready is seen: the floor beneath `pod`.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use tokio::time::{Instant, timeout_at};

use super::args::Options;
use super::cluster::{Cluster, bounded};
use crate::api::AnalyzerPool;
use crate::api::names::ANALYZER_CONTAINER;

/// How long a bare pod may take to be Ready, and to be gone.
const LIMIT: Duration = Duration::from_secs(60);

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<Pod>>> + Send>>;

/// When one bare pod got where, s from its creation.
pub struct PodTimes {
    /// Bound to a node.
    pub scheduled: f64,
    /// Ready was seen.
    pub ready: f64,
}

/// The spec of the bare pod: image, security, resources and placement of the pool's analyzer, without its
/// volumes, environment and probes; its process waits for SIGTERM.
///
/// # Errors
/// When the pool cannot be read or has no container `analyzer` and `--image` is not given.
pub async fn bare_pod(cluster: &Cluster, args: &Options) -> anyhow::Result<PodSpec> {
    let what = format!("reading AnalyzerPool {} in namespace {}", args.pool, cluster.namespace);
    let pool = bounded(&what, cluster.api::<AnalyzerPool>().get_opt(&args.pool)).await?;
    let template = pool.and_then(|p| p.spec.template.spec).unwrap_or_default();
    let analyzer = template.containers.iter().find(|c| c.name == ANALYZER_CONTAINER).cloned();
    let image = args.image.clone().or_else(|| analyzer.as_ref()?.image.clone());
    let image = image.with_context(|| {
        format!("{what}: there is no image of a container {ANALYZER_CONTAINER}; name one with --image")
    })?;
    Ok(strip(template, analyzer.unwrap_or_default(), image, args.image.is_some()))
}

fn strip(template: PodSpec, analyzer: Container, image: String, other_image: bool) -> PodSpec {
    // A template's command is the analyzer's program; the image's own entry point otherwise.
    let program = analyzer.command.filter(|_| !other_image).map(|c| c.into_iter().take(1).collect());
    let container = Container {
        name: "bare".to_owned(),
        image: Some(image),
        command: program,
        args: Some(vec!["probe".to_owned(), "--hold".to_owned()]),
        image_pull_policy: analyzer.image_pull_policy,
        resources: analyzer.resources,
        security_context: analyzer.security_context,
        ..Container::default()
    };
    PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(1),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        affinity: template.affinity,
        image_pull_secrets: template.image_pull_secrets,
        node_selector: template.node_selector,
        runtime_class_name: template.runtime_class_name,
        scheduler_name: template.scheduler_name,
        security_context: template.security_context,
        tolerations: template.tolerations,
        ..PodSpec::default()
    }
}

/// Creates one bare pod, waits until Ready is seen, deletes it and waits until it is gone.
///
/// # Errors
/// When it does not get there within 60 s; the message has the pod's state. The run's sweep then removes it.
pub async fn sample(cluster: &Cluster, spec: &PodSpec) -> anyhow::Result<PodTimes> {
    let mut pod = Pod { spec: Some(spec.clone()), ..Pod::default() };
    pod.metadata = cluster.metadata("");
    pod.metadata.generate_name = None;
    let name = format!("probe-floor-{:08x}", rand::random::<u32>());
    pod.metadata.name = Some(name.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events: Events = Box::pin(watcher::watcher(cluster.api::<Pod>(), config));
    let deadline = Instant::now() + LIMIT;
    until(&mut events, deadline, |event| matches!(event, Event::InitDone).then_some(())).await?;

    let start = Instant::now();
    bounded("creating a bare pod", cluster.api().create(&PostParams::default(), &pod)).await?;
    let (mut scheduled, mut state) = (None, String::new());
    let ready = until(&mut events, deadline, |event| {
        let Event::Apply(pod) = event else { return None };
        if has(pod, "PodScheduled") {
            scheduled.get_or_insert(start.elapsed());
        }
        state = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        (has(pod, "Ready") || state == "Failed").then(|| start.elapsed())
    })
    .await;
    let ready = ready.with_context(|| format!("waiting for the bare pod {name}, which is {state:?}"))?;
    if state == "Failed" {
        bail!("the bare pod {name} failed: the image must run `focus probe --hold`; name one with --image");
    }
    cluster.delete::<Pod>(&name).await?;
    let gone = |event: &Event<Pod>| matches!(event, Event::Delete(_)).then_some(());
    until(&mut events, Instant::now() + LIMIT, gone).await.context("waiting for the bare pod to go")?;
    Ok(PodTimes { scheduled: scheduled.unwrap_or(ready).as_secs_f64(), ready: ready.as_secs_f64() })
}

async fn until<T>(
    events: &mut Events,
    deadline: Instant,
    mut test: impl FnMut(&Event<Pod>) -> Option<T>,
) -> anyhow::Result<T> {
    loop {
        let event = timeout_at(deadline, events.next()).await.context("the deadline has passed")?;
        if let Some(found) = test(&event.context("the watch ended")?.context("watching a bare pod")?) {
            return Ok(found);
        }
    }
}

fn has(pod: &Pod, condition: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|c| c.type_ == condition && c.status == "True")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_pod_keeps_image_and_placement_only() {
        let template: PodSpec = serde_json::from_value(serde_json::json!({
            "nodeSelector": {"a": "b"}, "serviceAccountName": "analyzer",
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "analyzer", "image": "i", "command": ["/focus", "analyzer"],
                            "env": [{"name": "X", "value": "y"}], "readinessProbe": {"periodSeconds": 1},
                            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        }))
        .unwrap();
        let analyzer = template.containers[0].clone();
        for (other_image, command) in [(false, Some(vec!["/focus".to_owned()])), (true, None)] {
            let spec = strip(template.clone(), analyzer.clone(), "i".to_owned(), other_image);
            let bare = &spec.containers[0];
            assert_eq!(bare.command, command);
            assert_eq!(bare.args, Some(vec!["probe".to_owned(), "--hold".to_owned()]));
            assert!(bare.env.is_none() && bare.readiness_probe.is_none() && bare.volume_mounts.is_none());
            assert!(spec.volumes.is_none() && spec.service_account_name.is_none());
            assert_eq!(spec.node_selector, template.node_selector);
        }
    }

    #[test]
    fn conditions_of_a_pod() {
        let pod = |status: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": status}]}
            }))
            .unwrap()
        };
        for (status, expected) in [("True", true), ("False", false), ("Unknown", false)] {
            assert_eq!(has(&pod(status), "Ready"), expected);
            assert!(!has(&pod(status), "PodScheduled"));
        }
    }
}
