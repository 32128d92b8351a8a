//! Records as the database holds them, and how they are looked for. Pure.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mongodb::bson::{Bson, DateTime, Document, doc};
use serde_json::Value;

use super::Claim;
use super::snapshot::{CONFIGURED, Snapshot, State, claim_id};
use crate::api::timeline::Timeline;

/// Deepest request that is stored as a document.
const DEEPEST: usize = 32;

/// The record of a job that is about to be made.
pub fn claimed(claim: &Claim) -> Document {
    let state = State::new(CONFIGURED, "Received", "the Focus Server received the request");
    let at = date(claim.configured_at);
    doc! {
        "_id": claim_id(&claim.namespace, &claim.job),
        "namespace": &claim.namespace,
        "job": &claim.job,
        "window": i32::from(claim.window),
        "request": request(&claim.request),
        "configuredAt": at,
        "version": 0_i64,
        "live": true,
        "open": true,
        "state": &state.state,
        "reason": &state.reason,
        "message": &state.message,
        "states": [change(&state, claim.configured_at)],
    }
}

/// The record of a job that was found: made by `kubectl`, or before there was a database. It has been in the states
/// `before`, and is as `last` tells.
pub fn found(before: &[Snapshot], last: &Snapshot, kept: Duration) -> Document {
    let mut record = doc! {
        "_id": &last.id,
        "namespace": &last.namespace,
        "job": &last.job,
        "spec": json(&serde_json::to_value(&last.spec).unwrap_or_default()),
        "configuredAt": date(last.configured_at),
        "states": changes(before.iter().chain([last])),
    };
    if let Some(window) = last.window {
        record.insert("window", i32::from(window));
    }
    record.extend(said(last, kept));
    if last.ended_at.is_none() {
        record.insert("open", true);
    }
    record
}

/// Filter of the record of a job that was never made.
pub fn never_made(id: &str) -> Document {
    doc! { "_id": id, "uid": { "$exists": false } }
}

/// Filter of the open records of jobs that were asked for before `before`.
pub fn open_before(namespace: &str, before: Timestamp, after: Option<&str>) -> Document {
    let mut filter = doc! { "namespace": namespace, "open": true, "configuredAt": { "$lt": date(before) } };
    if let Some(id) = after {
        filter.insert("_id", doc! { "$gt": id });
    }
    filter
}

/// Filter of the records of jobs that were asked for in the time `since` before `now`.
pub fn since(namespace: &str, since: Duration, now: Timestamp) -> Document {
    let from = now.as_millisecond().saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    doc! { "namespace": namespace, "configuredAt": { "$gte": DateTime::from_millis(from) } }
}

/// The fields that tell where a job stands.
pub(super) fn said(snapshot: &Snapshot, kept: Duration) -> Document {
    let Snapshot { uid, version, state, live, ended_at, timeline, phase_seconds, .. } = snapshot;
    let mut said = doc! {
        "uid": uid, "version": *version, "live": *live,
        "state": &state.state, "reason": &state.reason, "message": &state.message,
        "timeline": dates(timeline),
        "phaseSeconds": json(&serde_json::to_value(phase_seconds).unwrap_or_default()),
    };
    if let Some(at) = ended_at {
        said.extend(closed(*at, kept));
    }
    said
}

/// The fields that tell that a job ended at `at`.
pub(super) fn closed(at: Timestamp, kept: Duration) -> Document {
    let expire =
        DateTime::from_millis(at.as_millisecond() + i64::try_from(kept.as_millis()).unwrap_or(i64::MAX / 2));
    doc! { "finishedAt": date(at), "expireAt": expire }
}

/// `snapshots` as entries of `states`.
pub(super) fn changes<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> Vec<Document> {
    snapshots.map(|snapshot| change(&snapshot.state, snapshot.since)).collect()
}

/// An entry of `states`: in `state` since `at`.
pub(super) fn change(state: &State, at: Timestamp) -> Document {
    doc! { "state": &state.state, "reason": &state.reason, "message": &state.message, "at": date(at) }
}

fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.as_millisecond())
}

/// The milestones as dates.
fn dates(timeline: &Timeline) -> Document {
    let Ok(Value::Object(fields)) = serde_json::to_value(timeline) else { return Document::new() };
    let date_of = |text: &Value| Some(date(text.as_str()?.parse().ok()?));
    fields.iter().filter_map(|(name, text)| Some((name.clone(), Bson::from(date_of(text)?)))).collect()
}

/// The request: as a document, so that it can be searched, or, if it does not fit one, as text.
fn request(request: &Value) -> Bson {
    if fits(request, DEEPEST) { json(request) } else { Bson::String(request.to_string()) }
}

