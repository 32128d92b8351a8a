//! Live streams as clients in another language read them.

use focus_operator::api::conditions::FINISHED;
use focus_operator::api::names::{self, queue_name};
use focus_operator::wire::frame::Kind;
use focus_operator::wire::{End, Header, Line};
use kube::api::{DeleteParams, Patch};
use serde_json::{Value, json};

use super::server::{configure, request};
use crate::common::broker::TestAnalyzer;
use crate::common::objects::{default_pool, job, pool, synthetic};
use crate::common::process::Process;
use crate::common::python::{Client, Python};
use crate::common::{World, in_world, until};

pub fn grpc(server: &Process) -> String {
    format!("127.0.0.1:{}", server.grpc_port)
}

pub async fn job_id(server: &Process, request: &Value) -> String {
    let (_, answer) = configure(server, request).await;
    answer["job_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn every_stream_of_a_job_has_its_header_and_its_lines() {
    in_world("streams", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let server = world.server().await;
        // Ten lines a second: an analyzer built without optimisation leaves none out, also on a busy machine.
        let mut request = request();
        request["displayInfo"]["height"] = json!(100);
        let id = job_id(&server, &request).await;
        let python = Python::new();
        let found = python.run("grpc_client.py", &[&grpc(&server), "lines", &id, "3", "20"]).await;
        for (stream, channels) in [[1, 17], [18, 34], [35, 50]].into_iter().enumerate() {
            let messages = found[stream].as_array().unwrap();
            let count = channels[1] - channels[0] + 1;
            assert_eq!(messages.len(), 21);
            for (i, message) in messages.iter().enumerate() {
                let rows = usize::from(i > 0);
                assert_eq!(message["channels"], json!(channels), "{message}");
                assert_eq!(message["shape"], json!([count, 513, rows]), "{message}");
                assert_eq!(message["job_id"], json!(id));
                assert_eq!(message["bytes"], json!(vec![count * 513; rows]), "{message}");
            }
            for pair in messages[1..].windows(2) {
                let number = |message: &Value, field: &str| message[field][0].as_i64().unwrap();
                assert_eq!(number(&pair[1], "rows") - number(&pair[0], "rows"), 1, "{pair:?}");
                // lines_dt is 100 ms, rounded down to whole ones.
                let step = number(&pair[1], "times") - number(&pair[0], "times");
                assert!((99..=101).contains(&step), "{pair:?}");
            }
        }
        server.until_metric("focus_server_stream_readers{kind=\"grpc\"}", 0.0).await;
        assert_eq!(server.metric("focus_server_lines_dropped_total{reason=\"slow_reader\"}").await, 0.0);
    })
    .await;
}

pub const CHANNELS: usize = 8;
pub const PER_CHANNEL: usize = 513;

pub fn eight_channels() -> Value {
    let mut request = request();
    request["channels"]["max"] = json!(CHANNELS);
    request
}

/// A pool whose analyzers never run: what is on the queue is the test's own.
pub async fn silent_pool(world: &World) {
    pool(world, "default", synthetic(), "focus-operator.io/no-such-image:1").await;
}

/// The analyzer of job `id`.
pub async fn analyzer(world: &World, id: &str) -> TestAnalyzer {
    let object = world.job(id).await;
    let analyzer = world.broker.analyzer(&queue_name(&object)).await;
    let header = Header {
        job_uid: object.metadata.uid.unwrap(),
        sample_rate_hz: 1000.0,
        source_channels: 2500,
        channel_min: 1,
        channel_max: CHANNELS as i32,
        frequencies_hz: (0..PER_CHANNEL).map(|k| k as f64 * 1000.0 / 1024.0).collect(),
        nfft: 1024,
        lines_dt_s: 0.01,
        ..Header::default()
    };
    analyzer.publish(Kind::Header(header)).await;
    analyzer
}

