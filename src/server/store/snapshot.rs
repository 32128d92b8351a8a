//! What a FocusJob says of its job at one moment. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::api::focusjob::JobPhase;
use crate::api::timeline::{PhaseSeconds, Timeline};
use crate::api::{FocusJob, FocusJobSpec, conditions, names};
use crate::server::jobs::over;

/// State of a record from the moment it is stored until its FocusJob is seen.
pub const CONFIGURED: &str = "Configured";
/// Last state of a job whose FocusJob was deleted before the job had ended.
pub const DELETED: &str = "Deleted";
/// Last state of a job whose FocusJob was found to be gone, nobody having seen it end.
pub const VANISHED: &str = "Vanished";

/// Where a job stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The word of `status.phase`, or one of the three above.
    pub state: String,
    /// CamelCase cause.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
}

impl State {
    /// `state` because of `reason`.
    pub fn new(state: &str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { state: state.to_owned(), reason: reason.into(), message: message.into() }
    }

    /// Whether `other` is the same state for the same reason, whatever the words.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.state, &self.reason) == (&other.state, &other.reason)
    }
}

/// A job at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// `_id` of its record.
    pub id: String,
    /// The FocusJob's namespace.
    pub namespace: String,
    /// The FocusJob's name: the job id.
    pub job: String,
    /// metadata.uid.
    pub uid: String,
    /// metadata.resourceVersion as a number; 0 when it is none.
    pub version: i64,
    /// The window of a job that a server made.
    pub window: Option<u16>,
    /// The view.
    pub spec: FocusJobSpec,
    /// When it was asked for.
    pub configured_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// Since when, as exactly as is known.
    pub since: Timestamp,
    /// Whether it holds its window.
    pub live: bool,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its milestones.
    pub timeline: Timeline,
    /// How long each phase took.
    pub phase_seconds: PhaseSeconds,
}

impl Snapshot {
    /// What `job`, seen at `now`, says.
    pub fn of(job: &FocusJob, now: Timestamp) -> Self {
        let (list, timeline, phase_seconds) = match &job.status {
            Some(status) => {
                (status.conditions.as_slice(), status.timeline.clone(), status.phase_seconds.clone())
            }
            None => (&[][..], Timeline::default(), PhaseSeconds::default()),
        };
        let finished = conditions::find(list, conditions::FINISHED).filter(|c| c.status == "True");
        let ended_at = finished.map(|condition| end(condition, &timeline));
        Self {
            id: record_id(job),
            namespace: job.namespace().unwrap_or_default(),
            job: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            version: job.resource_version().and_then(|v| v.parse().ok()).unwrap_or(0),
            window: window(job),
            spec: job.spec.clone(),
            configured_at: configured_at(job, &timeline, now),
            state: state(job, list),
            since: ended_at.or_else(|| first_ready(list, &timeline)).unwrap_or(now),
            live: over(job).is_none_or(|awaited| awaited.phase == "suspended"),
            ended_at,
            timeline,
            phase_seconds,
        }
    }

    /// The job's end when its FocusJob has been deleted, as seen at `now`. One that had ended before stays so.
    pub fn deleted(self, now: Timestamp) -> Self {
        if self.ended_at.is_some() {
            return self;
        }
        let state = State::new(DELETED, "Deleted", "the FocusJob was deleted before the job had ended");
        Self { state, since: now, live: false, ended_at: Some(now), ..self }
    }

    /// Whether a record made of `other` needs no change to tell of `self`.
    pub fn says_the_same(&self, other: &Self) -> bool {
        *self == Self { version: self.version, since: self.since, ..other.clone() }
    }
}

/// `_id` of the record: `<namespace>/<name>`, which a server knows before it makes the FocusJob. Names that people
/// give come again, so that the uid is added to those.
pub fn record_id(job: &FocusJob) -> String {
    let id = claim_id(&job.namespace().unwrap_or_default(), &job.name_any());
    match window(job) {
        Some(_) => id,
        None => format!("{id}/{}", job.uid().unwrap_or_default()),
    }
}

/// `_id` of the record of a job that a server makes.
pub fn claim_id(namespace: &str, job: &str) -> String {
    format!("{namespace}/{job}")
}

/// The window, when a server gave it.
fn window(job: &FocusJob) -> Option<u16> {
    job.annotations().get(names::CONFIGURED_AT)?;
    job.labels().get(names::WINDOW_LABEL)?.parse().ok()
}

fn configured_at(job: &FocusJob, timeline: &Timeline, now: Timestamp) -> Timestamp {
    let annotated = job.annotations().get(names::CONFIGURED_AT).and_then(|text| text.parse().ok());
    annotated
        .or_else(|| timeline.configured_at.as_ref().map(|at| at.0))
        .or_else(|| job.creation_timestamp().map(|at| at.0))
        .unwrap_or(now)
}

fn state(job: &FocusJob, list: &[Condition]) -> State {
    let phase = job.status.as_ref().and_then(|status| status.phase).unwrap_or(JobPhase::Pending);
    let ended = matches!(phase, JobPhase::Finished | JobPhase::Failed);
    if !ended && job.metadata.deletion_timestamp.is_some() {
        return State::new(JobPhase::Terminating.as_str(), "Deleted", "the FocusJob is being deleted");
    }
    let speaks = if ended { conditions::FINISHED } else { conditions::READY };
    match conditions::find(list, speaks) {
        Some(condition) => State::new(phase.as_str(), &condition.reason, &condition.message),
        None => State::new(phase.as_str(), "NotAccepted", "the operator has not taken up the job yet"),
    }
}

fn end(finished: &Condition, timeline: &Timeline) -> Timestamp {
    timeline.finished_at.as_ref().map_or(finished.last_transition_time.0, |at| at.0)
}