/// Whether a database takes `value`: not too deep, and with no names that mean something to it.
fn fits(value: &Value, depth: usize) -> bool {
    let name_fits = |name: &str| !name.starts_with('$') && !name.contains(['.', '\0']);
    match value {
        Value::Object(fields) => {
            depth > 0 && fields.iter().all(|(name, value)| name_fits(name) && fits(value, depth - 1))
        }
        Value::Array(items) => depth > 0 && items.iter().all(|item| fits(item, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn json(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(is) => Bson::Boolean(*is),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| Bson::Double(number.as_f64().unwrap_or_default()), Bson::Int64)
        }
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(items) => Bson::Array(items.iter().map(json).collect()),
        Value::Object(fields) => {
            Bson::Document(fields.iter().map(|(name, value)| (name.clone(), json(value))).collect())
        }
    }
}

/// A record as the HTTP API shows it.
pub fn shown(mut record: Document) -> Value {
    for inner in ["_id", "namespace", "version", "open", "live", "expireAt"] {
        record.remove(inner);
    }
    if let Some(job) = record.remove("job") {
        record.insert("job_id", job);
    }
    plain(Bson::Document(record))
}

/// Plain JSON: dates as RFC 3339.
fn plain(value: Bson) -> Value {
    match value {
        Bson::Document(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, plain(value))).collect())
        }
        Bson::Array(items) => items.into_iter().map(plain).collect(),
        Bson::DateTime(at) => Timestamp::from_millisecond(at.timestamp_millis())
            .map_or(Value::Null, |at| Value::String(format!("{at:.3}"))),
        Bson::String(text) => Value::String(text),
        Bson::Boolean(is) => Value::Bool(is),
        Bson::Int32(number) => number.into(),
        Bson::Int64(number) => number.into(),
        Bson::Double(number) => number.into(),
        Bson::Null => Value::Null,
        // No record that a server writes has any of the others.
        other => Value::String(other.to_string()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::conditions;
    use crate::api::focusjob::JobPhase;
    use crate::server::store::snapshot::tests::{at, job, with};

    const DAY: Duration = Duration::from_secs(86_400);

    /// A claim of window 18.
    pub fn claim(request: Value) -> Claim {
        Claim {
            namespace: "fibre".to_owned(),
            job: "18-1".to_owned(),
            window: 18,
            request: Arc::new(request),
            configured_at: at(0),
        }
    }

    #[test]
    fn a_claim_is_shown_as_it_was_asked_for() {
        let record = claimed(&claim(json!({"view_type": 2, "nfftSelection": 1024.5, "extra": [null]})));
        assert_eq!((record.get_bool("live").ok(), record.get_bool("open").ok()), (Some(true), Some(true)));
        let state = json!({
            "state": "Configured", "reason": "Received", "message": "the Focus Server received the request",
            "at": "2027-01-15T08:00:00.000Z"
        });
        assert_eq!(
            shown(record),
            json!({
                "job_id": "18-1", "window": 18, "configuredAt": "2027-01-15T08:00:00.000Z",
                "request": {"view_type": 2, "nfftSelection": 1024.5, "extra": [null]},
                "state": "Configured", "reason": "Received",
                "message": "the Focus Server received the request", "states": [state]
            })
        );
    }

    #[test]
    fn what_no_document_can_hold_is_stored_as_text() {
        let mut deep = json!(1);
        for _ in 0..=DEEPEST {
            deep = json!([deep]);
        }
        for (asked, is_text) in [
            (json!({"a": {"b": [1, "x", null, 1.5]}}), false),
            (json!({"n": u64::MAX}), false),
            (json!({"$where": 1}), true),
            (json!({"a": [{"b.c": 1}]}), true),
            (json!({"a\u{0}": 1}), true),
            (deep, true),
        ] {
            let stored = request(&asked);
            assert_eq!(matches!(stored, Bson::String(_)), is_text, "{asked}");
            assert!(mongodb::bson::serialize_to_vec(&doc! { "request": stored }).is_ok(), "{asked}");
        }
    }

    #[test]
    fn a_found_record_has_its_spec_and_an_open_one_never_expires() {
        let snapshot = Snapshot::of(&job(), at(9));
        let record = found(&[], &snapshot, DAY);
        assert!(!record.contains_key("expireAt") && !record.contains_key("request"), "{record}");
        assert_eq!(record.get_i32("window").ok(), Some(18));
        assert!(record.get_document("spec").is_ok_and(|spec| spec.contains_key("viewType")), "{record}");
        let ended = with(job(), JobPhase::Finished, conditions::FINISHED, "Completed", 7);
        let record = found(std::slice::from_ref(&snapshot), &Snapshot::of(&ended, at(9)), DAY);
        assert!(record.contains_key("expireAt") && !record.contains_key("open"), "{record}");
        let states =
            [change(&snapshot.state, at(9)), change(&State::new("Finished", "Completed", "so it is"), at(7))];
        assert_eq!(record.get_array("states").ok(), Some(&states.map(Bson::from).to_vec()));
    }
}
