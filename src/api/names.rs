//! Names, labels and annotations that operator, server and analyzer agree on.

use std::time::Duration;

use kube::ResourceExt;

use super::FocusJob;

/// Annotation: when the Focus Server received the request (RFC 3339, microseconds).
pub const CONFIGURED_AT: &str = "focus-operator.io/configured-at";
/// Annotation on FocusJobs that the Focus Server made: the authenticated caller who asked for it.
pub const CALLER: &str = "focus-operator.io/caller";
/// Annotation: the W3C trace context (`traceparent`) that the job is a part of.
pub const TRACEPARENT: &str = "focus-operator.io/traceparent";
/// Annotation: what goes with it (`tracestate`).
pub const TRACESTATE: &str = "focus-operator.io/tracestate";
/// Annotation on FocusJobs: the AnalyzerPool's source as it was when the job was made, without where its samples come
/// from; a JSON object. The Focus Server reads the job's lines by it, whatever has become of the pool since.
pub const SOURCE: &str = "focus-operator.io/source";
/// Annotation: asks the operator to end the job; a JSON object of [`EndRequest`].
pub const END: &str = "focus-operator.io/end";
/// Finalizer: the job's queue is deleted before the job is.
pub const FINALIZER: &str = "focus-operator.io/queue";
/// Label on children: the FocusJob's name (its first 63 characters).
pub const JOB_LABEL: &str = "focus-operator.io/job";
/// Label on children: the FocusJob's uid.
pub const UID_LABEL: &str = "focus-operator.io/job-uid";
/// Label on pods: how many analyzers of the job had failed in a row when the pod was made.
pub const FAILURES_LABEL: &str = "focus-operator.io/failures";
/// Label on pods: the name of the AnalyzerPool.
pub const POOL_LABEL: &str = "focus-operator.io/pool";
/// Label on FocusJobs that the Focus Server made: the window, 0 to 29.
pub const WINDOW_LABEL: &str = "focus-operator.io/window";
/// Annotation on FocusJobs: the replica of the Focus Server that the job's consumer belongs to while it lives.
pub const SERVER: &str = "focus-operator.io/server";
/// Kubernetes' label for what part of the system an object is.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Label on FocusJobs that the Focus Server made for a request with an Idempotency-Key: the key's hash.
pub const KEY_LABEL: &str = "focus-operator.io/idempotency-key";
/// Name of the analyzer's container in the pod template.
pub const ANALYZER_CONTAINER: &str = "analyzer";

/// The reason of the end of a job whose analyzer has come to the end of its source.
pub const COMPLETED: &str = "Completed";
/// How long the queue of such a job is kept, so that the last of its lines are read.
pub const DRAIN: Duration = Duration::from_secs(5);

/// The reason for which the Focus Server asks that a job be ended.
#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct EndRequest {
    /// CamelCase cause, such as IdleTimeout or HeaderMismatch.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// true: the job failed; false: it ended as it should.
    pub failed: bool,
}

/// The queue's name: `focus.<namespace>.<name>.<uid>`. It is unique in the broker, tells a person whose it is,
/// and stays below RabbitMQ's 255 bytes (names are cut to 100 characters; the uid is whole).
pub fn queue_name(job: &FocusJob) -> String {
    let name: String = job.name_any().chars().take(100).collect();
    format!("focus.{}.{name}.{}", job.namespace().unwrap_or_default(), job.uid().unwrap_or_default())
}

/// The name of the job's pod number `attempt`, counted from 0: `<name>-<first 8 of the uid>-<attempt>`,
/// at most 63 characters.
pub fn pod_name(job: &FocusJob, attempt: i32) -> String {
    let uid: String = job.uid().unwrap_or_default().chars().take(8).collect();
    let tail = format!("-{uid}-{attempt}");
    let name = job.name_any().replace('.', "-");
    let head: String = name.chars().take(63 - tail.len()).collect();
    format!("{}{tail}", head.trim_end_matches('-'))
}

/// The value of a label: at most 63 characters, ending in a letter or digit.
pub fn label_value(text: &str) -> String {
    let cut: String = text.chars().take(63).collect();
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn job(name: &str) -> FocusJob {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "focus-operator.io/v1alpha1", "kind": "FocusJob",
            "metadata": {"name": name, "namespace": "fibre", "uid": "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"},
            "spec": {"viewType": "Waterfall", "channels": {"min": 1, "max": 8}, "nfftSelection": 1024}
        }))
        .unwrap()
    }

    #[test]
    fn a_queue_is_named_after_its_job_within_the_broker_s_limit() {
        let uid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        assert_eq!(queue_name(&job("view")), format!("focus.fibre.view.{uid}"));
        let mut longest = job(&"n".repeat(200));
        longest.metadata.namespace = Some("s".repeat(63));
        let name = queue_name(&longest);
        assert!(name.len() <= 255 && name.ends_with(uid), "{name}");
    }

    #[test]
    fn a_pod_is_named_after_its_job_within_63_characters() {
        let cases = [
            ("view", 0, "view-0a1b2c3d-0".to_owned()),
            ("a.view", 12, "a-view-0a1b2c3d-12".to_owned()),
            // 63 less the tail: what is cut may end in no hyphen.
            (&format!("{}-rest", "n".repeat(51)), 0, format!("{}-0a1b2c3d-0", "n".repeat(51))),
            (&"n".repeat(200), i32::MAX, format!("{}-0a1b2c3d-2147483647", "n".repeat(43))),
        ];
        for (name, attempt, expected) in cases {
            let made = pod_name(&job(name), attempt);
            assert!(made.len() <= 63, "{made}");
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn a_label_s_value_is_cut_to_what_a_label_takes() {
        let cases = [
            ("view", "view".to_owned()),
            ("", String::new()),
            (&format!("{}.b", "a".repeat(62)), "a".repeat(62)),
            (&"a".repeat(64), "a".repeat(63)),
        ];
        for (text, expected) in cases {
            assert_eq!(label_value(text), expected);
        }
    }
}
