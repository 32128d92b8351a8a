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
        let seconds = self.phases().map(|(_, from, to)| between(from, to));
        let [configure, pod, queue, consumer, total] = seconds;
        PhaseSeconds { configure, pod, queue, consumer, total }
    }

    /// The phases: name, and the milestones at which each begins and ends.
    pub fn phases(&self) -> [(&'static str, &Option<MicroTime>, &Option<MicroTime>); 5] {
        [
            ("configure", &self.configured_at, &self.accepted_at),
            ("pod", &self.accepted_at, &self.pod_ready_at),
            ("queue", &self.accepted_at, &self.queue_ready_at),
            ("consumer", &self.queue_ready_at, &self.consumer_ready_at),
            ("total", &self.configured_at, &self.ready_at),
        ]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn milestone() -> impl Strategy<Value = Option<MicroTime>> {
        prop::option::of((-1_000_000_000_i64..1_000_000_000).prop_map(|us| {
            MicroTime(Timestamp::from_microsecond(1_700_000_000_000_000 + us).unwrap_or_default())
        }))
    }

    fn timeline() -> impl Strategy<Value = Timeline> {
        prop::array::uniform9(milestone()).prop_map(|milestones| {
            let [a, b, c, d, e, f, g, h, i] = milestones;
            Timeline {
                configured_at: a,
                accepted_at: b,
                pod_created_at: c,
                pod_scheduled_at: d,
                pod_ready_at: e,
                queue_ready_at: f,
                consumer_ready_at: g,
                ready_at: h,
                finished_at: i,
            }
        })
    }

    /// Every milestone; a new field cannot be forgotten here.
    fn all(timeline: &Timeline) -> [Option<MicroTime>; 9] {
        let Timeline {
            configured_at,
            accepted_at,
            pod_created_at,
            pod_scheduled_at,
            pod_ready_at,
            queue_ready_at,
            consumer_ready_at,
            ready_at,
            finished_at,
        } = timeline.clone();
        [
            configured_at,
            accepted_at,
            pod_created_at,
            pod_scheduled_at,
            pod_ready_at,
            queue_ready_at,
            consumer_ready_at,
            ready_at,
            finished_at,
        ]
    }

    proptest! {
        #[test]
        fn merging_is_idempotent_and_associative(a in timeline(), b in timeline(), c in timeline()) {
            prop_assert_eq!(a.merged(&a), a.clone());
            prop_assert_eq!(a.merged(&b).merged(&b), a.merged(&b));
            prop_assert_eq!(a.merged(&b).merged(&c), a.merged(&b.merged(&c)));
            prop_assert_eq!(a.merged(&Timeline::default()), a.clone());
            prop_assert_eq!(Timeline::default().merged(&a), a);
        }

        #[test]
        fn the_first_write_wins(a in timeline(), b in timeline()) {
            for ((merged, first), second) in all(&a.merged(&b)).into_iter().zip(all(&a)).zip(all(&b)) {
                prop_assert_eq!(merged, first.or(second));
            }
        }

        #[test]
        fn a_phase_is_there_with_both_its_ends_and_never_negative(t in timeline()) {
            let ends = [
                ("configure", &t.configured_at, &t.accepted_at),
                ("pod", &t.accepted_at, &t.pod_ready_at),
                ("queue", &t.accepted_at, &t.queue_ready_at),
                ("consumer", &t.queue_ready_at, &t.consumer_ready_at),
                ("total", &t.configured_at, &t.ready_at),
            ];
            for ((phase, seconds), (name, from, to)) in t.phase_seconds().named().into_iter().zip(ends) {
                prop_assert_eq!(phase, name);
                prop_assert_eq!(seconds.is_some(), from.is_some() && to.is_some(), "{}", phase);
                prop_assert!(seconds.unwrap_or(0.0) >= 0.0, "{}", phase);
            }
        }

        #[test]
        fn a_milestone_survives_its_way_to_the_api_server(t in timeline()) {
            let text = serde_json::to_string(&t).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let back: Timeline =
                serde_json::from_str(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(back, t);
        }
    }
}
