//! Records of jobs, from the request to the end.

use focus_operator::api::conditions::{FINISHED, READY};
use focus_operator::api::names;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch};
use mongodb::bson::{DateTime, Document, doc};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::database::{TestDatabase, states};
use crate::common::objects::{default_pool, job};
use crate::common::process::Process;
use crate::common::{World, in_world, until};

pub fn request() -> Value {
    json!({
        "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 50},
        "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL", "note": "kept as received"
    })
}

pub async fn configure(server: &Process) -> (StatusCode, Value) {
    let client = reqwest::Client::new();
    let answer = client.post(server.url("/focus-server/configure")).json(&request()).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// Configures a job as soon as the server has reached the database; gives its id.
pub async fn configured(server: &Process) -> String {
    until("a job is configured", || async {
        let (status, answer) = configure(server).await;
        (status == StatusCode::OK).then(|| answer["job_id"].as_str().unwrap().to_owned())
    })
    .await
}

pub async fn end(world: &World, name: &str, reason: &str) {
    let end = json!({"reason": reason, "message": "asked for by a test", "failed": false}).to_string();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {names::END: end}}}));
    world.jobs().patch(name, &Default::default(), &patch).await.unwrap();
}

async fn history(server: &Process, query: &str) -> Value {
    let answer = reqwest::get(server.url(&format!("/focus-server/history{query}"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

fn time(record: &Document, field: &str) -> i64 {
    record.get_datetime(field).unwrap().timestamp_millis()
}

pub async fn a_job_s_life_is_in_its_record() {
    in_world("record", |world| async move {
        let database = TestDatabase::new().await;
        default_pool(&world).await;
        let server = database.server_with_one_window(&world).await;
        let id = configured(&server).await;
        let record = database.record(&world.namespace, &id).await.unwrap();
        assert_eq!(record.get_document("request").unwrap().get_str("note").ok(), Some("kept as received"));
        assert_eq!(states(&record)[0], "Configured");
        assert!(!record.contains_key("expireAt"), "{record}");

        let _operator = world.operator().await;
        world.until_condition(&id, READY, true).await;
        database.until_state(&world, &id, "Ready").await;
        // One that the server has not made, and that is deleted before its end.
        world.create(job("applied", json!({}))).await;
        let applied = world.until_condition("applied", READY, true).await.metadata.uid.unwrap();
        let applied = format!("applied/{applied}");
        database.until_state(&world, &applied, "Ready").await;
        world.jobs().delete("applied", &DeleteParams::default()).await.unwrap();
        let deleted = database.until_state(&world, &applied, "Deleted").await;
        assert!(deleted.contains_key("expireAt") && deleted.contains_key("spec"), "{deleted}");

        end(&world, &id, "EnoughSeen").await;
        let finished = world.until_condition(&id, FINISHED, true).await.status.unwrap();
        let record = database.until_state(&world, &id, "Finished").await;
        assert_eq!(record.get_str("reason").ok(), Some("EnoughSeen"));
        assert_eq!(record.get_bool("live").ok(), Some(false));
        let passed = states(&record);
        assert_eq!(
            (passed.first().unwrap().as_str(), passed.last().unwrap().as_str()),
            ("Configured", "Finished")
        );
        assert!(passed.contains(&"Ready".to_owned()), "{passed:?}");
        let seconds = record.get_document("phaseSeconds").unwrap();
        assert_eq!(seconds.get_f64("consumer").ok(), finished.phase_seconds.consumer);
        let ready = finished.timeline.ready_at.unwrap().0.as_millisecond();
        assert_eq!(time(record.get_document("timeline").unwrap(), "readyAt"), ready);
        assert_eq!(time(&record, "expireAt") - time(&record, "finishedAt"), 30 * 86_400_000);

        let recent = history(&server, "").await;
        assert_eq!((&recent[0]["job_id"], &recent[1]["job_id"]), (&json!("applied"), &json!(id)));
        assert_eq!(recent[1]["request"], request());
        let slowest = history(&server, "?sort=slowest&since=1h&limit=1").await;
        assert_eq!(slowest.as_array().unwrap().len(), 1);
        assert!(slowest[0]["phaseSeconds"]["consumer"].is_number(), "{slowest}");
        // The window is free again, for this server and in the database.
        assert!(configured(&server).await.starts_with("0-"));
        database.drop().await;
    })
    .await;
}

pub async fn a_window_that_is_taken_in_the_database_is_passed_over() {
    in_world("taken", |world| async move {
        let database = TestDatabase::new().await;
        default_pool(&world).await;
        let server = database.server(&world).await;
        // What another replica has stored, and this one does not see yet.
        for window in [0, 1] {
            let now = DateTime::now();
            let record = doc! {
                "_id": format!("{}/{window}-1", world.namespace), "namespace": &world.namespace,
                "job": format!("{window}-1"), "window": window, "live": true, "open": true, "configuredAt": now
            };
            database.jobs().insert_one(record).await.unwrap();
        }
        assert!(configured(&server).await.starts_with("2-"));
        database.drop().await;
    })
    .await;
}

pub async fn a_job_that_cannot_be_created_leaves_no_record() {
    in_world("uncreated", |world| async move {
        let database = TestDatabase::new().await;
        default_pool(&world).await;
        let server = database.server(&world).await;
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
            "spec": {"hard": {"count/focusjobs.focus-operator.io": "0"}}
        });
        let quotas: kube::Api<k8s_openapi::api::core::v1::ResourceQuota> =
            kube::Api::namespaced(world.client.clone(), &world.namespace);
        quotas.create(&Default::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
        until("the quota is in force", || async {
            let quota = quotas.get("none").await.unwrap();
            quota.status.and_then(|status| status.hard).map(drop)
        })
        .await;
        let (status, answer) = until("the database is reached", || async {
            let (status, answer) = configure(&server).await;
            (answer["reason"] != json!("StoreUnavailable")).then_some((status, answer))
        })
        .await;
        assert_eq!(
            (status, &answer["reason"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("ApiServerRefuses"))
        );
        until("no record is left", || async {
            (database.jobs().count_documents(doc! {}).await.unwrap() == 0).then_some(())
        })
        .await;
        assert!(world.jobs().list(&Default::default()).await.unwrap().items.is_empty());
        database.drop().await;
    })
    .await;
}

/// One sweep reads many records; those of live jobs must not keep it from the rest.
pub async fn a_record_behind_many_of_live_jobs_is_closed_too() {
    in_world("many", |world| async move {
        let database = TestDatabase::new().await;
        default_pool(&world).await;
        // All these records tell of one job that is there; their ids come before that of the one that is gone.
        world.create(job("live", json!({}))).await;
        let long_ago = DateTime::from_millis(Timestamp::now().as_millisecond() - 3_600_000);
        let record = |id: String, job: &str| {
            doc! {
                "_id": format!("{}/{id}", world.namespace), "namespace": &world.namespace, "job": job, "live": true,
                "open": true, "configuredAt": long_ago, "version": 1_i64, "state": "Ready", "reason": "Ready", "states": []
            }
        };
        let many = (0..500).map(|n| record(format!("!{n}"), "live"));
        let all: Vec<Document> = many.chain([record("0-1".to_owned(), "0-1")]).collect();
        database.jobs().insert_many(all).await.unwrap();
        let _server = database.server(&world).await;
        database.until_state(&world, "0-1", "Vanished").await;
        database.drop().await;
    })
    .await;
}

pub async fn a_record_whose_job_is_gone_is_closed() {
    in_world("vanished", |world| async move {
        let database = TestDatabase::new().await;
        let long_ago = DateTime::from_millis(Timestamp::now().as_millisecond() - 3_600_000);
        let record = doc! {
            "_id": format!("{}/0-1", world.namespace), "namespace": &world.namespace, "job": "0-1", "uid": "u",
            "window": 0, "live": true, "open": true, "configuredAt": long_ago, "version": 1_i64,
            "state": "Ready", "reason": "Ready", "states": []
        };
        database.jobs().insert_one(record).await.unwrap();
        default_pool(&world).await;
        let server = database.server(&world).await;
        let closed = database.until_state(&world, "0-1", "Vanished").await;
        assert_eq!(closed.get_bool("live").ok(), Some(false));
        assert!(closed.contains_key("expireAt") && !closed.contains_key("open"), "{closed}");
        assert!(configured(&server).await.starts_with("0-"));
        database.drop().await;
    })
    .await;
}
