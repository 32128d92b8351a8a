//! Two replicas that write the same records.

use focus_operator::api::{FocusJob, names};
use mongodb::bson::{Document, doc};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::claims::{claim, deadline, store};
use super::database::{TestDatabase, states};
use crate::common::objects;
use crate::common::until;

/// What happens to each job, in order: phase, condition that speaks, reason and words. The second has the first one's
/// state in other words.
const LIFE: [[&str; 4]; 5] = [
    ["Starting", "Ready", "PodUnschedulable", "0 of 3 nodes fit"],
    ["Starting", "Ready", "PodUnschedulable", "0 of 4 nodes fit"],
    ["Ready", "Ready", "Ready", "it runs"],
    ["Degraded", "Ready", "ConsumerLost", "the consumer is gone"],
    ["Finished", "Finished", "Completed", "it was played to its end"],
];

/// Job `n` after `passed` events of its life. Those of even numbers were made by a server.
fn job(n: usize, passed: usize) -> FocusJob {
    let [phase, speaks, reason, message] = LIFE[passed - 1];
    let mut job = objects::job(&name(n), json!({}));
    let metadata = &mut job.metadata;
    metadata.namespace = Some("fibre".to_owned());
    metadata.uid = Some(format!("uid-{n}"));
    metadata.resource_version = Some((100 + passed).to_string());
    if n.is_multiple_of(2) {
        metadata.labels = Some([(names::WINDOW_LABEL.to_owned(), n.to_string())].into());
        metadata.annotations =
            Some([(names::CONFIGURED_AT.to_owned(), "2026-11-25T00:00:00Z".to_owned())].into());
    }
    let condition = json!({
        "type": speaks, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-11-25T00:00:00Z"
    });
    job.status = Some(serde_json::from_value(json!({"phase": phase, "conditions": [condition]})).unwrap());
    job
}

fn name(n: usize) -> String {
    format!("{n}-1")
}

async fn record(database: &TestDatabase, n: usize) -> Option<Document> {
    database.jobs().find_one(doc! { "job": name(n) }).await.unwrap()
}

/// Whatever each has seen of a job when it writes, and whether the record was there before: each state is told once, and
/// the record is closed as the last of them tells.
pub async fn two_replicas_tell_each_state_once() {
    let database = TestDatabase::new().await;
    let stop = CancellationToken::new();
    let (one, _tasks) = store(&database.url, &database.name, &stop).await;
    let (other, _other_tasks) = store(&database.url, &database.name, &stop).await;
    let first = claim("first", 1000);
    until("the store is reached", || async { one.claim(&first, deadline(&one)).await.ok() }).await;
    // What each of the two has seen of a job when it first writes: all pairs.
    let seen: Vec<[usize; 2]> = (1..=4).flat_map(|a| (1..=4).map(move |b| [a, b])).collect();
    let all = || seen.iter().copied().flat_map(|pair| [pair, pair]).enumerate();
    for (n, [a, b]) in all() {
        if n.is_multiple_of(2) {
            one.claim(&claim(&name(n), u16::try_from(n).unwrap()), deadline(&one)).await.unwrap();
        }
        (1..=a).for_each(|passed| one.saw(&job(n, passed)));
        (1..=b).for_each(|passed| other.saw(&job(n, passed)));
    }
    for (n, [a, b]) in all() {
        let newest = 100 + i64::try_from(a.max(b)).unwrap();
        until("what the two have seen is written", || async {
            (record(&database, n).await?.get_i64("version").ok() == Some(newest)).then_some(())
        })
        .await;
        (a + 1..=5).for_each(|passed| one.saw(&job(n, passed)));
        (b + 1..=5).for_each(|passed| other.saw(&job(n, passed)));
    }
    for (n, pair) in all() {
        let record = until("the record is closed", || async {
            record(&database, n).await.filter(|record| !record.contains_key("open"))
        })
        .await;
        let told = states(&record);
        let claimed = told.iter().filter(|state| *state == "Configured").count();
        assert_eq!(told[claimed..], ["Starting", "Ready", "Degraded", "Finished"], "{n} {pair:?}: {record}");
        assert_eq!(claimed, usize::from(n.is_multiple_of(2)));
        assert_eq!(
            (record.get_i64("version").ok(), record.get_str("reason").ok()),
            (Some(105), Some("Completed"))
        );
        assert!(record.contains_key("expireAt") && record.get_bool("live").ok() == Some(false), "{record}");
    }
    stop.cancel();
    database.drop().await;
}
