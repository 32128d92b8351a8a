//! What `GET /jobs/{job_id}/events` tells: the milestones, the changes of the conditions, the end. Pure.

use serde_json::{Value, json};

use crate::api::conditions::{self, FINISHED};
use crate::api::focusjob::JobPhase;
use crate::api::job_view::{condition, micros, milestones};
use crate::api::{FocusJob, FocusJobStatus};

/// The bit of an event's id that says that the end has been told.
const END: u16 = 1 << 15;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `milestone`, `condition` or `end`.
    pub name: &'static str,
    /// Which milestones, and whether the end, have been told with this event.
    pub id: String,
    /// Its content.
    pub data: Value,
}

/// What a listener has been told already. A listener that comes again brings the last event's id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    marks: u16,
    conditions: Vec<(String, String, String)>,
}

impl Told {
    /// From the header `Last-Event-ID`; nothing, if that is none of ours.
    pub fn from_id(id: &str) -> Self {
        Self { marks: u16::from_str_radix(id, 16).unwrap_or(0), conditions: Vec::new() }
    }

    /// Whether there is nothing more to tell.
    pub fn all(&self) -> bool {
        self.marks & END != 0
    }

    /// What is new in `job`: milestones in the order of their times, then conditions, then the end.
    pub fn news(&mut self, job: &FocusJob) -> Vec<Event> {
        let status = job.status.clone().unwrap_or_default();
        let mut events = self.new_milestones(job, &status);
        for c in &status.conditions {
            let now = (c.type_.clone(), c.status.clone(), c.reason.clone());
            if self.conditions.contains(&now) {
                continue;
            }
            self.conditions.retain(|(type_, _, _)| *type_ != c.type_);
            self.conditions.push(now);
            events.push(self.event("condition", serde_json::to_value(condition(c)).unwrap_or_default()));
        }
        if let Some(end) = conditions::find(&status.conditions, FINISHED).filter(|c| c.status == "True") {
            let failed = status.phase == Some(JobPhase::Failed);
            events.extend(self.end(&end.reason, &end.message, failed));
        }
        events
    }

    /// The end of a job that is gone, unless an end has been told.
    pub fn gone(&mut self) -> Option<Event> {
        self.end("Deleted", "the job has been deleted", false)
    }

    fn end(&mut self, reason: &str, message: &str, failed: bool) -> Option<Event> {
        if self.all() {
            return None;
        }
        self.marks |= END;
        Some(self.event("end", json!({"reason": reason, "message": message, "failed": failed})))
    }

    fn new_milestones(&mut self, job: &FocusJob, status: &FocusJobStatus) -> Vec<Event> {
        let seconds = status.phase_seconds.named();
        let of = |phase: &str| seconds.iter().find(|(name, _)| *name == phase).and_then(|(_, s)| *s);
        let mut found: Vec<_> = milestones(&status.timeline)
            .map(|(name, at, phase)| (mark(name), name, at, phase))
            .filter(|(mark, ..)| self.marks & mark == 0)
            .collect();
        found.sort_by_key(|(_, _, at, _)| at.0);
        found
            .into_iter()
            .map(|(mark, name, at, phase)| {
                self.marks |= mark;
                let data = json!({
                    "job_id": job.metadata.name, "milestone": name, "at": micros(&at),
                    "phase": phase, "phase_seconds": phase.and_then(of),
                });
                self.event("milestone", data)
            })
            .collect()
    }

    fn event(&self, name: &'static str, data: Value) -> Event {
        Event { name, id: format!("{:x}", self.marks), data }
    }
}

/// The bit of a milestone in an event's id.
fn mark(milestone: &str) -> u16 {
    const NAMES: [&str; 9] = [
        "configuredAt",
        "acceptedAt",
        "podCreatedAt",
        "podScheduledAt",
        "podReadyAt",
        "queueReadyAt",
        "consumerReadyAt",
        "readyAt",
        "finishedAt",
    ];
    NAMES.iter().position(|name| *name == milestone).map_or(0, |place| 1 << place)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::api::conditions::{CONSUMER_READY, QUEUE_READY};
    use crate::api::job_view::tests::job;
    use crate::api::timeline::{Timeline, micro};

    fn at(
        job: &mut FocusJob,
        change: impl FnOnce(
            &mut Timeline,
            &dyn Fn(i64) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>,
        ),
    ) {
        let status = job.status.get_or_insert_default();
        change(&mut status.timeline, &|us| Some(micro(Timestamp::from_microsecond(us).unwrap_or_default())));
        status.phase_seconds = status.timeline.phase_seconds();
    }

    fn named(events: &[Event]) -> Vec<String> {
        events
            .iter()
            .map(|event| {
                let what = ["milestone", "type", "reason"].iter().find_map(|key| event.data[*key].as_str());
                format!("{} {}", event.name, what.unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn each_thing_is_told_once_and_in_the_order_of_time() {
        let mut told = Told::default();
        let mut one = job(
            Some(JobPhase::Starting),
            &[(QUEUE_READY, true, "Ready"), (CONSUMER_READY, false, "NoConsumer")],
        );
        at(&mut one, |timeline, us| {
            timeline.configured_at = us(1);
            timeline.accepted_at = us(250_001);
            timeline.queue_ready_at = us(3);
        });
        let first = told.news(&one);
        let expected = [
            "milestone configuredAt",
            "milestone queueReadyAt",
            "milestone acceptedAt",
            "condition QueueReady",
            "condition ConsumerReady",
        ];
        assert_eq!(named(&first), expected);
        assert_eq!(
            (&first[2].data["phase"], &first[2].data["phase_seconds"]),
            (&json!("configure"), &json!(0.25))
        );
        assert!(told.news(&one).is_empty());

        // A listener that comes again is told no milestone twice, but how things stand.
        let mut again = Told::from_id(&first[4].id);
        assert_eq!(named(&again.news(&one)), ["condition QueueReady", "condition ConsumerReady"]);
        let mut interrupted = Told::from_id(&first[0].id);
        assert_eq!(interrupted.news(&one).len(), 4);

        let mut two =
            job(Some(JobPhase::Finished), &[(QUEUE_READY, true, "Ready"), (FINISHED, true, "Completed")]);
        at(&mut two, |timeline, us| timeline.finished_at = us(9));
        let last = told.news(&two);
        assert_eq!(named(&last), ["milestone finishedAt", "condition Finished", "end Completed"]);
        assert!(told.all() && told.gone().is_none());
        assert!(Told::from_id(&last[2].id).all());
    }

    #[test]
    fn a_job_that_is_gone_ends_with_a_word() {
        let mut told = Told::from_id("no id of ours");
        assert_eq!(told, Told::default());
        assert_eq!(named(told.gone().as_slice()), ["end Deleted"]);
        assert!(told.gone().is_none());
    }

    #[test]
    fn every_milestone_has_a_mark_of_its_own() {
        let mut one = job(None, &[]);
        at(&mut one, |timeline, us| {
            *timeline = Timeline {
                configured_at: us(1),
                accepted_at: us(2),
                pod_created_at: us(3),
                pod_scheduled_at: us(4),
                pod_ready_at: us(5),
                queue_ready_at: us(6),
                consumer_ready_at: us(7),
                ready_at: us(8),
                finished_at: us(9),
            }
        });
        let events = Told::default().news(&one);
        assert_eq!((events.len(), events[8].id.as_str()), (9, "1ff"));
    }
}
