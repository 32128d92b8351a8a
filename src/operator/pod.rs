//! The analyzer pod: how it is made from the pool's template, and what it is doing. Pure.

mod state;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodTemplateSpec};
use kube::{Resource, ResourceExt};

use crate::api::names::{self, ANALYZER_CONTAINER};
use crate::api::{AnalyzerPool, FocusJob};

pub use state::{PodState, state};

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
        (names::COMPONENT_LABEL, "analyzer".to_owned()),
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
    set(analyzer, ours.into());
}

/// Gives the analyzer of `pod` these variables too; what the pod says of the same names gives way.
pub fn set_environment(pod: &mut Pod, variables: Vec<(&str, String)>) {
    let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    if let Some(analyzer) = containers.into_iter().find(|container| container.name == ANALYZER_CONTAINER) {
        set(analyzer, variables);
    }
}

fn set(container: &mut Container, variables: Vec<(&str, String)>) {
    let env = container.env.get_or_insert_default();
    env.retain(|var| variables.iter().all(|(name, _)| var.name != *name));
    env.extend(variables.into_iter().map(|(name, value)| EnvVar {
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
    fn a_variable_given_later_takes_the_place_of_the_template_s() {
        let template = json!({"spec": {"containers": [
            {"name": "other"}, {"name": "analyzer", "env": [{"name": "TRACEPARENT", "value": "theirs"}]}
        ]}});
        let mut pod = build(&job(), &pool(template), 0).unwrap();
        set_environment(&mut pod, vec![("TRACEPARENT", "ours".to_owned())]);
        let containers = pod.spec.unwrap().containers;
        assert_eq!(containers[0].env, None);
        let of_name = containers[1].env.iter().flatten().filter(|var| var.name == "TRACEPARENT");
        assert_eq!(of_name.map(|var| var.value.as_deref()).collect::<Vec<_>>(), [Some("ours")]);
        // A pod without an analyzer is left alone.
        set_environment(&mut Pod::default(), vec![("TRACEPARENT", "ours".to_owned())]);
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

    #[test]
    fn the_attempt_is_read_from_the_name() {
        for (name, expected) in [("view-0a1b2c3d-3", 3), ("view-x", 0), ("view", 0), ("v-99999999999", 0)] {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.into());
            assert_eq!(attempt(&pod), expected, "{name}");
        }
        let mut counted = Pod::default();
        assert_eq!(failures_before(&counted), None);
        counted.labels_mut().insert(names::FAILURES_LABEL.into(), "4".into());
        assert_eq!(failures_before(&counted), Some(4));
    }
}