/// A server, a view by it, and the view's analyzer.
async fn view_of_eight_channels(world: &World) -> (Process, String, TestAnalyzer) {
    let server = world.server().await;
    let id = job_id(&server, &eight_channels()).await;
    let analyzer = analyzer(world, &id).await;
    (server, id, analyzer)
}

/// Line `index`: each intensity is its channel.
pub fn line(index: u64) -> Line {
    let intensities = (1..=CHANNELS).flat_map(|c| [c as u8; PER_CHANNEL]).collect();
    let start_us = 1_700_000_000_000_000 + index as i64 * 10_000;
    let (db_min, db_max) = (-90.0, 10.0);
    Line { index, start_us, end_us: start_us + 1_024_000, db_min, db_max, intensities, ..Line::default() }
}

/// What all intensities of `lines` lines add up to.
pub fn sum_of(lines: u64) -> u64 {
    lines * (1..=CHANNELS as u64).sum::<u64>() * PER_CHANNEL as u64
}

/// The address of the job's WebSocket.
pub fn websocket(server: &Process, id: &str) -> String {
    server.url(&format!("/focus-server/stream/{id}")).replace("http", "ws")
}

/// Publishes more lines than fit between a reader and its server, and ends the job `id`, whose consumer `owner` has: the
/// `fast` WebSocket has got all, and the `slow` call, which reads nothing meanwhile, is told how many it lost.
pub async fn the_slow_loses_alone(
    world: &World,
    owner: &Process,
    id: &str,
    analyzer: &TestAnalyzer,
    (fast, mut slow): (Client, Client),
) {
    const STEP: u64 = 500;
    const LINES: u64 = 4000;
    for step in 0..LINES / STEP {
        for index in step * STEP..(step + 1) * STEP {
            analyzer.publish(Kind::Line(line(index))).await;
        }
        let given = ((step + 1) * STEP) as f64;
        owner.until_metric("focus_server_stream_lines_total{kind=\"websocket\"}", given).await;
    }
    world.jobs().delete(id, &DeleteParams::default()).await.unwrap();
    let (all, _) = fast.says().await;
    assert_eq!(all["rows"], json!(LINES), "{all}");
    assert_eq!((&all["lost"], &all["sums"]), (&json!(0), &json!(sum_of(LINES))), "{all}");
    assert_eq!(all["ended"]["reason"], json!("Deleted"), "{all}");

    // It checks that each gap in the numbers is the loss that it is told of.
    slow.go_on();
    let (some, _) = slow.says().await;
    let lost = some["lost"].as_u64().unwrap();
    assert!(lost > 0, "{some}");
    assert_eq!((some["rows"].as_u64().unwrap() + lost, &some["last"]), (LINES, &json!(LINES - 1)), "{some}");
    assert_eq!(
        (&some["code"], &some["trailers"]["focus-lost-rows"]),
        (&json!("NOT_FOUND"), &json!(lost.to_string()))
    );
    owner.until_metric("focus_server_lines_dropped_total{reason=\"slow_reader\"}", lost as f64).await;
    owner.until_metric("focus_server_stream_readers{kind=\"websocket\"}", 0.0).await;
}

#[tokio::test]
async fn a_slow_reader_loses_the_oldest_and_is_told_while_another_gets_all() {
    in_world("slow", |world| async move {
        silent_pool(&world).await;
        let _operator = world.operator().await;
        let (server, id, analyzer) = view_of_eight_channels(&world).await;
        let python = Python::new();
        let (header, slow) = python.start("grpc_client.py", &[&grpc(&server), "slow", &id]).says().await;
        assert_eq!((&header["channels"], &header["shape"]), (&json!([1, 3]), &json!([3, 513, 0])));
        let url = websocket(&server, &id);
        let (metadata, fast) = python.start("websocket_client.py", &[&url]).says().await;
        assert_eq!((&metadata["job_id"], &metadata["stream_amount"]), (&json!(id), &json!(3)));
        the_slow_loses_alone(&world, &server, &id, &analyzer, (fast, slow)).await;
    })
    .await;
}

