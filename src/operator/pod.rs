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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn job() -> FocusJob {
        serde_json::from_value(json!({
            "apiVersion": "focus-operator.io/v1alpha1", "kind": "FocusJob",
            "metadata": {"name": "view", "namespace": "fibre", "uid": "0a1b2c3d-0000"},
            "spec": {"viewType": "Waterfall", "channels": {"min": 1, "max": 8}, "nfftSelection": 1024}
        }))
        .unwrap()
    }

    fn pool(template: Value) -> AnalyzerPool {
        serde_json::from_value(json!({
            "apiVersion": "focus-operator.io/v1alpha1", "kind": "AnalyzerPool",
            "metadata": {"name": "default", "namespace": "fibre"},
            "spec": {
                "source": {"uri": "synthetic:", "sampleRateHz": 1000.0, "channels": 64, "dxMeters": 1.0},
                "template": template
            }
        }))
        .unwrap()
    }

    /// A pod with this status.
    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "view-0a1b2c3d-3"}, "spec": {"containers": []}, "status": status
        }))
        .unwrap()
    }

    #[test]
    fn the_pod_is_the_template_with_what_is_ours() {
        let template = json!({
            "metadata": {
                "name": "theirs", "generateName": "theirs-",
                "labels": {"team": "das", "focus-operator.io/job": "theirs"}, "annotations": {"kept": "yes"}
            },
            "spec": {
                "restartPolicy": "Always", "nodeName": "n1",
                "containers": [
                    {"name": "sidecar", "image": "other"},
                    {"name": "analyzer", "image": "focus", "env": [
                        {"name": "FOCUS_QUEUE", "value": "theirs"}, {"name": "FOCUS_BROKER_URL", "value": "kept"}
                    ]}
                ]
            }
        });
        let pool = pool(template);
        let pod = build(&job(), &pool, 2).unwrap();
        assert_eq!((pod.name_any(), pod.namespace()), ("view-0a1b2c3d-2".into(), Some("fibre".into())));
        assert_eq!((&pod.metadata.generate_name, attempt(&pod)), (&None, 2));
        assert_eq!(pod.annotations()["kept"], "yes");
        let labels = pod.labels();
        for (name, value) in [
            ("team", "das"),
            (names::JOB_LABEL, "view"),
            (names::UID_LABEL, "0a1b2c3d-0000"),
            (names::POOL_LABEL, "default"),
            ("app.kubernetes.io/managed-by", "focus-operator"),
            ("app.kubernetes.io/name", "focus-analyzer"),
        ] {
            assert_eq!(labels[name], value, "{name}");
        }
        let owner = &pod.owner_references()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("FocusJob", "0a1b2c3d-0000"));
        assert_eq!((owner.controller, pod.owner_references().len()), (Some(true), 1));
        assert!(is_child(&pod, &job()) && is_scheduled(&pod));

        let spec = pod.spec.unwrap();
        assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
        assert_eq!(
            (spec.automount_service_account_token, spec.enable_service_links),
            (Some(false), Some(false))
        );
        assert_eq!(spec.containers[0].env, None);
        let analyzer = &spec.containers[1];
        assert_eq!(analyzer.termination_message_policy.as_deref(), Some("FallbackToLogsOnError"));
        let value = |name: &str| {
            let found: Vec<_> = analyzer.env.iter().flatten().filter(|var| var.name == name).collect();
            assert_eq!(found.len(), 1, "{name}");
            found[0].value.clone().unwrap()
        };
        assert_eq!(value("FOCUS_BROKER_URL"), "kept");
        assert_eq!(value("FOCUS_QUEUE"), names::queue_name(&job()));
        assert_eq!(value("FOCUS_JOB_NAME"), "view");
        assert_eq!(value("FOCUS_JOB_NAMESPACE"), "fibre");
        assert_eq!(value("FOCUS_JOB_UID"), "0a1b2c3d-0000");
        let spec: crate::api::FocusJobSpec = serde_json::from_str(&value("FOCUS_SPEC")).unwrap();
        assert_eq!(spec, job().spec);
        let source: crate::api::AnalyzerSource = serde_json::from_str(&value("FOCUS_SOURCE")).unwrap();
        assert_eq!(source, pool.spec.source);
    }

    #[test]
    fn a_choice_of_the_template_stays() {
        let template = json!({"spec": {
            "automountServiceAccountToken": true, "enableServiceLinks": true,
            "containers": [{"name": "analyzer", "terminationMessagePolicy": "File"}]
        }});
        let spec = build(&job(), &pool(template), 0).unwrap().spec.unwrap();
        assert_eq!(
            (spec.automount_service_account_token, spec.enable_service_links),
            (Some(true), Some(true))
        );
        assert_eq!(spec.containers[0].termination_message_policy.as_deref(), Some("File"));
    }

    #[test]
    fn a_template_without_an_analyzer_is_answered_with_a_sentence() {
        for template in [json!({}), json!({"spec": {"containers": [{"name": "other"}]}})] {
            let why = build(&job(), &pool(template), 0).unwrap_err();
            assert_eq!(why, "AnalyzerPool default has no container named analyzer in its template; add one");
        }
    }

    #[test]
    fn the_longest_job_makes_a_valid_pod() {
        let mut job = job();
        job.metadata.name = Some(format!("{}.{}", "n".repeat(50), "m".repeat(149)));
        let pod = build(&job, &pool(json!({"spec": {"containers": [{"name": "analyzer"}]}})), 999).unwrap();
        assert!(pod.name_any().len() <= 63 && !pod.name_any().contains('.'), "{}", pod.name_any());
        assert_eq!(attempt(&pod), 999);
        assert!(pod.labels().values().all(|value| value.len() <= 63), "{:?}", pod.labels());
    }

    fn blocked(reason: &str, message: &str) -> PodState {
        PodState::Blocked { reason: reason.into(), message: message.into() }
    }

    #[test]
    fn what_a_pod_is_doing() {
        let waiting = |reason: &str| {
            json!({"containerStatuses": [{
                "name": "analyzer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": "m"}}
            }]})
        };
        let mut init = waiting("ImagePullBackOff");
        init["initContainerStatuses"] = init["containerStatuses"].take();
        let is = |type_: &str, status: &str| {
            json!({"phase": "Running", "conditions": [
                {"type": type_, "status": status, "reason": "Unschedulable", "message": "0/1 nodes"}
            ]})
        };
        let cases = [
            (json!({}), PodState::Starting),
            (json!({"phase": "Pending"}), PodState::Starting),
            (is("Ready", "True"), PodState::Ready),
            (is("Ready", "False"), PodState::Starting),
            (
                is("PodScheduled", "False"),
                blocked("Unschedulable", "the analyzer pod cannot be placed: 0/1 nodes"),
            ),
            (is("PodScheduled", "True"), PodState::Starting),
            (waiting("ContainerCreating"), PodState::Starting),
            (waiting("PodInitializing"), PodState::Starting),
            (waiting("ErrImagePull"), blocked("ImagePullBackOff", "container analyzer cannot start: m")),
            (init, blocked("ImagePullBackOff", "container analyzer cannot start: m")),
            (
                waiting("CreateContainerError"),
                blocked("CreateContainerError", "container analyzer cannot start: m"),
            ),
            (json!({"phase": "Succeeded"}), PodState::Completed),
        ];
        for (status, expected) in cases {
            assert_eq!(state(&pod(status.clone())), expected, "{status}");
        }
    }

    #[test]
    fn why_a_pod_failed() {
        let ended = |code: i32, reason: &str, message: &str| {
            json!({"phase": "Failed", "containerStatuses": [{
                "name": "analyzer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {
                    "exitCode": code, "reason": reason, "message": message,
                    "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:15Z"
                }}
            }]})
        };
        let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
        let cases = [
            (evicted, "Evicted", "low on memory", true, 0),
            (
                json!({"phase": "Failed"}),
                "PodFailed",
                "the analyzer pod failed and its kubelet gave no cause",
                true,
                0,
            ),
            (ended(65, "Error", "RecordingTooShort: 1 s\n"), "RecordingTooShort", "1 s", false, 75),
            (ended(64, "Error", "BadSpec: no"), "BadSpec", "no", false, 75),
            (ended(1, "Error", "SourceGone: no"), "SourceGone", "no", true, 75),
            (
                ended(1, "Error", "log line\nthread panicked\n"),
                "AnalyzerFailed",
                "the analyzer exited with code 1: thread panicked",
                true,
                75,
            ),
            (
                ended(137, "OOMKilled", ""),
                "OOMKilled",
                "the analyzer exited with code 137: it left no message",
                true,
                75,
            ),
        ];
        for (status, reason, message, retry, ran_seconds) in cases {
            let expected =
                PodState::Failed { reason: reason.into(), message: message.into(), retry, ran_seconds };
            assert_eq!(state(&pod(status)), expected);
        }
    }

    #[test]
    fn a_reason_is_split_off_where_there_is_one() {
        let cases = [
            ("RecordingTooShort: 1 s is there", Some(("RecordingTooShort", "1 s is there"))),
            (" Http404: a: b \n", Some(("Http404", "a: b"))),
            ("not camel: case", None),
            ("lower: case", None),
            ("NoColon", None),
            ("NoSpace:here", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(reason, message)| (reason.to_owned(), message.to_owned()));
            assert_eq!(split_reason(text), expected, "{text}");
        }
        assert_eq!(split_reason(&format!("{}: too long", "A".repeat(65))), None);
    }

    #[test]
    fn the_attempt_is_read_from_the_name() {
        for (name, expected) in [("view-0a1b2c3d-3", 3), ("view-x", 0), ("view", 0), ("v-99999999999", 0)] {
            let mut pod = pod(json!({}));
            pod.metadata.name = Some(name.into());
            assert_eq!(attempt(&pod), expected, "{name}");
        }
        let mut counted = pod(json!({}));
        assert_eq!(failures_before(&counted), None);
        counted.labels_mut().insert(names::FAILURES_LABEL.into(), "4".into());
        assert_eq!(failures_before(&counted), Some(4));
    }
}
