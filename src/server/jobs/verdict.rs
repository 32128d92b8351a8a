//! What a FocusJob's own words mean for its consumer. Pure.

use crate::api::{FocusJob, conditions};
use crate::server::job::Awaited;

/// Why the job of `object` shall have no consumer; None for a live one.
pub fn over(object: &FocusJob) -> Option<Awaited> {
    if object.metadata.deletion_timestamp.is_some() {
        return Some(Awaited::new("deleted", "Deleted", "the job is being deleted"));
    }
    let list = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if let Some(finished) = conditions::find(list, conditions::FINISHED).filter(|c| c.status == "True") {
        return Some(Awaited::new("finished", finished.reason.clone(), finished.message.clone()));
    }
    object
        .spec
        .suspend
        .then(|| Awaited::new("suspended", "Suspended", "the job is suspended by spec.suspend"))
}

/// Whether the job of `object` is live, and so has its window to itself.
pub fn holds_window(object: &FocusJob) -> bool {
    over(object).is_none_or(|awaited| awaited.phase == "suspended")
}

/// `awaited`, in the operator's words when it is the operator who knows why: a queue that does not exist.
pub fn explain(awaited: Awaited, object: &FocusJob) -> Awaited {
    if awaited.phase != "queue" {
        return awaited;
    }
    let list = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
    match conditions::find(list, conditions::QUEUE_READY) {
        Some(condition) if condition.status != "True" => {
            Awaited::new("queue", condition.reason.clone(), condition.message.clone())
        }
        Some(_) => awaited,
        None => Awaited::new("operator", "NotAccepted", "the operator has not taken up the job yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FocusJobStatus;
    use crate::api::conditions::Verdict;
    use crate::server::answer::tests::spec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn job(verdicts: &[Verdict]) -> FocusJob {
        let mut job = FocusJob::new("0-1", spec(8));
        let conditions = conditions::merge(&[], verdicts, None, Timestamp::UNIX_EPOCH);
        job.status = Some(FocusJobStatus { conditions, ..FocusJobStatus::default() });
        job
    }

    #[test]
    fn a_job_is_over_when_it_has_finished_or_is_going_or_suspended() {
        let finished = Verdict::new(conditions::FINISHED, true, "HeaderMismatch", "so it is");
        let going = Verdict::new(conditions::FINISHED, false, "Running", "");
        let mut deleted = job(&[]);
        deleted.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let mut suspended = job(&[]);
        suspended.spec.suspend = true;
        for (object, phase) in [
            (job(&[]), None),
            (job(&[going]), None),
            (job(&[finished]), Some("finished")),
            (deleted, Some("deleted")),
            (suspended, Some("suspended")),
        ] {
            assert_eq!(over(&object).map(|a| a.phase), phase);
        }
    }

    #[test]
    fn the_operator_knows_why_there_is_no_queue() {
        let missing = || Awaited::new("queue", "QueueMissing", "m");
        let refused = Verdict::new(conditions::QUEUE_READY, false, "BrokerUnreachable", "n");
        let ready = Verdict::new(conditions::QUEUE_READY, true, "Ready", "n");
        for (awaited, object, reason) in [
            (missing(), job(&[]), "NotAccepted"),
            (missing(), job(std::slice::from_ref(&refused)), "BrokerUnreachable"),
            (missing(), job(&[ready]), "QueueMissing"),
            (Awaited::new("pool", "PoolNotFound", "m"), job(&[refused]), "PoolNotFound"),
        ] {
            assert_eq!(explain(awaited, &object).reason, reason);
        }
    }
}
