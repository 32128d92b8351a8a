//! A job as `GET /jobs`, `GET /jobs/{job_id}` and the kubectl plugin show it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;
use utoipa::ToSchema;

use super::conditions::{self, ANALYZER_READY, CONSUMER_READY, FINISHED, QUEUE_READY, READY};
use super::focusjob::JobPhase;
use super::timeline::Timeline;
use super::{FocusJob, names};

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Waiting {
    /// `operator`, `analyzer`, `queue` or `consumer`.
    #[schema(example = "consumer")]
    pub phase: String,
    /// CamelCase cause; docs/troubleshooting.md explains each.
    #[schema(example = "NoConsumer")]
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// A condition of the FocusJob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConditionView {
    /// `AnalyzerReady`, `QueueReady`, `ConsumerReady`, `Ready` or `Finished`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True` or `False`.
    pub status: String,
    /// CamelCase cause.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when it has this status (RFC 3339, whole seconds).
    #[schema(format = DateTime)]
    pub since: String,
}

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct JobSummary {
    /// Name of the FocusJob.
    #[schema(example = "18-1795486283888")]
    pub job_id: String,
    /// `Pending`, `Starting`, `Ready`, `Degraded`, `Suspended`, `Finished`, `Failed` or `Terminating`.
    #[schema(example = "Ready")]
    pub state: String,
    /// The window, if the job was configured here.
    #[schema(required)]
    pub window: Option<u16>,
    /// When the FocusJob was created (RFC 3339).
    #[schema(required, format = DateTime)]
    pub created_at: Option<String>,
    /// What it waits for; null when it is ready or over.
    #[schema(required)]
    pub waiting_for: Option<Waiting>,
    /// From the request to Ready, s; null until then.
    #[schema(required)]
    pub total_seconds: Option<f64>,
}

/// All of a job.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct JobDetails {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Name of the AnalyzerPool.
    pub pool: String,
    /// What happens, in a sentence.
    #[schema(example = "The job waits for its consumer: the queue has no consumer yet.")]
    pub explanation: String,
    /// When each milestone was reached (RFC 3339, microseconds), as in `status.timeline`.
    pub timeline: BTreeMap<&'static str, String>,
    /// How long each phase took, s: `configure`, `pod`, `queue`, `consumer`, `total`.
    pub phase_seconds: BTreeMap<&'static str, f64>,
    /// The conditions.
    pub conditions: Vec<ConditionView>,
    /// The FocusJob's spec.
    #[schema(value_type = Object)]
    pub spec: serde_json::Value,
}

/// Where the job stands, in one word.
pub fn state(job: &FocusJob) -> JobPhase {
    if job.metadata.deletion_timestamp.is_some() {
        return JobPhase::Terminating;
    }
    job.status.as_ref().and_then(|status| status.phase).unwrap_or(JobPhase::Pending)
}

/// `job` in a list.
pub fn summary(job: &FocusJob) -> JobSummary {
    JobSummary {
        job_id: job.name_any(),
        state: state(job).as_str().to_owned(),
        window: job.labels().get(names::WINDOW_LABEL).and_then(|window| window.parse().ok()),
        created_at: job.creation_timestamp().map(|at| at.0.to_string()),
        waiting_for: waiting(job),
        total_seconds: job.status.as_ref().and_then(|status| status.phase_seconds.total),
    }
}

/// All of `job`.
pub fn details(job: &FocusJob) -> JobDetails {
    let status = job.status.clone().unwrap_or_default();
    let timeline = milestones(&status.timeline).map(|(name, at, _)| (name, micros(&at)));
    let seconds = status.phase_seconds.named().into_iter().filter_map(|(name, s)| Some((name, s?)));
    JobDetails {
        summary: summary(job),
        pool: job.spec.pool.clone(),
        explanation: explanation(job),
        timeline: timeline.collect(),
        phase_seconds: seconds.collect(),
        conditions: status.conditions.iter().map(condition).collect(),
        spec: serde_json::to_value(&job.spec).unwrap_or_default(),
    }
}

/// A condition as it is shown.
pub fn condition(condition: &Condition) -> ConditionView {
    ConditionView {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time.0.to_string(),
    }
}

/// The milestones that were reached: name, time, and the phase that ends with it.
pub fn milestones(
    timeline: &Timeline,
) -> impl Iterator<Item = (&'static str, MicroTime, Option<&'static str>)> {
    [
        ("configuredAt", &timeline.configured_at, None),
        ("acceptedAt", &timeline.accepted_at, Some("configure")),
        ("podCreatedAt", &timeline.pod_created_at, None),
        ("podScheduledAt", &timeline.pod_scheduled_at, None),
        ("podReadyAt", &timeline.pod_ready_at, Some("pod")),
        ("queueReadyAt", &timeline.queue_ready_at, Some("queue")),
        ("consumerReadyAt", &timeline.consumer_ready_at, Some("consumer")),
        ("readyAt", &timeline.ready_at, Some("total")),
        ("finishedAt", &timeline.finished_at, None),
    ]
    .map(|(name, at, phase)| at.clone().map(|at| (name, at, phase)))
    .into_iter()
    .flatten()
}

