//! The updates that take what happened to a job into its record. Pure.
//!
//! Only operators that every MongoDB-compatible server has are used, and each filter names the `_id` first and nothing
//! that would keep a server from looking it up. Each update is guarded so that any number of replicas may write the
//! same news in any order: a record is never taken back to an older version, a state is not told twice, and a closed
//! record (`open` gone) is never changed.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mongodb::bson::{Document, doc};

use super::document::{change, changes, closed, said};
use super::snapshot::{Snapshot, State, VANISHED};

/// Most states that a record keeps: the newest.
const MOST_STATES: i32 = 100;

/// A filter and an update.
pub type Update = (Document, Document);

/// What stands in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    version: i64,
    open: bool,
    /// Without its words.
    state: State,
}

impl Standing {
    /// The fields that it is made of.
    pub fn fields() -> Document {
        doc! { "version": 1, "open": 1, "state": 1, "reason": 1 }
    }

    /// What `record` says.
    pub fn of(record: &Document) -> Self {
        let text = |field| record.get_str(field).unwrap_or_default();
        Self {
            version: record.get_i64("version").unwrap_or_default(),
            open: record.get_bool("open").unwrap_or_default(),
            state: State::new(text("state"), text("reason"), ""),
        }
    }
}

/// The changes of `all` up to the end of the job, after which nothing is recorded: those before the last, and the last.
/// None when there are none.
pub fn until_end(all: &[Snapshot]) -> Option<(&[Snapshot], &Snapshot)> {
    let end = all.iter().position(|change| change.ended_at.is_some()).map_or(all.len(), |end| end + 1);
    all[..end].split_last().map(|(last, before)| (before, last))
}

/// Takes `before` and `last` into a record that is older than all of them and in another state: what is so nearly
/// always, and needs no look at the record.
pub fn expected(before: &[Snapshot], last: &Snapshot, kept: Duration) -> Update {
    let first = before.first().unwrap_or(last);
    let filter = doc! {
        "_id": &last.id, "open": true, "version": { "$lte": first.version }, "state": { "$ne": &first.state.state },
    };
    (filter, update(before.iter().chain([last]), last, kept))
}

/// Takes those of `before` and `last` that are newer than the record into it, of which `standing` has been read; None
/// when it tells all of them already.
pub fn missing(standing: &Standing, before: &[Snapshot], last: &Snapshot, kept: Duration) -> Option<Update> {
    if !standing.open {
        return None;
    }
    let is_new = |change: &&Snapshot| {
        change.version > standing.version
            || (change.version == standing.version && !standing.state.is_like(&change.state))
    };
    let mut new = before.iter().chain([last]).skip_while(|change| !is_new(change)).peekable();
    let first = *new.peek()?;
    // The state that stands there, with more milestones.
    let told = usize::from(standing.state.is_like(&first.state));
    let filter = doc! { "_id": &last.id, "open": true, "version": standing.version };
    Some((filter, update(new.skip(told), last, kept)))
}

/// Closes the record `id`, whose FocusJob is gone, at `now`.
pub fn vanished(id: &str, now: Timestamp, kept: Duration) -> Update {
    let state = State::new(VANISHED, VANISHED, "the FocusJob is gone, and no server saw the job end");
    let mut set = closed(now, kept);
    set.extend(doc! {
        "live": false, "state": &state.state, "reason": &state.reason, "message": &state.message,
    });
    let update = doc! { "$set": set, "$push": pushed(vec![change(&state, now)]), "$unset": { "open": "" } };
    (doc! { "_id": id, "open": true }, update)
}

/// Tells of the states `new`, and sets all else as `last` says.
fn update<'a>(new: impl Iterator<Item = &'a Snapshot>, last: &Snapshot, kept: Duration) -> Document {
    let mut update = doc! { "$set": said(last, kept) };
    let new = changes(new);
    if !new.is_empty() {
        update.insert("$push", pushed(new));
    }
    if last.ended_at.is_some() {
        update.insert("$unset", doc! { "open": "" });
    }
    update
}

