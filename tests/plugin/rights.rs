//! What the plugin can do with how few rights.

use std::path::PathBuf;

use focus_operator::api::conditions::READY;
use focus_operator::api::names::queue_name;
use serde_json::json;

use super::report::{archive, planted_pool};
use crate::common::objects::job;
use crate::common::plugin::{focus, kubectl};
use crate::common::{World, in_world};

/// A kubeconfig of a service account that may read these resources of the world's namespace, and nothing else. It is
/// removed when this is dropped.
pub struct Account {
    file: PathBuf,
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Account {
    pub fn new(world: &World, name: &str, resources: &[&str]) -> Self {
        let namespace = &world.namespace;
        let run = |args: &[&str]| -> String {
            let done = kubectl(&[]).args(["--namespace", namespace]).args(args).output().unwrap();
            assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap()
        };
        run(&["create", "serviceaccount", name]);
        let resources = format!("--resource={}", resources.join(","));
        run(&["create", "role", name, "--verb=get,list,watch", &resources]);
        let (role, account) = (format!("--role={name}"), format!("--serviceaccount={namespace}:{name}"));
        run(&["create", "rolebinding", name, &role, &account]);
        let token = run(&["create", "token", name]);
        let mut config: serde_json::Value = serde_json::from_str(&run(&[
            "config",
            "view",
            "--raw",
            "--minify",
            "--flatten",
            "--output",
            "json",
        ]))
        .unwrap();
        config["users"][0]["user"] = json!({"token": token.trim()});
        config["contexts"][0]["context"]["namespace"] = json!(namespace);
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{namespace}-{name}.kubeconfig"));
        std::fs::write(&file, config.to_string()).unwrap();
        Self { file }
    }

    pub fn kubeconfig(&self) -> &str {
        self.file.to_str().unwrap()
    }
}

const JOBS: &str = "focusjobs.focus-operator.io";

#[tokio::test]
async fn reading_jobs_and_events_is_all_it_needs() {
    in_world("plugin-rights", |world| async move {
        planted_pool(&world).await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let consumer = world.broker.consume(&queue_name(&created)).await;
        world.until_condition("view", READY, true).await;

        let least = Account::new(&world, "least", &[JOBS, "events"]);
        let told = focus(&["status", "view", "--kubeconfig", least.kubeconfig()]);
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.out);
        told.has(&["view  Ready", "Events", "total"]);
        let told = focus(&["status", "--kubeconfig", least.kubeconfig()]);
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
        told.has(&["view", "Ready"]);
        let unknown = focus(&["status", "vew", "--kubeconfig", least.kubeconfig()]);
        assert_eq!(unknown.code, Some(1));
        let words = format!("there is no FocusJob vew in namespace {}. Close to it: view.", world.namespace);
        assert!(unknown.err.contains(&words), "{}", unknown.err);

        without_events(&world);
        without_anything(&world);
        a_report_of_what_may_be_read(&least);
        consumer.cancel().await;
    })
    .await;
}

/// All but the Events is told, and why they are not.
fn without_events(world: &World) {
    let blind = Account::new(world, "blind", &[JOBS]);
    let told = focus(&["status", "view", "--kubeconfig", blind.kubeconfig()]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    told.has(&["view  Ready", "total", "ConsumerReady"]);
    assert!(!told.out.contains("Events"), "{}", told.out);
    let note = format!(
        "note: Events are left out: listing Events in namespace {}: events is forbidden",
        world.namespace
    );
    assert!(told.err.starts_with(&note), "{}", told.err);
    let told = focus(&["status", "view", "-o", "json", "--kubeconfig", blind.kubeconfig()]);
    let report: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert!(
        report["events"].is_null() && report["notes"][0].as_str().unwrap().contains("forbidden"),
        "{report}"
    );
}

fn without_anything(world: &World) {
    let none = Account::new(world, "none", &["configmaps"]);
    for args in [&["status"][..], &["status", "view"], &["watch"], &["trace", "view", "-o", "-"]] {
        let told = focus(&[args, &["--kubeconfig", none.kubeconfig()]].concat());
        assert_eq!((told.code, told.out.as_str()), (Some(1), ""), "{args:?}");
        assert!(told.err.contains("is forbidden") && told.err.contains("role `view`"), "{}", told.err);
    }
}

fn a_report_of_what_may_be_read(account: &Account) {
    let file = PathBuf::from(account.kubeconfig()).with_extension("tar.gz");
    let told = focus(&["report", "-o", file.to_str().unwrap(), "--kubeconfig", account.kubeconfig()]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let files = archive(&file);
    let text = |name: &str| files.iter().find(|(n, _)| n.ends_with(name)).map(|(_, text)| text.as_str());
    assert!(text("/focusjobs.json").unwrap().contains("\"view\""));
    assert!(text("/events.json").is_some() && text("/versions.json").unwrap().contains("\"kubernetes\""));
    assert_eq!((text("/analyzerpools.json"), text("/analyzer-pods.json")), (None, None));
    let left_out = text("/left-out.txt").unwrap();
    for part in ["analyzerpools", "analyzer-pods", "operator-and-server-pods", "versions"] {
        assert!(
            left_out.lines().any(|l| l.starts_with(part) && l.contains("forbidden")),
            "{part}: {left_out}"
        );
    }
    std::fs::remove_file(&file).unwrap();
}
