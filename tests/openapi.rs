//! The HTTP API against its own document: schemathesis sends what the document allows and what it forbids.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::objects::idle_pool;
use common::process::Process;
use common::{broker, in_world};
use reqwest::StatusCode;
use serde_json::Value;

/// The same requests each time; another may be given in FOCUS_TEST_SEED.
const SEED: &str = "4";

#[tokio::test(flavor = "multi_thread")]
async fn no_input_makes_the_server_break_its_word() {
    let Some(programs) = std::env::var_os("FOCUS_TEST_PYTHON").map(std::path::PathBuf::from) else {
        println!(
            "skipped: name the folder of schemathesis in FOCUS_TEST_PYTHON (hack/python-tools prints it)"
        );
        return;
    };
    in_world("openapi", |world| async move {
        // Its jobs are only objects, which go with the namespace.
        idle_pool(&world).await;
        let recordings = common::objects::PAST_FOLDER;
        let server = Process::start(
            &[
                "server",
                "--namespace",
                &world.namespace,
                "--listen",
                "127.0.0.1:{port}",
                "--grpc-listen",
                "127.0.0.1:{grpc_port}",
                "--windows",
                "100",
                "--recordings",
                recordings,
            ],
            &[("FOCUS_BROKER_URL", &broker::url())],
        );
        server.until_ready().await;
        let seed = std::env::var("FOCUS_TEST_SEED").unwrap_or_else(|_| SEED.to_owned());
        println!("schemathesis with --seed {seed}");
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml");
        let mut fuzzer = Command::new(programs.join("schemathesis"));
        fuzzer.args(["--config-file", config, "run", &server.url("/openapi.json"), "--seed", &seed]);
        let output = tokio::task::spawn_blocking(move || fuzzer.output().unwrap()).await.unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let alive = reqwest::get(server.url("/focus-server/ack")).await.unwrap();
        assert_eq!(alive.status(), StatusCode::OK);
        let list: Value =
            reqwest::get(server.url("/focus-server/jobs?limit=1")).await.unwrap().json().await.unwrap();
        println!("{} jobs were made", list["total"]);
        assert!(!server.log().contains("panicked"), "{}", server.log());
    })
    .await;
}