#[tokio::test]
async fn the_last_lines_of_a_completed_job_are_given_before_its_end() {
    in_world("last", |world| async move {
        silent_pool(&world).await;
        let _operator = world.operator().await;
        let (server, id, analyzer) = view_of_eight_channels(&world).await;
        let python = Python::new();
        let (_, lines) = python.start("websocket_client.py", &[&websocket(&server, &id)]).says().await;
        let end = json!({"reason": "Completed", "message": "the end", "failed": false}).to_string();
        let patch = json!({"metadata": {"annotations": {names::END: end}}});
        world.jobs().patch(&id, &Default::default(), &Patch::Merge(&patch)).await.unwrap();
        world.until_reason(&id, FINISHED, "Completed").await;
        // The analyzer's pod is seen to end before what it sent last has come.
        for index in 0..10 {
            analyzer.publish(Kind::Line(line(index))).await;
        }
        analyzer.publish(Kind::End(End { reason: "Completed".to_owned(), ..End::default() })).await;
        let (told, _) = lines.says().await;
        assert_eq!((&told["rows"], &told["ended"]["reason"]), (&json!(10), &json!("Completed")), "{told}");
        world.broker.until_no_queue(&queue_name(&world.job(&id).await)).await;
    })
    .await;
}

#[tokio::test]
async fn a_call_that_gets_no_lines_says_why() {
    in_world("nolines", |world| async move {
        silent_pool(&world).await;
        let _operator = world.operator().await;
        let server = world.server().await;
        let python = Python::new();
        let address = grpc(&server);
        let services = python.run("grpc_client.py", &[&address, "services"]).await;
        let names = ["", "pandadatastream.DataStreamService"];
        until("the health service says so", || async {
            let told = python.run("grpc_client.py", &[&address, "services"]).await;
            names.iter().all(|name| told["health"][name] == json!("SERVING")).then_some(())
        })
        .await;
        assert!(services["services"].as_array().unwrap().contains(&json!(names[1])), "{services}");

        let refused = async |args: &[&str], code: &str, words: &str| {
            let told = python.run("grpc_client.py", &[&[&address, "status"], args].concat()).await;
            assert_eq!(told["code"], json!(code), "{args:?}: {told}");
            assert!(told["details"].as_str().unwrap().contains(words), "{args:?}: {told}");
            told
        };
        refused(&["0"], "INVALID_ARGUMENT", "there is no live job").await;
        refused(&["0", "job-id=18-3"], "NOT_FOUND", "UnknownJob").await;
        world.create(job("astray", json!({"pool": "nowhere"}))).await;
        let astray = server.url("/focus-server/metadata/astray");
        until("the server knows the job", || async {
            let answer = reqwest::get(&astray).await.ok()?;
            (answer.headers().get("focus-phase")? == "pool").then_some(())
        })
        .await;
        // The only live job need not be named.
        let told = refused(&["0", "wait=200ms"], "UNAVAILABLE", "no AnalyzerPool named nowhere").await;
        assert_eq!(told["trailers"], json!({"focus-phase": "pool", "focus-reason": "PoolNotFound"}));
        refused(&["0", "wait=soon"], "INVALID_ARGUMENT", "wait must be").await;

        let id = job_id(&server, &eight_channels()).await;
        let named = format!("job-id={id}");
        refused(&["0"], "INVALID_ARGUMENT", "2 live jobs").await;
        refused(&["3", &named], "NOT_FOUND", "its streams are 0 to 2").await;
        refused(&["-1", &named], "NOT_FOUND", "its streams are 0 to 2").await;
        let told = python.run("grpc_client.py", &[&address, "status", "2", &named]).await;
        assert_eq!((&told["message"]["channels"], &told["message"]["job_id"]), (&json!([7, 8]), &json!(id)));

        let url = server.url("/focus-server/stream/18-3");
        assert_eq!(reqwest::get(&url).await.unwrap().status(), 400, "no upgrade");
    })
    .await;
}
