//! What `status` and `trace` tell of a job that is ready, one that waits and one that has failed.

use focus_operator::api::conditions::{FINISHED, READY};
use focus_operator::api::names::queue_name;
use serde_json::{Value, json};

use crate::common::objects::{default_pool, job};
use crate::common::plugin::{focus, kubectl};
use crate::common::{World, in_world, until};

#[tokio::test]
async fn a_ready_a_waiting_and_a_failed_job_are_told() {
    in_world("plugin-status", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let consumer = world.broker.consume(&queue_name(&created)).await;
        world.create(job("waits", json!({"consumerDeadlineSeconds": 1}))).await;
        // More than half the sample rate.
        world.create(job("bad", json!({"frequencyRange": {"min": 0, "max": 501}}))).await;
        world.until_condition("view", READY, true).await;
        world.until_condition("bad", FINISHED, true).await;
        world.until_reason("waits", READY, "DeadlineExceeded").await;

        a_ready_job(&world).await;
        a_job_that_waits(&world).await;
        a_failed_job(&world.namespace);
        all_jobs(&world.namespace);
        a_trace(&world.namespace);
        names_are_completed(&world.namespace);
        consumer.cancel().await;
    })
    .await;
}

/// `status NAME -n NAMESPACE ARGS…`, again until `found`: Events are published behind the operator's back.
async fn until_told(world: &World, name: &str, found: &str) -> String {
    until(&format!("{found} in the status of {name}"), || async {
        let told = focus(&["status", name, "-n", &world.namespace]);
        told.out.contains(found).then_some(told.out)
    })
    .await
}

async fn a_ready_job(world: &World) {
    let namespace = &world.namespace;
    until_told(world, "view", "analyzer, queue and consumer are there").await;
    let told = focus(&["status", "focusjob/view", "--namespace", namespace]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let title = format!("FocusJob {namespace}/view  Ready");
    told.has(&[
        &title,
        "Phases",
        "configure",
        "total",
        "█",
        "AnalyzerReady",
        "Attached",
        "cold start",
        "1 consumer",
    ]);
    assert!(!told.out.contains('\u{1b}'), "colours without a terminal: {:?}", told.out);
    assert_eq!(told.err, "");

    let told = focus(&["status", "view", "-n", namespace, "-o", "json"]);
    let report: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&report["state"], &report["waiting_for"]), (&json!("Ready"), &Value::Null));
    let seconds = &report["phase_seconds"];
    for phase in ["configure", "pod", "queue", "consumer", "total"] {
        assert!(seconds[phase].is_f64(), "{phase}: {seconds}");
    }
    let reasons = report["events"].as_array().unwrap();
    assert!(
        reasons.iter().any(|event| event["reason"] == "Ready" && event["about"] == "FocusJob"),
        "{reasons:?}"
    );
    assert!(reasons.iter().any(|event| event["about"] == "Pod"), "{reasons:?}");

    let plain =
        kubectl(&[]).args(["focus", "status", "view", "-n", namespace]).env("LC_ALL", "C").output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.is_ascii() && plain.contains("=="), "{plain}");
    focus(&["status", "view", "-n", namespace, "-o", "wide"]).has(&["Milestones", "podScheduledAt"]);
}

async fn a_job_that_waits(world: &World) {
    let namespace = &world.namespace;
    let words = until_told(world, "waits", "Warning").await;
    let told = focus(&["status", "waits", "-n", namespace]);
    assert_eq!(told.code, Some(3), "{words}");
    told.has(&[
        "The job waits for its consumer: no consumer has attached to the queue within 1 s; is the Focus Server running, \
         and does it reach the broker? (DeadlineExceeded).",
        "It has waited for ",
        " s so far",
        "0 consumers",
        "Warning  DeadlineExceeded",
    ]);
    let told = focus(&["status", "waits", "-n", namespace, "-o", "yaml"]);
    told.has(&["state: Starting", "reason: DeadlineExceeded", "phase: consumer", "waiting_since:"]);
}

fn a_failed_job(namespace: &str) {
    let told = focus(&["status", "bad", "-n", namespace]);
    assert_eq!(told.code, Some(4), "{}", told.err);
    told.has(&["bad  Failed", "The job has failed: ", "Nyquist", "(InvalidView)"]);
}

fn all_jobs(namespace: &str) {
    let told = focus(&["status", "-n", namespace]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let lines: Vec<&str> = told.out.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].ends_with("WHY"), "{}", told.out);
    assert!(lines[1].starts_with("waits") && lines[1].contains("consumer: DeadlineExceeded"), "{}", told.out);
    assert!(lines[2].starts_with("bad") && lines[2].contains("InvalidView: "), "{}", told.out);
    assert!(lines[3].starts_with("view") && lines[3].contains("Ready") && lines.len() == 4, "{}", told.out);

    let names = focus(&["status", "-n", namespace, "-o", "name", "--no-headers"]).out;
    assert_eq!(names.lines().nth(2), Some("focusjob.focus-operator.io/view"), "{names}");
    let all: Value = serde_json::from_str(&focus(&["status", "-A", "-o", "json"]).out).unwrap();
    let ours = |job: &&Value| job["namespace"] == namespace;
    assert_eq!(all["jobs"].as_array().unwrap().iter().filter(ours).count(), 3, "{all}");
    let none = focus(&["status", "-n", namespace, "-l", "focus-operator.io/window=3"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""));
    assert!(
        none.err.contains(&format!("There are no FocusJobs with such labels in namespace {namespace}.")),
        "{}",
        none.err
    );
}

fn a_trace(namespace: &str) {
    let told = focus(&["trace", "view", "waits", "-n", namespace, "-o", "-"]);
    let trace: Value = serde_json::from_str(&told.out).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |pid: i64, ph: &str, name: &str| {
        events
            .iter()
            .find(|e| e["pid"] == pid && e["ph"] == ph && e["name"] == name)
            .cloned()
            .unwrap_or_default()
    };
    let (total, pod) = (of(1, "X", "total"), of(1, "X", "pod"));
    let (begin, end) =
        (total["ts"].as_i64().unwrap(), total["ts"].as_i64().unwrap() + total["dur"].as_i64().unwrap());
    assert!(pod["ts"].as_i64().unwrap() >= begin, "{pod} {total}");
    assert!(pod["ts"].as_i64().unwrap() + pod["dur"].as_i64().unwrap() <= end, "{pod} {total}");
    assert_eq!(of(1, "i", "Ready")["args"]["about"], "FocusJob");
    assert_eq!(of(2, "X", "consumer")["args"]["unfinished"], true);
    assert_eq!(of(2, "M", "process_name")["args"]["name"], format!("FocusJob {namespace}/waits"));
}

/// kubectl's own completion asks the plugin, and that the cluster.
fn names_are_completed(namespace: &str) {
    let folder =
        std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("completion-{namespace}"));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("kubectl_complete-focus");
    std::fs::write(&program, focus(&["completion", "kubectl"]).out).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (words, candidate) in [
        (&["st"][..], "status\tShows"),
        (&["status", "-n", namespace, "wai"], "waits\tStarting, waits for consumer"),
    ] {
        let asked = kubectl(&[&folder]).args(["__complete", "focus"]).args(words).output().unwrap();
        let told = String::from_utf8(asked.stdout).unwrap();
        assert!(told.lines().any(|line| line.starts_with(candidate)), "{words:?}: {told}");
        assert!(told.contains("\n:4"), "{told}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(focus(&["completion", shell]).out.contains("kubectl-focus"), "{shell}");
    }
}
