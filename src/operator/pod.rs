//! The analyzer pod: how it is made from the pool's template, and what is wrong with one. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerState, EnvVar, Pod, PodTemplateSpec};
use kube::{Resource, ResourceExt};

use crate::api::names::{self, ANALYZER_CONTAINER};
use crate::api::{AnalyzerPool, FocusJob};

/// Exit codes with which an analyzer says that another try is useless (docs/analyzer-contract.md).
const USELESS_TO_RETRY: [i32; 2] = [64, 65];
/// The container's exit code where the kubelet reports none.
const UNKNOWN_EXIT: i32 = -1;

/// What a pod is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// On its way; no cause for concern is known.
    Starting,
    /// On its way, but something stands in it.
    Blocked {
        /// CamelCase cause.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// Its analyzer runs and is ready.
    Ready,
    /// Its analyzer ended by itself, as it should.
    Completed,
    /// It failed.
    Failed {
        /// CamelCase cause.
        reason: String,
        /// A sentence.
        message: String,
        /// Whether another pod may succeed.
        retry: bool,
        /// How long its analyzer had run, s.
        ran_seconds: i64,
    },
}

/// The pod number `attempt` of `job` in `pool`.
///
/// # Errors
/// A sentence, when the pool's template has no container `analyzer`.
pub fn build(job: &FocusJob, pool: &AnalyzerPool, attempt: i32) -> Result<Pod, String> {
    let PodTemplateSpec { metadata, spec } = pool.spec.template.clone();
    let mut metadata = metadata.unwrap_or_default();
    let mut spec = spec.unwrap_or_default();
    let analyzer = spec.containers.iter_mut().find(|c| c.name == ANALYZER_CONTAINER).ok_or_else(|| {
        format!(
            "AnalyzerPool {} has no container named {ANALYZER_CONTAINER} in its template; add one",
            pool.name_any()
        )
    })?;
    add_environment(analyzer, job, pool);
    analyzer.termination_message_policy.get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
    spec.restart_policy = Some("Never".to_owned());
    spec.automount_service_account_token.get_or_insert(false);
    spec.enable_service_links.get_or_insert(false);
    metadata.name = Some(names::pod_name(job, attempt));
    metadata.generate_name = None;
    metadata.namespace = job.namespace();
    metadata.owner_references = Some(job.controller_owner_ref(&()).into_iter().collect());
    metadata.labels.get_or_insert_default().extend(labels(job));
    Ok(Pod { metadata, spec: Some(spec), status: None })
}