fn pushed(states: Vec<Document>) -> Document {
    doc! { "states": { "$each": states, "$slice": -MOST_STATES } }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;
    use crate::api::conditions;
    use crate::api::focusjob::JobPhase;
    use crate::server::store::document::claimed;
    use crate::server::store::document::tests::claim;
    use crate::server::store::snapshot::tests::{at, job, with};

    const DAY: Duration = Duration::from_secs(86_400);

    fn snapshot(state: &str, version: i64) -> Snapshot {
        let state = State::new(state, "Because", "so it is");
        Snapshot { state, version, ..Snapshot::of(&job(), at(version)) }
    }

    /// Each as a state and a version.
    fn snapshots(told: &[(&str, i64)]) -> Vec<Snapshot> {
        told.iter().map(|(state, version)| snapshot(state, *version)).collect()
    }

    fn standing(state: &str, version: i64, open: bool) -> Standing {
        Standing { version, open, state: State::new(state, "Because", "") }
    }

    fn pushed_states(update: &Document) -> Vec<&str> {
        let push = update.get_document("$push").and_then(|push| push.get_document("states"));
        let each = push.and_then(|push| push.get_array("$each"));
        each.map(|each| each.iter().filter_map(|s| s.as_document()?.get_str("state").ok()).collect())
            .unwrap_or_default()
    }

    #[test]
    fn what_is_missing_is_what_is_newer_and_a_state_is_told_once() {
        let all = [("Pending", 5), ("Starting", 7), ("Ready", 9)];
        for (state, version, open, wanted) in [
            ("Configured", 0, true, Some(&["Pending", "Starting", "Ready"][..])),
            ("Pending", 4, true, Some(&["Starting", "Ready"])),
            ("Pending", 5, true, Some(&["Starting", "Ready"])),
            ("Starting", 6, true, Some(&["Ready"])),
            ("Degraded", 7, true, Some(&["Starting", "Ready"])),
            ("Ready", 8, true, Some(&[])),
            ("Ready", 9, true, None),
            ("Starting", 10, true, None),
            ("Pending", 4, false, None),
        ] {
            let all = snapshots(&all);
            let (before, last) = until_end(&all).expect("some");
            let update = missing(&standing(state, version, open), before, last, DAY);
            let told = update.as_ref().map(|(_, update)| pushed_states(update));
            assert_eq!(told.as_deref(), wanted, "{state} {version} {open}");
            if let Some((filter, update)) = update {
                assert_eq!(filter, doc! { "_id": "fibre/18-1", "open": true, "version": version });
                let set = update.get_document("$set").expect("what it sets");
                assert_eq!(
                    (set.get_str("state").ok(), set.get_i64("version").ok()),
                    (Some("Ready"), Some(9))
                );
            }
        }
    }

    #[test]
    fn what_is_expected_is_a_record_that_is_older_and_in_another_state() {
        let all = snapshots(&[("Pending", 5), ("Starting", 7)]);
        let (filter, update) = expected(&all[..1], &all[1], DAY);
        let wanted = doc! {
            "_id": "fibre/18-1", "open": true, "version": { "$lte": 5_i64 }, "state": { "$ne": "Pending" }
        };
        assert_eq!(filter, wanted);
        assert_eq!(pushed_states(&update), ["Pending", "Starting"]);
        let push = update.get_document("$push").and_then(|push| push.get_document("states"));
        assert_eq!(push.and_then(|push| push.get_i32("$slice")).ok(), Some(-MOST_STATES));
        assert!(!update.contains_key("$unset"), "it goes on: {update}");
        // Nothing that would keep a database from its index of ids.
        assert!(filter.keys().all(|field| !field.starts_with('$')));
    }

    #[test]
    fn after_the_end_nothing_is_recorded() {
        let ended = Snapshot { ended_at: Some(at(7)), ..snapshot("Finished", 7) };
        let (ready, late) = (snapshot("Ready", 5), snapshot("Terminating", 9));
        assert_eq!(until_end(&[]), None);
        assert_eq!(until_end(std::slice::from_ref(&ready)), Some((&[][..], &ready)));
        let all = [ready.clone(), ended.clone(), late];
        assert_eq!(until_end(&all), Some((&[ready][..], &ended)));
    }

    #[test]
    fn an_end_closes_the_record_and_sets_its_last_day() {
        let mut ended = with(job(), JobPhase::Failed, conditions::FINISHED, "OOMKilled", 7);
        if let Some(status) = &mut ended.status {
            status.timeline.accepted_at = Some(MicroTime(at(1)));
            status.phase_seconds.consumer = Some(0.25);
        }
        let (_, update) = expected(&[], &Snapshot::of(&ended, at(9)), DAY);
        assert_eq!(update.get_document("$unset").ok(), Some(&doc! { "open": "" }));
        let set = update.get_document("$set").cloned().unwrap_or_default();
        let time = |field: &str| set.get_datetime(field).ok().map(|time| time.timestamp_millis());
        assert_eq!(time("finishedAt"), Some(at(7).as_millisecond()));
        assert_eq!(time("expireAt"), Some(at(86_407).as_millisecond()));
        assert_eq!(set.get_bool("live").ok(), Some(false));
        let accepted = mongodb::bson::DateTime::from_millis(at(1).as_millisecond());
        assert_eq!(set.get_document("timeline").ok(), Some(&doc! { "acceptedAt": accepted }));
        assert_eq!(set.get_document("phaseSeconds").ok(), Some(&doc! { "consumer": 0.25 }));
    }

    #[test]
    fn what_stands_in_a_record_is_read_from_it() {
        let claimed = claimed(&claim(serde_json::Value::Null));
        let read = Standing::of(&claimed);
        let wanted = Standing { version: 0, open: true, state: State::new("Configured", "Received", "") };
        assert_eq!(read, wanted);
        assert!(Standing::fields().keys().all(|field| claimed.contains_key(field)));
    }
}
