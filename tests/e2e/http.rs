//! The HTTP API besides the display's own part.

use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::{configure, get, request};
use crate::common::objects::default_pool;
use crate::common::process::Process;
use crate::common::{PATIENCE, in_world, until};

async fn json_of(server: &Process, path: &str) -> Value {
    let answer = get(server, path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn the_source_and_the_jobs_are_told() {
    in_world("told", |world| async move {
        let server = world.server().await;
        for path in ["channels", "live_metadata"] {
            let early = get(&server, path).await;
            assert_eq!(early.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert!(early.headers().contains_key("retry-after"));
            assert_eq!(early.json::<Value>().await.unwrap()["reason"], "NoSource");
        }
        default_pool(&world).await;
        until("the pool is seen", || async {
            get(&server, "channels").await.status().is_success().then_some(())
        })
        .await;
        assert_eq!(json_of(&server, "ack").await, json!({}));
        assert_eq!(json_of(&server, "channels").await, json!({"lowest_channel": 1, "highest_channel": 2500}));
        let live = json_of(&server, "live_metadata").await;
        assert_eq!((&live["prr"], &live["number_of_channels"]), (&json!(1000.0), &json!(2500)), "{live}");
        assert_eq!(live.as_object().unwrap().len(), 9, "{live}");

        let (_, answer) = configure(&server, &request()).await;
        let id = answer["job_id"].as_str().unwrap().to_owned();
        let list = json_of(&server, "jobs").await;
        assert_eq!((&list["total"], &list["truncated"]), (&json!(1), &json!(false)));
        assert_eq!((&list["jobs"][0]["job_id"], &list["jobs"][0]["window"]), (&json!(id), &json!(0)));
        assert_eq!(list["jobs"][0]["waiting_for"]["reason"], "NotAccepted");
        assert_eq!(json_of(&server, "jobs?state=Ready").await["jobs"], json!([]));
        assert_eq!(json_of(&server, "jobs?state=Pending&limit=1").await["total"], 1);
        for query in ["state=Gone", "limit=0", "limit=1&limit=2"] {
            assert_eq!(
                get(&server, &format!("jobs?{query}")).await.status(),
                StatusCode::BAD_REQUEST,
                "{query}"
            );
        }
        let job = json_of(&server, &format!("jobs/{id}")).await;
        assert_eq!(job["spec"]["nfftSelection"], 1024);
        let words =
            "The job waits for the operator: the operator has not taken up the job yet (NotAccepted).";
        assert_eq!(job["explanation"], words);
        let _operator = world.operator().await;
        let ready = until("the job is ready", || async {
            let job = json_of(&server, &format!("jobs/{id}")).await;
            (job["state"] == "Ready").then_some(job)
        })
        .await;
        assert!(ready["phase_seconds"]["total"].as_f64().unwrap() > 0.0, "{ready}");
        assert!(
            ready["timeline"]["readyAt"].is_string() && ready["conditions"].as_array().unwrap().len() >= 4
        );
        assert_eq!(get(&server, "jobs/nobody").await.status(), StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn every_answer_is_named_and_every_refusal_is_json() {
    in_world("refusals", |world| async move {
        let server = world.server().await;
        let client = reqwest::Client::new();
        let cases = [
            (Method::GET, "/nowhere", 404),
            (Method::GET, "/focus-server/", 404),
            (Method::PUT, "/focus-server/configure", 405),
            (Method::POST, "/focus-server/ack", 405),
            (Method::GET, "/focus-server/metadata/%ff", 404),
            (Method::GET, "/focus-server/metadata/x?wait=1&wait=2", 400),
            (Method::GET, "/focus-server/waterfall/%ff/1", 400),
            (Method::GET, "/focus-server/stream/%ff", 400),
            (Method::GET, "/focus-server/stream/x?wait=1&wait=2", 400),
            (Method::DELETE, "/focus-server/job/%2e%2e", 404),
            (Method::DELETE, "/focus-server/job/..%2fx", 404),
        ];
        for (method, path, code) in cases {
            let answer = client.request(method.clone(), server.url(path)).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), code, "{method} {path}");
            assert_eq!(answer.headers()["content-type"], "application/json", "{method} {path}");
            assert_eq!(answer.headers()["x-request-id"].len(), 32, "{method} {path}");
            assert!(code != 405 || answer.headers().contains_key("allow"), "{method} {path}");
            assert!(answer.json::<Value>().await.unwrap()["error"].is_string(), "{method} {path}");
        }
        let named = client
            .get(server.url("/focus-server/ack"))
            .header("x-request-id", "mine-1")
            .send()
            .await
            .unwrap();
        assert_eq!(named.headers()["x-request-id"], "mine-1");
        let large =
            client.post(server.url("/focus-server/configure")).body("x".repeat(70_000)).send().await.unwrap();
        assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);

        let document: Value = reqwest::get(server.url("/openapi.json")).await.unwrap().json().await.unwrap();
        assert!(document["paths"]["/focus-server/configure"]["post"].is_object());
        let page = reqwest::get(server.url("/docs/")).await.unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        let page = page.text().await.unwrap();
        assert!(page.contains("swagger-ui") && !page.contains("src=\"http"), "{page}");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    in_world("tooslow", |world| async move {
        let server = world.server().await;
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let head = "POST /focus-server/configure HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.expect("an answer within the deadline").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
    })
    .await;
}

/// The status, the job's id, and whether the answer says that it is an old one.
async fn configure_with_key(server: &Process, key: &str, body: &Value) -> (StatusCode, Value, bool) {
    let client = reqwest::Client::new();
    let request =
        client.post(server.url("/focus-server/configure")).header("idempotency-key", key).json(body);
    let answer = request.send().await.unwrap();
    let (status, replayed) = (answer.status(), answer.headers().contains_key("idempotency-replayed"));
    let body: Value = answer.json().await.unwrap();
    (status, if status.is_success() { body["job_id"].clone() } else { body }, replayed)
}

#[tokio::test]
async fn one_key_makes_one_job_whichever_replica_is_asked() {
    in_world("key", |world| async move {
        default_pool(&world).await;
        let (one, two) = (world.server().await, world.server().await);
        // Many at once, on both: each gets the same job.
        let (body, key) = (request(), "a-key");
        let asked = (0..12).map(|i| configure_with_key(if i % 2 == 0 { &one } else { &two }, key, &body));
        let answers = futures::future::join_all(asked).await;
        let id = answers[0].1.clone();
        assert!(answers.iter().all(|(status, is, _)| *status == StatusCode::OK && *is == id), "{answers:?}");
        assert_eq!(answers.iter().filter(|(_, _, replayed)| !replayed).count(), 1, "{answers:?}");
        let live = || async {
            let jobs = world.jobs().list(&ListParams::default()).await.unwrap().items;
            jobs.into_iter().filter(|job| job.metadata.deletion_timestamp.is_none()).count()
        };
        assert_eq!(live().await, 1);

        drop(one);
        let restarted = world.server().await;
        assert_eq!(configure_with_key(&restarted, key, &body).await, (StatusCode::OK, id.clone(), true));
        let mut other = body.clone();
        other["channels"]["max"] = json!(9);
        let (status, answer, _) = configure_with_key(&two, key, &other).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer["detail"][0]["msg"].as_str().unwrap().contains(id.as_str().unwrap()), "{answer}");
        assert_eq!(configure_with_key(&two, "two words", &body).await.0, StatusCode::BAD_REQUEST);
        let (_, second, replayed) = configure_with_key(&two, "another-key", &body).await;
        assert!(second != id && !replayed);

        // A key is free again when its job is gone.
        let name = id.as_str().unwrap();
        world.jobs().delete(name, &DeleteParams::default()).await.unwrap();
        let (status, third, replayed) = configure_with_key(&two, key, &body).await;
        assert!(status.is_success() && third != id && !replayed, "{third}");
    })
    .await;
}

#[tokio::test]
async fn all_windows_taken_is_answered_with_a_time_to_come_again() {
    in_world("windows", |world| async move {
        default_pool(&world).await;
        let server = world.server_with(&["--windows", "2"]).await;
        for window in 0..2 {
            let (_, answer) = configure(&server, &request()).await;
            assert!(answer["job_id"].as_str().unwrap().starts_with(&format!("{window}-")), "{answer}");
        }
        let client = reqwest::Client::new();
        let refused =
            client.post(server.url("/focus-server/configure")).json(&request()).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        assert_eq!(refused.json::<Value>().await.unwrap()["error"], "Too many jobs");
    })
    .await;
}

/// Name and data of the stream's events, until it ends or has had an event `until`.
async fn events(mut answer: reqwest::Response, until: &str) -> Vec<(String, String, Value)> {
    let mut text = String::new();
    let wanted = format!("event: {until}\n");
    while !(text.contains(&wanted) && text.ends_with("\n\n")) {
        let next = tokio::time::timeout(PATIENCE, answer.chunk()).await.expect("news within the deadline");
        let Some(bytes) = next.unwrap() else { break };
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    let field = |event: &str, name: &str| {
        event
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
            .unwrap_or_default()
    };
    text.split("\n\n")
        .filter(|event| event.contains("data: "))
        .map(|event| {
            (field(event, "event"), field(event, "id"), serde_json::from_str(&field(event, "data")).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn each_milestone_is_told_as_it_is_reached_and_once() {
    in_world("events", |world| async move {
        default_pool(&world).await;
        let server = world.server().await;
        assert_eq!(get(&server, "jobs/nobody/events").await.status(), StatusCode::NOT_FOUND);
        let (_, answer) = configure(&server, &request()).await;
        let id = answer["job_id"].as_str().unwrap().to_owned();
        let listening = get(&server, &format!("jobs/{id}/events")).await;
        assert_eq!(listening.headers()["content-type"], "text/event-stream");
        let all = tokio::spawn(events(listening, "end"));
        let _operator = world.operator().await;
        get(&server, &format!("metadata/{id}?wait=60s")).await;
        until("Ready", || async {
            let job = json_of(&server, &format!("jobs/{id}")).await;
            (job["state"] == "Ready").then_some(())
        })
        .await;
        // One that comes late is told the past first.
        let late = get(&server, &format!("jobs/{id}/events")).await;
        let late = tokio::time::timeout(Duration::from_secs(30), events(late, "condition")).await.unwrap();
        let milestones: Vec<_> = late
            .iter()
            .filter(|(name, _, _)| name == "milestone")
            .map(|(_, _, data)| data["milestone"].clone())
            .collect();
        for milestone in
            ["configuredAt", "acceptedAt", "queueReadyAt", "consumerReadyAt", "podReadyAt", "readyAt"]
        {
            assert!(milestones.contains(&json!(milestone)), "{milestone}: {milestones:?}");
        }
        let client = reqwest::Client::new();
        client.delete(server.url(&format!("/focus-server/job/{id}"))).send().await.unwrap();
        let told = all.await.unwrap();
        let count = |wanted: &str| told.iter().filter(|(_, _, data)| data["milestone"] == wanted).count();
        assert_eq!((count("readyAt"), count("consumerReadyAt")), (1, 1), "{told:?}");
        let ready = told.iter().find(|(_, _, data)| data["milestone"] == "readyAt").unwrap();
        assert!(ready.2["phase_seconds"].as_f64().unwrap() > 0.0 && ready.2["phase"] == "total");
        assert_eq!(told.last().unwrap().0, "end", "{told:?}");
    })
    .await;
}
