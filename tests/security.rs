//! Authentication, limits and TLS of a running server, on the real cluster and the real broker.

#![allow(clippy::unwrap_used)]

mod common;
mod security {
    pub mod auth;
    pub mod broker_tls;
    pub mod peers;
    pub mod secrets;
    pub mod tls;
}

use common::process::Process;
use common::{World, broker, until};
use serde_json::{Value, json};

/// A folder that goes with the test.
pub(crate) struct Folder(std::path::PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("focus-security-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file; it is there as a whole or not at all.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server with `args` more than it needs, and `env`.
pub(crate) fn start(world: &World, args: &[&str], env: &[(&str, &str)]) -> Process {
    let all = [
        &[
            "server",
            "--namespace",
            &world.namespace,
            "--listen",
            "127.0.0.1:{port}",
            "--grpc-listen",
            "127.0.0.1:{grpc_port}",
        ],
        args,
    ]
    .concat();
    let url = broker::url();
    Process::start(&all, &[&[("FOCUS_BROKER_URL", url.as_str())], env].concat())
}

pub(crate) async fn server(world: &World, args: &[&str]) -> Process {
    let server = start(world, args, &[]);
    server.until_ready().await;
    server
}

/// What a request is answered: status, headers, JSON.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

pub(crate) async fn ask(server: &Process, method: &str, path: &str, token: Option<&str>) -> Answer {
    let client = reqwest::Client::new();
    let url = server.url(&format!("/focus-server/{path}"));
    let mut request = client.request(method.parse().unwrap(), url);
    if method == "POST" {
        request = request.json(&json!({
            "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 50},
            "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
        }));
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, body: answer.json().await.unwrap_or_default() }
}

/// Asks until the answer has `status`.
pub(crate) async fn until_status(server: &Process, path: &str, token: Option<&str>, status: u16) {
    until(&format!("{path} answers {status}"), || async {
        (ask(server, "GET", path, token).await.status == status).then_some(())
    })
    .await;
}

/// Configures a job and gives its id.
pub(crate) async fn configured(server: &Process, token: &str) -> String {
    let answer = ask(server, "POST", "configure", Some(token)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["job_id"].as_str().unwrap().to_owned()
}
