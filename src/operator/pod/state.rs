//! What an analyzer pod is doing, and what is wrong with it.

use k8s_openapi::api::core::v1::{ContainerState, Pod};

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

    /// A pod with this status.
    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "spec": {"containers": []}, "status": status
        }))
        .unwrap()
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
}
