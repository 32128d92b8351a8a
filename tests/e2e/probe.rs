//! The timing test as its users run it.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::common::objects::default_pool;
use crate::common::{broker, in_world};

/// How many jobs.
const JOBS: usize = 20;
/// What is told of each.
const PHASES: [&str; 10] = [
    "configure answer",
    "metadata 200",
    "first line",
    "Ready seen",
    "delete -> gone",
    "status: configure",
    "status: pod",
    "status: queue",
    "status: consumer",
    "status: total",
];
/// What is told of the machine.
const FLOOR: [&str; 4] = [
    "bare pod: create -> scheduled seen",
    "bare pod: create -> Ready seen",
    "bare queue: declare -> declare-ok",
    "bare queue: consume -> consume-ok",
];

#[tokio::test]
async fn the_probe_sees_every_consumer_come_up_and_tells_every_phase() {
    in_world("probe", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let server = world.server().await;
        let file = std::env::temp_dir().join(format!("{}.json", world.namespace));
        let probe = Command::new(env!("CARGO_BIN_EXE_focus"))
            .args(["probe", "--server", &server.url(""), "--namespace", &world.namespace])
            .args(["--jobs", &JOBS.to_string(), "--limit", "80s", "--max-consumer", "80s"])
            .args(["--floor-samples", "1", "--json-file"])
            .arg(&file)
            .env("FOCUS_BROKER_URL", broker::url())
            .env("FOCUS_LOG", "warn")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let table = String::from_utf8(probe.stdout).unwrap();
        println!("{table}");
        let errors = String::from_utf8_lossy(&probe.stderr);
        assert!(probe.status.success(), "{}: {table}\n{errors}", probe.status);
        let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(report["failures"], serde_json::json!([]), "{table}");
        for (part, names) in [("phases", &PHASES[..]), ("floor", &FLOOR[..])] {
            for name in names {
                let row = report[part].as_array().unwrap().iter().find(|row| row["name"] == *name);
                let row = row.unwrap_or_else(|| panic!("no row {name}: {table}"));
                let samples = row["samples"].as_array().unwrap();
                assert!(part == "floor" || samples.len() == JOBS, "{name} has {}: {table}", samples.len());
                assert!(samples.iter().all(|s| s.as_f64().unwrap() >= 0.0), "{row}");
                assert!(
                    table.lines().any(|line| line.starts_with(name)),
                    "{name} is not in the table: {table}"
                );
            }
        }
        assert!(
            world
                .jobs()
                .list(&Default::default())
                .await
                .unwrap()
                .items
                .iter()
                .all(|job| { job.metadata.deletion_timestamp.is_some() })
        );
    })
    .await;
}