/// The milestone of a job that is ready for the first time: exact, where our own clock is not.
fn first_ready(list: &[Condition], timeline: &Timeline) -> Option<Timestamp> {
    let ready = conditions::find(list, conditions::READY).filter(|c| c.status == "True")?;
    let milestone = timeline.ready_at.as_ref()?.0;
    // The condition's time is a whole second.
    let apart = milestone.as_second() - ready.last_transition_time.0.as_second();
    (apart.abs() <= 1).then_some(milestone)
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

    use super::*;
    use crate::api::FocusJobStatus;
    use crate::api::conditions::Verdict;
    use crate::server::answer::tests::spec;

    pub fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A job that a server made in window 18, at version 7.
    pub fn job() -> FocusJob {
        let mut job = FocusJob::new("18-1", spec(8));
        job.metadata.namespace = Some("fibre".to_owned());
        job.metadata.uid = Some("u1".to_owned());
        job.metadata.resource_version = Some("7".to_owned());
        job.metadata.labels = Some([(names::WINDOW_LABEL.to_owned(), "18".to_owned())].into());
        job.metadata.annotations = Some([(names::CONFIGURED_AT.to_owned(), at(0).to_string())].into());
        job
    }

    /// `job` with a status of `phase`, whose condition `type_` is True with `reason` since `since`.
    pub fn with(
        mut job: FocusJob,
        phase: JobPhase,
        type_: &'static str,
        reason: &str,
        since: i64,
    ) -> FocusJob {
        let verdict = Verdict::new(type_, true, reason, "so it is");
        let conditions = conditions::merge(&[], &[verdict], None, at(since));
        job.status = Some(FocusJobStatus { phase: Some(phase), conditions, ..FocusJobStatus::default() });
        job
    }

    #[test]
    fn a_state_is_the_phase_with_the_reason_of_the_condition_that_speaks() {
        let mut deleted = job();
        deleted.metadata.deletion_timestamp = Some(Time(at(5)));
        let finished = with(job(), JobPhase::Finished, conditions::FINISHED, "IdleTimeout", 5);
        let mut finished_deleted = finished.clone();
        finished_deleted.metadata.deletion_timestamp = Some(Time(at(6)));
        let mut suspended = with(job(), JobPhase::Suspended, conditions::READY, "Suspended", 5);
        suspended.spec.suspend = true;
        for (job, state, reason, live, ended) in [
            (job(), "Pending", "NotAccepted", true, None),
            (with(job(), JobPhase::Ready, conditions::READY, "Ready", 5), "Ready", "Ready", true, None),
            (
                with(job(), JobPhase::Failed, conditions::FINISHED, "OOMKilled", 5),
                "Failed",
                "OOMKilled",
                false,
                Some(5),
            ),
            (finished, "Finished", "IdleTimeout", false, Some(5)),
            (finished_deleted, "Finished", "IdleTimeout", false, Some(5)),
            (suspended, "Suspended", "Suspended", true, None),
            (deleted, "Terminating", "Deleted", false, None),
        ] {
            let snapshot = Snapshot::of(&job, at(9));
            let State { state: is, reason: because, .. } = &snapshot.state;
            assert_eq!((is.as_str(), because.as_str()), (state, reason));
            assert_eq!((snapshot.live, snapshot.ended_at), (live, ended.map(at)), "{state}");
        }
    }

    #[test]
    fn a_state_s_time_is_the_milestone_when_there_is_one() {
        let ready = |milestone: Option<i64>, since| {
            let mut job = with(job(), JobPhase::Ready, conditions::READY, "Ready", since);
            let status = job.status.as_mut().unwrap();
            status.timeline.ready_at = milestone.map(|s| MicroTime(at(s)));
            Snapshot::of(&job, at(99)).since
        };
        assert_eq!(ready(Some(5), 5), at(5));
        assert_eq!(ready(Some(5), 60), at(99), "ready again, after a loss");
        assert_eq!(ready(None, 5), at(99));
        let finished = with(job(), JobPhase::Finished, conditions::FINISHED, "Completed", 7);
        assert_eq!(Snapshot::of(&finished, at(99)).since, at(7));
    }

    #[test]
    fn a_record_is_named_before_its_job_is_made_and_names_of_people_come_again() {
        let mut applied = job();
        applied.metadata.annotations = None;
        for (job, id, window) in [(job(), "fibre/18-1", Some(18)), (applied, "fibre/18-1/u1", None)] {
            let snapshot = Snapshot::of(&job, at(9));
            assert_eq!((snapshot.id.as_str(), snapshot.window), (id, window));
        }
        assert_eq!(claim_id("fibre", "18-1"), "fibre/18-1");
    }

    #[test]
    fn deletion_ends_a_job_that_had_not_ended() {
        let running = Snapshot::of(&job(), at(1)).deleted(at(9));
        assert_eq!(
            (running.state.state.as_str(), running.live, running.ended_at),
            (DELETED, false, Some(at(9)))
        );
        let finished = with(job(), JobPhase::Finished, conditions::FINISHED, "Completed", 7);
        let finished = Snapshot::of(&finished, at(8)).deleted(at(9));
        assert_eq!((finished.state.state.as_str(), finished.ended_at), ("Finished", Some(at(7))));
    }

    #[test]
    fn a_new_version_alone_says_nothing_new() {
        let first = Snapshot::of(&job(), at(1));
        let mut again = job();
        again.metadata.resource_version = Some("8".to_owned());
        assert!(Snapshot::of(&again, at(2)).says_the_same(&first));
        let ready = with(again, JobPhase::Ready, conditions::READY, "Ready", 5);
        assert!(!Snapshot::of(&ready, at(2)).says_the_same(&first));
    }
}