/// A time as `status.timeline` writes it.
pub fn micros(at: &MicroTime) -> String {
    format!("{:.6}", at.0)
}

/// What a job that is neither ready nor over waits for.
pub fn waiting(job: &FocusJob) -> Option<Waiting> {
    if matches!(
        state(job),
        JobPhase::Ready | JobPhase::Suspended | JobPhase::Finished | JobPhase::Failed | JobPhase::Terminating
    ) {
        return None;
    }
    let list = job.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let missing = [(ANALYZER_READY, "analyzer"), (QUEUE_READY, "queue"), (CONSUMER_READY, "consumer")]
        .map(|(type_, phase)| (conditions::find(list, type_).filter(|c| c.status != "True"), phase));
    // A cause for concern is told rather than what is merely under way.
    let (found, phase) = missing
        .iter()
        .find(|(c, _)| c.is_some_and(|c| !conditions::UNDER_WAY.contains(&c.reason.as_str())))
        .or_else(|| missing.iter().find(|(c, _)| c.is_some()))
        .copied()
        .unwrap_or((conditions::find(list, READY).filter(|c| c.status != "True"), "operator"));
    Some(match found {
        Some(c) => Waiting { phase: phase.to_owned(), reason: c.reason.clone(), message: c.message.clone() },
        None => Waiting {
            phase: "operator".to_owned(),
            reason: "NotAccepted".to_owned(),
            message: "the operator has not taken up the job yet".to_owned(),
        },
    })
}

/// Since when a job has waited for what [`waiting`] names.
///
/// A condition knows whole seconds, and that it was not True from the start; what the job waits for began when the
/// milestone before it was reached, if that is later.
pub fn waiting_since(job: &FocusJob) -> Option<Timestamp> {
    let waiting = waiting(job)?;
    let status = job.status.clone().unwrap_or_default();
    let (type_, milestone) = match waiting.phase.as_str() {
        "analyzer" => (ANALYZER_READY, status.timeline.accepted_at),
        "queue" => (QUEUE_READY, status.timeline.accepted_at),
        "consumer" => (CONSUMER_READY, status.timeline.queue_ready_at),
        _ => (READY, status.timeline.configured_at),
    };
    let changed = conditions::find(&status.conditions, type_).map(|c| c.last_transition_time.0);
    changed.max(milestone.map(|at| at.0)).or_else(|| job.creation_timestamp().map(|at| at.0))
}

/// Whether what is awaited is more than merely under way.
pub fn is_concern(waiting: &Waiting) -> bool {
    waiting.reason != "NotAccepted" && !conditions::UNDER_WAY.contains(&waiting.reason.as_str())
}

