//! Views of the past.

use focus_operator::api::conditions::FINISHED;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::server::{configure, get, request};
use crate::common::objects::{PAST, PAST_FOLDER, default_pool, past_pool};
use crate::common::process::Process;
use crate::common::{condition, in_world, until};

fn historic(start: i64, end: i64) -> Value {
    let mut request = request();
    let view = json!({"channels": {"min": 1, "max": 4}, "frequencyRange": {"min": 0, "max": 50},
        "nfftSelection": 256, "displayInfo": {"height": 100}, "start_time": PAST + start, "end_time": PAST + end});
    for (field, value) in view.as_object().unwrap() {
        request[field] = value.clone();
    }
    request
}

async fn recordings(server: &Process, start: i64, end: i64) -> Value {
    let range = json!({"start_time": start, "end_time": end});
    let url = server.url("/focus-server/recordings_in_time_range");
    reqwest::Client::new().post(url).json(&range).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_historic_job_is_played_and_ends_by_itself() {
    in_world("historic", |world| async move {
        past_pool(&world, "default").await;
        let _operator = world.operator().await;
        let server = world.server_with(&["--recordings", PAST_FOLDER]).await;
        server.until_metric("focus_server_recordings{readable=\"yes\"}", 4.0).await;
        server.until_metric("focus_server_recordings{readable=\"no\"}", 2.0).await;
        let expected = json!([[PAST, PAST + 10], [PAST + 30, PAST + 35]]);
        assert_eq!(recordings(&server, PAST, PAST + 100).await, expected);
        assert_eq!(recordings(&server, PAST + 10, PAST + 30).await, json!([]));

        let (status, answer) = configure(&server, &historic(12, 28)).await;
        assert_eq!(
            (status, &answer),
            (StatusCode::NOT_FOUND, &json!({"error": "No recording found in given time range"}))
        );
        let (status, answer) = configure(&server, &historic(3, 3)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let mut live = historic(0, 1);
        live.as_object_mut().unwrap().retain(|field, _| !field.ends_with("_time"));
        let (status, answer) = configure(&server, &live).await;
        assert_eq!((status, &answer["reason"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("NoLiveSource")));

        let (status, answer) = configure(&server, &historic(3, 9)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let id = answer["job_id"].as_str().unwrap().to_owned();
        assert_eq!(get(&server, &format!("metadata/{id}?wait=30s")).await.status(), StatusCode::OK);
        let rows: Value = until("a line of the past", || async {
            let answer = get(&server, &format!("waterfall/{id}/1000")).await;
            (answer.status() == StatusCode::CREATED).then_some(())?;
            answer.json().await.ok()
        })
        .await;
        let first = rows[0]["rows"][0]["startTimestamp"].as_i64().unwrap();
        assert_eq!(first, (PAST + 3) * 1000);

        let finished = world.until_condition(&id, FINISHED, true).await;
        assert_eq!(condition(&finished, FINISHED).unwrap().1, "Completed");
        let last: Value = until("208 from the server", || async {
            let answer = get(&server, &format!("waterfall/{id}/1")).await;
            (answer.status() == StatusCode::ALREADY_REPORTED).then_some(())?;
            answer.json().await.ok()
        })
        .await;
        // Windows last 2.56 s, a line comes each 0.1 s: the last one that fits begins 3.4 s after the first.
        assert_eq!(last[0]["rows"][0]["startTimestamp"], json!((PAST + 3) * 1000 + 3400));
        let job: Value = get(&server, &format!("jobs/{id}")).await.json().await.unwrap();
        assert_eq!((&job["state"], &job["waiting_for"]), (&json!("Finished"), &Value::Null), "{job}");
        world.until_no_pods().await;
    })
    .await;
}

#[tokio::test]
async fn a_live_source_is_one_running_recording() {
    in_world("running", |world| async move {
        default_pool(&world).await;
        let server = world.server().await;
        let now = k8s_openapi::jiff::Timestamp::now().as_second();
        let found = recordings(&server, now - 3600, now + 60).await;
        let [since, end] = [0, 1].map(|i| found[0][i].as_i64().unwrap());
        assert!((now - 60..=now).contains(&since) && end == -1, "{found} at {now}");
        assert_eq!(recordings(&server, 0, 1000).await, json!([]));
        let (status, answer) = configure(&server, &historic(0, 5)).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
    })
    .await;
}
