//! `focus bench` with small numbers: what it counts, and that it takes away what it made. How fast anything is, is not
//! asserted.

use std::process::Output;

use focus_operator::api::AnalyzerPool;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use crate::common::process::Process;
use crate::common::{World, broker, in_world};

/// Runs `focus bench` against `server`; gives its exit code and its report.
async fn bench(world: &World, server: &Process, args: &[&str]) -> (Option<i32>, Value) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_focus"));
    command.arg("bench").args(args).args([
        "--json",
        "--server",
        &server.url(""),
        "--namespace",
        &world.namespace,
    ]);
    command.env("FOCUS_BROKER_URL", broker::url());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let Output { status, stdout, stderr } = ran.unwrap();
    let report = serde_json::from_slice(&stdout);
    (status.code(), report.unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&stderr))))
}

/// A number of the report.
fn fact(report: &Value, name: &str) -> f64 {
    let facts = report["facts"].as_array().unwrap();
    let fact =
        facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("no {name:?}: {report}"));
    fact["value"].as_f64().unwrap()
}

/// How many times a row of the report has.
fn times(report: &Value, name: &str) -> u64 {
    let rows = report["phases"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name:?}: {report}"));
    row["seconds"]["n"].as_u64().unwrap()
}

async fn nothing_is_left(world: &World) {
    assert_eq!(world.jobs().list(&ListParams::default()).await.unwrap().items.len(), 0);
    let pools: Api<AnalyzerPool> = Api::namespaced(world.client.clone(), &world.namespace);
    assert_eq!(pools.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

const JOBS: u64 = 3;
const LINES: u64 = 20;
const READERS: u64 = 4;

#[tokio::test]
async fn streams_lose_no_line_and_lost_lines_are_found() {
    in_world("bench", |world| async move {
        let _operator = world.operator().await;
        let server = world.server().await;
        let grpc = format!("http://127.0.0.1:{}", server.grpc_port);
        let (jobs, readers) = (JOBS.to_string(), READERS.to_string());
        let view = ["--channels", "4", "--nfft", "256", "--lines-per-second", "20", "--duration", "1s"];
        let load =
            [&["streams", "--grpc", &grpc, "--jobs", &jobs, "--readers", &readers], &view[..]].concat();

        let (code, report) = bench(&world, &server, &load).await;
        assert_eq!((code, report["failures"].as_array().map(Vec::len)), (Some(0), Some(0)), "{report}");
        assert_eq!(fact(&report, "lines due"), (JOBS * LINES) as f64);
        assert_eq!(fact(&report, "lines received by the server"), (JOBS * LINES) as f64);
        assert_eq!(fact(&report, "lines received by readers"), (JOBS * LINES * READERS) as f64);
        assert_eq!(times(&report, "line published -> at a reader"), JOBS * LINES * READERS);
        nothing_is_left(&world).await;

        // Lines 6 and 13 of each job.
        let (code, report) = bench(&world, &server, &[&load[..], &["--leave-out", "7"]].concat()).await;
        assert_eq!(
            (code, &report["failures"][0]["reason"]),
            (Some(1), &Value::from("LinesLost")),
            "{report}"
        );
        let message = report["failures"][0]["message"].as_str().unwrap();
        let lost = format!("12 of 12 readers lost {} lines", JOBS * READERS * 2);
        assert!(message.contains(&lost) && message.contains("reason=gap 6"), "{message}");
        assert_eq!(fact(&report, "lines received by the server"), (JOBS * (LINES - 2)) as f64);
        nothing_is_left(&world).await;
    })
    .await;
}

#[tokio::test]
async fn configure_requests_are_counted_and_their_jobs_ended() {
    in_world("rate", |world| async move {
        let _operator = world.operator().await;
        let server = world.server().await;
        let args = ["configure", "--metadata", "--rate", "5", "--duration", "1s", "--hold", "0s"];
        let (code, report) = bench(&world, &server, &args).await;
        assert_eq!((code, report["failures"].as_array().map(Vec::len)), (Some(0), Some(0)), "{report}");
        assert_eq!((fact(&report, "requests"), fact(&report, "requests that failed")), (5.0, 0.0));
        for row in [
            "configure: due -> answer",
            "consumer.created event -> metadata 200",
            "DELETE job: sent -> answer",
        ] {
            assert_eq!(times(&report, row), 5, "{row}");
        }
        assert!(report["floor"][0]["seconds"]["n"].as_u64().unwrap() > 0, "{report}");
        nothing_is_left(&world).await;
    })
    .await;
}