/// What happens, in a sentence.
pub fn explanation(job: &FocusJob) -> String {
    if let Some(waiting) = waiting(job) {
        let of = if waiting.phase == "operator" { "the" } else { "its" };
        return format!(
            "The job waits for {of} {}: {} ({}).",
            waiting.phase, waiting.message, waiting.reason
        );
    }
    let list = job.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let end = conditions::find(list, FINISHED).map(|c| format!(": {} ({})", c.message, c.reason));
    match state(job) {
        JobPhase::Ready => "Analyzer, queue and consumer are there: lines are coming.".to_owned(),
        JobPhase::Suspended => "The job is suspended by spec.suspend.".to_owned(),
        JobPhase::Finished => format!("The job has ended as it should{}.", end.unwrap_or_default()),
        JobPhase::Failed => format!("The job has failed{}.", end.unwrap_or_default()),
        JobPhase::Terminating => "The job is being deleted.".to_owned(),
        JobPhase::Pending | JobPhase::Starting | JobPhase::Degraded => String::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::api::FocusJobStatus;
    use crate::api::conditions::Verdict;
    use crate::api::timeline::micro;

    /// A job of that phase and with these conditions: type, status and reason.
    pub fn job(phase: Option<JobPhase>, verdicts: &[(&'static str, bool, &str)]) -> FocusJob {
        let spec = json!({
            "viewType": "MultiChannel", "channels": {"min": 1, "max": 8}, "nfftSelection": 1024,
            "frequencyRange": {"min": 0, "max": 500}, "displayTimeAxisDuration": 10
        });
        let mut job = FocusJob::new("18-3", serde_json::from_value(spec).unwrap());
        let verdicts: Vec<_> = verdicts
            .iter()
            .map(|(type_, is, reason)| Verdict::new(type_, *is, *reason, "so it is"))
            .collect();
        let conditions = conditions::merge(&[], &verdicts, None, Timestamp::UNIX_EPOCH);
        job.status = Some(FocusJobStatus { phase, conditions, ..FocusJobStatus::default() });
        job
    }

    #[test]
    fn what_a_job_waits_for_is_told_by_its_worst_condition() {
        use JobPhase::{Degraded, Finished, Ready, Starting};
        let not = |type_, reason| (type_, false, reason);
        let cases = [
            (None, vec![], Some(("operator", "NotAccepted"))),
            (
                Some(Starting),
                vec![not(ANALYZER_READY, "Starting"), not(QUEUE_READY, "Declaring")],
                Some(("analyzer", "Starting")),
            ),
            (
                Some(Starting),
                vec![not(ANALYZER_READY, "Starting"), not(QUEUE_READY, "BrokerUnreachable")],
                Some(("queue", "BrokerUnreachable")),
            ),
            (
                Some(Starting),
                vec![
                    (ANALYZER_READY, true, "Ready"),
                    (QUEUE_READY, true, "Ready"),
                    not(CONSUMER_READY, "NoConsumer"),
                ],
                Some(("consumer", "NoConsumer")),
            ),
            (Some(Degraded), vec![not(ANALYZER_READY, "CrashLoop")], Some(("analyzer", "CrashLoop"))),
            (Some(Ready), vec![(READY, true, "Ready")], None),
            (Some(Finished), vec![(FINISHED, true, "Completed"), not(ANALYZER_READY, "Completed")], None),
        ];
        for (phase, verdicts, expected) in cases {
            let found = waiting(&job(phase, &verdicts));
            let found = found.as_ref().map(|w| (w.phase.as_str(), w.reason.as_str()));
            assert_eq!(found, expected, "{verdicts:?}");
        }
    }

    #[test]
    fn a_wait_begins_with_the_milestone_before_it_or_with_the_loss() {
        let second = |s: i64| Timestamp::from_second(s).unwrap();
        let mut waits = job(Some(JobPhase::Starting), &[(CONSUMER_READY, false, "NoConsumer")]);
        assert_eq!(waiting_since(&waits), Some(second(0)), "the condition's own time");
        let timeline = &mut waits.status.as_mut().unwrap().timeline;
        timeline.queue_ready_at = Some(micro(Timestamp::from_microsecond(1_250_000).unwrap()));
        assert_eq!(waiting_since(&waits), Timestamp::from_microsecond(1_250_000).ok());
        waits.status.as_mut().unwrap().conditions[0].last_transition_time = Time(second(90));
        assert_eq!(waiting_since(&waits), Some(second(90)), "lost later");
        let mut unseen = job(None, &[]);
        assert_eq!(waiting_since(&unseen), None);
        unseen.metadata.creation_timestamp = Some(Time(second(7)));
        assert_eq!(waiting_since(&unseen), Some(second(7)));
        assert_eq!(waiting_since(&job(Some(JobPhase::Ready), &[(READY, true, "Ready")])), None);
    }

    #[test]
    fn a_job_is_shown_with_its_times_and_a_sentence() {
        let mut shown = job(Some(JobPhase::Starting), &[(CONSUMER_READY, false, "NoConsumer")]);
        let status = shown.status.get_or_insert_default();
        let at = |us| Some(micro(Timestamp::from_microsecond(us).unwrap_or_default()));
        status.timeline =
            Timeline { configured_at: at(1_500_000), accepted_at: at(1_750_000), ..Timeline::default() };
        status.phase_seconds = status.timeline.phase_seconds();
        shown.metadata.labels = Some([(names::WINDOW_LABEL.to_owned(), "18".to_owned())].into());
        let details = details(&shown);
        assert_eq!(details.explanation, "The job waits for its consumer: so it is (NoConsumer).");
        assert_eq!(details.timeline["acceptedAt"], "1970-01-01T00:00:01.750000Z");
        assert_eq!((details.timeline.len(), details.phase_seconds["configure"]), (2, 0.25));
        let json = serde_json::to_value(&details).unwrap_or_default();
        assert_eq!(
            (&json["job_id"], &json["state"], &json["window"]),
            (&"18-3".into(), &"Starting".into(), &18.into())
        );
        assert_eq!(json["conditions"][0]["since"], "1970-01-01T00:00:00Z");
        assert_eq!(json["spec"]["nfftSelection"], 1024);

        shown.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!((state(&shown), waiting(&shown)), (JobPhase::Terminating, None));
        let failed = job(Some(JobPhase::Failed), &[(FINISHED, true, "HeaderMismatch")]);
        assert_eq!(explanation(&failed), "The job has failed: so it is (HeaderMismatch).");
    }
}
