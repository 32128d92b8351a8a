//! The Focus Server as its clients use it.

use std::time::Duration;

use focus_operator::api::conditions::{CONSUMER_READY, READY};
use kube::ResourceExt;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::common::objects::default_pool;
use crate::common::process::Process;
use crate::common::{in_world, until};

pub fn request() -> Value {
    json!({
        "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 50},
        "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
    })
}

pub async fn configure(server: &Process, request: &Value) -> (StatusCode, Value) {
    let client = reqwest::Client::new();
    let answer = client.post(server.url("/focus-server/configure")).json(request).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

pub async fn get(server: &Process, path: &str) -> reqwest::Response {
    reqwest::get(server.url(&format!("/focus-server/{path}"))).await.unwrap()
}

#[tokio::test]
async fn a_configured_job_s_metadata_and_lines_come() {
    in_world("server", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let server = world.server().await;
        let (status, answer) = configure(&server, &request()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!((&answer["stream_amount"], &answer["channel_amount"]), (&json!(3), &json!(50)));
        assert_eq!((&answer["lines_dt"], &answer["frequencies_amount"]), (&json!(0.01), &json!(513)));
        let id = answer["job_id"].as_str().unwrap().to_owned();

        let metadata = get(&server, &format!("metadata/{id}?wait=30s")).await;
        assert_eq!(metadata.status(), StatusCode::OK);
        let metadata: Value = metadata.json().await.unwrap();
        assert_eq!(metadata["metadata"]["number_of_channels"], json!(2500), "{metadata}");
        let rows: Value = until("lines at the client", || async {
            let answer = get(&server, &format!("waterfall/{id}/5")).await;
            (answer.status() == StatusCode::CREATED).then_some(())?;
            answer.json().await.ok()
        })
        .await;
        let sensors = rows[0]["rows"][0]["sensors"].as_array().unwrap();
        assert_eq!((sensors.len(), sensors[0]["intensity"].as_array().unwrap().len()), (50, 513));
        let ready = world.until_condition(&id, READY, true).await;
        assert!(ready.status.unwrap().phase_seconds.configure.is_some());

        let client = reqwest::Client::new();
        let deleted = client.delete(server.url(&format!("/focus-server/job/{id}"))).send().await.unwrap();
        assert_eq!(deleted.status(), StatusCode::OK);
        world.until_gone(&id).await;
        assert_eq!(get(&server, &format!("metadata/{id}")).await.status(), StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn metadata_says_what_is_awaited_while_there_is_no_operator() {
    in_world("awaited", |world| async move {
        default_pool(&world).await;
        let server = world.server().await;
        let (_, answer) = configure(&server, &request()).await;
        let id = answer["job_id"].as_str().unwrap().to_owned();
        let early = get(&server, &format!("metadata/{id}?wait=100ms")).await;
        assert_eq!(early.status(), StatusCode::NOT_FOUND);
        for header in ["retry-after", "focus-phase", "focus-reason"] {
            assert!(early.headers().contains_key(header), "{header}: {:?}", early.headers());
        }
        assert_eq!(early.json::<Value>().await.unwrap()["error"], json!("Invalid job_id"));
        let _operator = world.operator().await;
        let then = get(&server, &format!("metadata/{id}?wait=30s")).await;
        assert_eq!(then.status(), StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn bad_requests_are_refused_and_leave_nothing_behind() {
    in_world("refused", |world| async move {
        default_pool(&world).await;
        let server = world.server().await;
        let table = [
            (json!({"nfftSelection": 1000}), 400, "power of 2"),
            (
                json!({"frequencyRange": {"min": 0, "max": 600}}),
                400,
                "Frequency 600 Hz exceeds Nyquist limit (500 Hz)",
            ),
            (json!({"channels": {"min": 1, "max": 2501}}), 400, "2500"),
            (json!({"channels": "all"}), 422, ""),
            (json!({"nfftSelection": null}), 422, ""),
        ];
        for (changes, code, sentence) in table {
            let mut body = request();
            for (field, value) in changes.as_object().unwrap() {
                body[field] = value.clone();
            }
            let (status, answer) = configure(&server, &body).await;
            assert_eq!(status.as_u16(), code, "{changes}: {answer}");
            let words = answer.to_string();
            assert!(words.contains(sentence), "{changes}: {words}");
            assert!(answer.get(if code == 422 { "detail" } else { "error" }).is_some(), "{answer}");
        }
        assert!(world.jobs().list(&Default::default()).await.unwrap().items.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_restarted_server_takes_its_jobs_up_again() {
    in_world("again", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let first = world.server().await;
        let (_, answer) = configure(&first, &request()).await;
        let id = answer["job_id"].as_str().unwrap().to_owned();
        let before = world.until_condition(&id, READY, true).await;
        first.kill();
        world.until_condition(&id, CONSUMER_READY, false).await;
        let second = world.server().await;
        let after = world.until_condition(&id, READY, true).await;
        assert_eq!(before.status.unwrap().timeline, after.status.clone().unwrap().timeline);
        assert_eq!(after.name_any(), id);
        let metadata =
            get(&second, &format!("metadata/{id}?wait={}s", Duration::from_secs(30).as_secs())).await;
        assert_eq!(metadata.status(), StatusCode::OK);
    })
    .await;
}