/// The standard labels of a job's children.
pub fn labels(job: &FocusJob) -> BTreeMap<String, String> {
    let name = job.name_any();
    [
        ("app.kubernetes.io/name", "focus-analyzer".to_owned()),
        ("app.kubernetes.io/instance", names::label_value(&name)),
        ("app.kubernetes.io/component", "analyzer".to_owned()),
        ("app.kubernetes.io/part-of", "focus".to_owned()),
        ("app.kubernetes.io/managed-by", "focus-operator".to_owned()),
        (names::JOB_LABEL, names::label_value(&name)),
        (names::UID_LABEL, job.uid().unwrap_or_default()),
        (names::POOL_LABEL, names::label_value(&job.spec.pool)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The environment of the contract; what the template says of the same names gives way.
fn add_environment(analyzer: &mut Container, job: &FocusJob, pool: &AnalyzerPool) {
    // Both were read from JSON, so they can be written as JSON.
    let spec = serde_json::to_string(&job.spec).unwrap_or_default();
    let source = serde_json::to_string(&pool.spec.source).unwrap_or_default();
    let ours = [
        ("FOCUS_JOB_NAME", job.name_any()),
        ("FOCUS_JOB_NAMESPACE", job.namespace().unwrap_or_default()),
        ("FOCUS_JOB_UID", job.uid().unwrap_or_default()),
        ("FOCUS_QUEUE", names::queue_name(job)),
        ("FOCUS_SPEC", spec),
        ("FOCUS_SOURCE", source),
    ];
    let env = analyzer.env.get_or_insert_default();
    env.retain(|var| ours.iter().all(|(name, _)| var.name != *name));
    env.extend(ours.map(|(name, value)| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    }));
}

/// The number of a job's pod, from its name.
pub fn attempt(pod: &Pod) -> i32 {
    pod.name_any().rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// How many analyzers had failed in a row when `pod` was made, where it tells.
pub fn failures_before(pod: &Pod) -> Option<i32> {
    pod.labels().get(names::FAILURES_LABEL)?.parse().ok()
}

/// Whether `pod` is a child of `job`: the owner reference has its uid.
pub fn is_child(pod: &Pod, job: &FocusJob) -> bool {
    pod.owner_references().iter().any(|owner| Some(&owner.uid) == job.meta().uid.as_ref())
}

/// Whether the pod has been bound to a node.
pub fn is_scheduled(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// What `pod` is doing.
pub fn state(pod: &Pod) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    match status.phase.as_deref() {
        Some("Succeeded") => return PodState::Completed,
        Some("Failed") => return failure(pod),
        _ => {}
    }
    let conditions = status.conditions.unwrap_or_default();
    let condition = |type_: &str| conditions.iter().find(|c| c.type_ == type_);
    if condition("Ready").is_some_and(|c| c.status == "True") {
        return PodState::Ready;
    }
    if let Some(c) = condition("PodScheduled").filter(|c| c.status == "False") {
        return PodState::Blocked {
            reason: c.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned()),
            message: format!("the analyzer pod cannot be placed: {}", c.message.clone().unwrap_or_default()),
        };
    }
    let statuses =
        [status.init_container_statuses, status.container_statuses].into_iter().flatten().flatten();
    for container in statuses {
        if let Some(blocked) =
            container.state.as_ref().and_then(|state| waiting_trouble(&container.name, state))
        {
            return blocked;
        }
    }
    PodState::Starting
}

fn waiting_trouble(container: &str, state: &ContainerState) -> Option<PodState> {
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    if matches!(reason, "ContainerCreating" | "PodInitializing") {
        return None;
    }
    // A first failed pull and the wait after it are one cause.
    let reason = if reason == "ErrImagePull" { "ImagePullBackOff" } else { reason };
    let detail = waiting.message.clone().unwrap_or_default();
    Some(PodState::Blocked {
        reason: reason.to_owned(),
        message: format!("container {container} cannot start: {detail}"),
    })
}

fn failure(pod: &Pod) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    let ended = status
        .container_statuses
        .unwrap_or_default()
        .into_iter()
        .filter_map(|container| container.state.and_then(|state| state.terminated))
        .find(|terminated| terminated.exit_code != 0);
    if let Some(reason) = status.reason {
        let message = status.message.unwrap_or_else(|| "the kubelet ended the analyzer pod".to_owned());
        return PodState::Failed { reason, message, retry: true, ran_seconds: 0 };
    }
    let Some(ended) = ended else {
        let message = "the analyzer pod failed and its kubelet gave no cause".to_owned();
        return PodState::Failed { reason: "PodFailed".to_owned(), message, retry: true, ran_seconds: 0 };
    };
    let ran_seconds = match (&ended.started_at, &ended.finished_at) {
        (Some(from), Some(to)) => to.0.as_second() - from.0.as_second(),
        _ => 0,
    };
    let code = if ended.exit_code == 0 { UNKNOWN_EXIT } else { ended.exit_code };
    let text = ended.message.unwrap_or_default();
    let (reason, message) = split_reason(&text).unwrap_or_else(|| {
        let reason =
            ended.reason.filter(|reason| reason != "Error").unwrap_or_else(|| "AnalyzerFailed".to_owned());
        (reason, format!("the analyzer exited with code {code}: {}", last_line(&text)))
    });
    PodState::Failed { reason, message, retry: !USELESS_TO_RETRY.contains(&code), ran_seconds }
}

/// `CamelCaseReason: sentence`, as the contract asks of a termination message.
fn split_reason(text: &str) -> Option<(String, String)> {
    let (reason, message) = text.trim().split_once(": ")?;
    let camel = reason.starts_with(|c: char| c.is_ascii_uppercase())
        && reason.chars().all(|c| c.is_ascii_alphanumeric())
        && reason.len() <= 64;
    camel.then(|| (reason.to_owned(), message.to_owned()))
}

fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or("it left no message")
}
