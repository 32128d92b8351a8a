//! The milestones of a job and the phases between them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// When each milestone was first seen: microseconds, by the operator's clock at the moment its watch or its
/// broker connection delivered the news (Kubernetes' own times are whole seconds). The first write wins and is
/// never rewritten, also not by a restart.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// The Focus Server received the request; for `kubectl apply`, the operator's first sight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured_at: Option<MicroTime>,
    /// The operator's first sight of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<MicroTime>,
    /// The analyzer pod was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_created_at: Option<MicroTime>,
    /// The analyzer pod was bound to a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_scheduled_at: Option<MicroTime>,
    /// The analyzer pod was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_ready_at: Option<MicroTime>,
    /// The broker confirmed the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_ready_at: Option<MicroTime>,
    /// A consumer was attached to the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_ready_at: Option<MicroTime>,
    /// Pod ready, queue there and consumer attached, all at once, for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<MicroTime>,
    /// The job ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<MicroTime>,
}

/// How long each phase took, s.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct PhaseSeconds {
    /// From configuredAt to acceptedAt, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configure: Option<f64>,
    /// From acceptedAt to podReadyAt, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<f64>,
    /// From acceptedAt to queueReadyAt, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<f64>,
    /// From queueReadyAt to consumerReadyAt, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<f64>,
    /// From configuredAt to readyAt, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
}

impl Timeline {
    /// Takes every milestone of `self`, and from `seen` those that `self` lacks: the first write wins.
    pub fn merged(&self, seen: &Timeline) -> Timeline {
        let first = |a: &Option<MicroTime>, b: &Option<MicroTime>| a.clone().or_else(|| b.clone());
        Timeline {
            configured_at: first(&self.configured_at, &seen.configured_at),
            accepted_at: first(&self.accepted_at, &seen.accepted_at),
            pod_created_at: first(&self.pod_created_at, &seen.pod_created_at),
            pod_scheduled_at: first(&self.pod_scheduled_at, &seen.pod_scheduled_at),
            pod_ready_at: first(&self.pod_ready_at, &seen.pod_ready_at),
            queue_ready_at: first(&self.queue_ready_at, &seen.queue_ready_at),
            consumer_ready_at: first(&self.consumer_ready_at, &seen.consumer_ready_at),
            ready_at: first(&self.ready_at, &seen.ready_at),
            finished_at: first(&self.finished_at, &seen.finished_at),
        }
    }

    /// The phases between the milestones that are known. None is negative: a milestone that was seen out of
    /// order (a consumer that was there before the queue's confirmation) makes a phase of 0 s.
    pub fn phase_seconds(&self) -> PhaseSeconds {
        PhaseSeconds {
            configure: between(&self.configured_at, &self.accepted_at),
            pod: between(&self.accepted_at, &self.pod_ready_at),
            queue: between(&self.accepted_at, &self.queue_ready_at),
            consumer: between(&self.queue_ready_at, &self.consumer_ready_at),
            total: between(&self.configured_at, &self.ready_at),
        }
    }
}

impl PhaseSeconds {
    /// The phases by name, as the metric's label `phase` has them.
    pub fn named(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("configure", self.configure),
            ("pod", self.pod),
            ("queue", self.queue),
            ("consumer", self.consumer),
            ("total", self.total),
        ]
    }
}

/// Seconds from `from` to `to`, at least 0.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_microsecond().saturating_sub(from.as_microsecond()) as f64 / 1e6).max(0.0)
}

fn between(from: &Option<MicroTime>, to: &Option<MicroTime>) -> Option<f64> {
    Some(seconds_between(from.as_ref()?.0, to.as_ref()?.0))
}

/// `t` cut to microseconds, which is what a MicroTime keeps.
pub fn micro(t: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(t.as_microsecond()).unwrap_or(t))
}
