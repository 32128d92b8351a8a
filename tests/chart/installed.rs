//! A release in a namespace of its own: from the installation to the uninstallation.

use focus_operator::api::conditions::{FINISHED, READY};
use focus_operator::api::{AnalyzerPool, FocusJob};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::stream::Reader;
use super::tools::{Release, enforce_restricted, kubectl, leftovers, until_nothing_is_left};
use super::{inside, network, notes, restricted, rights};
use crate::common::objects::job;
use crate::common::{World, condition, in_world, until};

/// Values of a release that leaves others alone: their jobs, and the definitions, which all tests share.
fn values() -> Value {
    json!({"scope": "namespaced", "crds": {"enabled": false}})
}

pub fn with(changes: Value) -> Value {
    let mut values = values();
    values.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    values
}

async fn job_pod(world: &World, name: &str) -> Pod {
    let of_job = ListParams::default().labels(&format!("focus-operator.io/job={name}"));
    let mut pods = world.pods().list(&of_job).await.unwrap().items;
    assert_eq!(pods.len(), 1, "pods of {name}");
    pods.remove(0)
}

/// The pod of the operator that leads.
async fn leader(world: &World) -> String {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    until("an operator leads", || async {
        let holder = leases.get("chart-operator").await.unwrap().spec?.holder_identity?;
        holder.split_once('_').map(|(pod, _)| pod.to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_serves_jobs_from_its_installation_to_its_end() {
    in_world("chart", |world| async move {
        enforce_restricted(&world).await;
        let release = Release::new(&world, "FOCUS_TEST_HELM4");
        let told = release.install(&values());
        hooks_left_nothing(&world);
        rights::name_everything(&world);
        rights::are_the_least(&world, false).await;
        rights::hold_when_accounts_try(&world).await;
        rights::are_part_of_the_usual_roles(&world).await;
        rights::hold_when_users_try(&world).await;
        world.until_condition("made-by-edit", READY, true).await;
        let alone = with(json!({"server": {"enabled": false}}));
        notes::lead_to_the_jobs(&release.notes(&alone), &release);
        world.jobs().delete("made-by-edit", &DeleteParams::default()).await.unwrap();

        let printed = notes::lead_to_a_server(&told, &release).await;
        assert!(printed.contains("Ready seen") && printed.contains("status: consumer"), "{printed}");
        hooks_left_nothing(&world);

        is_configured_over_http(&world).await;
        restricted::a_privileged_pool_is_refused_in_words(&world).await;
        world.create(job("view", json!({}))).await;
        let before = world.until_condition("view", READY, true).await;
        let pod = job_pod(&world, "view").await;
        has_no_token(&world, &pod).await;
        survives_an_upgrade(&world, &release, &before, &pod).await;
        a_rollback_brings_the_pool_back(&world, &release).await;
        another_takes_over(&world).await;
        nothing_was_refused(&world).await;

        release.uninstall();
        until_nothing_is_left(&world.namespace).await;
        leases_are_gone(&world).await;
        assert_eq!(world.job("view").await.uid(), before.uid());
        assert_eq!(job_pod(&world, "view").await.uid(), pod.uid());
        is_gone_only_with_its_operator(&world, &release).await;
    })
    .await;
}

/// Also those that the servers made for themselves.
async fn leases_are_gone(world: &World) {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    until("no lease is left", || async {
        leases.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
}

/// A job that was left is taken up, and let go, by the next release.
async fn is_gone_only_with_its_operator(world: &World, release: &Release) {
    release.install(&with(json!({"operator": {"replicas": 1}})));
    for name in ["view", "after"] {
        world.until_condition(name, READY, true).await;
        world.jobs().delete(name, &DeleteParams::default()).await.unwrap();
        world.until_gone(name).await;
    }
    release.uninstall();
    until_nothing_is_left(&world.namespace).await;
}

/// The address of the HTTP API, by the release's Service.
pub async fn front(world: &World) -> String {
    let service: Service =
        Api::namespaced(world.client.clone(), &world.namespace).get("chart-server").await.unwrap();
    let spec = service.spec.unwrap();
    let port = spec.ports.unwrap().iter().find(|port| port.name.as_deref() == Some("http")).unwrap().port;
    format!("http://{}:{port}/focus-server", spec.cluster_ip.unwrap())
}

/// A client's request, as any replica takes it, with the rights of the release alone.
async fn is_configured_over_http(world: &World) {
    let base = front(world).await;
    let client = reqwest::Client::new();
    for view in 0..4 {
        let request = json!({
            "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 50},
            "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
        });
        let answer = client.post(format!("{base}/configure")).json(&request).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "view {view}: {status} {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let id = answer["job_id"].as_str().unwrap();
        let metadata = client.get(format!("{base}/metadata/{id}?wait=30s")).send().await.unwrap();
        assert!(metadata.status().is_success(), "view {view}: {}", metadata.status());
        let ended = client.delete(format!("{base}/job/{id}")).send().await.unwrap();
        assert!(ended.status().is_success(), "view {view}: {}", ended.status());
    }
}

fn hooks_left_nothing(world: &World) {
    let left = leftovers(&world.namespace);
    for name in ["chart-pool", "chart-test", "chart-clean"] {
        assert!(!left.iter().any(|line| line.contains(name)), "{name} is left of a hook: {left:?}");
    }
}

async fn has_no_token(world: &World, pod: &Pod) {
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_eq!(spec.service_account_name.as_deref(), Some("chart-analyzer"));
    let projected = spec.volumes.iter().flatten().filter(|volume| volume.projected.is_some());
    assert_eq!(projected.count(), 0, "{spec:?}");
    // The process itself, as root of its own files: the broker's Secret is there, a token is not.
    let script = "b=/bin/busybox; r=/proc/1/root; $b tr '\\0' ' ' < /proc/1/cmdline; $b ls $r/etc/focus/broker; \
                  $b ls $r/var/run/secrets $r/run/secrets 2>&1; $b find $r/etc $r/run $r/var -name token 2>/dev/null; true";
    let seen = inside::look(world, &pod.name_any(), "analyzer", script).await;
    assert!(seen.contains("focus analyzer") && seen.contains("url"), "{seen}");
    assert_eq!(seen.matches("No such file or directory").count(), 2, "{seen}");
    assert!(!seen.contains("token"), "{seen}");
}

/// What replaces the pods of operator and server.
fn note() -> Value {
    let upgraded = json!({"podAnnotations": {"upgraded": "yes"}});
    json!({"operator": upgraded, "server": upgraded})
}

async fn survives_an_upgrade(world: &World, release: &Release, before: &FocusJob, pod: &Pod) {
    let reader = Reader::start(&front(world).await, "view");
    reader.until_newer_than(Timestamp::now()).await;
    release.upgrade(&with(note()));
    reader.until_newer_than(Timestamp::now()).await;
    reader.stop().await;
    let after = world.until_condition("view", READY, true).await;
    let timeline = |job: &FocusJob| job.status.clone().unwrap().timeline;
    assert_eq!(timeline(&after), timeline(before), "a milestone was rewritten");
    assert_eq!(condition(&after, FINISHED).map(|(status, _, _)| status).as_deref(), Some("False"));
    let now = job_pod(world, "view").await;
    assert_eq!((now.uid(), now.name_any()), (pod.uid(), pod.name_any()), "the analyzer was replaced");
    let restarts = now.status.unwrap().container_statuses.unwrap_or_default()[0].restart_count;
    assert_eq!(restarts, 0);
}

/// A new release has a pool of its own, which must not outlive it.
async fn a_rollback_brings_the_pool_back(world: &World, release: &Release) {
    let pools: Api<AnalyzerPool> = Api::namespaced(world.client.clone(), &world.namespace);
    let spec = || async { pools.get("default").await.unwrap().spec };
    let before = spec().await;
    let mut changes = note();
    changes["pool"] = json!({"args": ["no-such-role"], "image": {"tag": "broken"}});
    release.upgrade(&with(changes));
    let (broken, image) = (json!(spec().await).to_string(), ":broken");
    assert!(broken.contains("no-such-role") && broken.contains(image), "{broken}");
    release.roll_back();
    assert_eq!(json!(spec().await), json!(before), "the pool is not what it was");
    hooks_left_nothing(world);
}

async fn another_takes_over(world: &World) {
    let first = leader(world).await;
    world.pods().delete(&first, &DeleteParams::default()).await.unwrap();
    until("another operator leads", || async { (leader(world).await != first).then_some(()) }).await;
    world.create(job("after", json!({}))).await;
    world.until_condition("after", READY, true).await;
    world.until_condition("view", READY, true).await;
}

/// The API server never refused operator or server anything.
pub async fn nothing_was_refused(world: &World) {
    let pod = leader(world).await;
    let path = format!("/api/v1/namespaces/{}/pods/{pod}:8081/proxy/metrics", world.namespace);
    let metrics = kubectl(&["get", "--raw", &path]);
    for line in [
        "focus_operator_leader 1",
        "focus_reconcile_errors_total{reason=\"ApiRefused\"} 0",
        "focus_events_total{outcome=\"dropped\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    for component in ["operator", "server"] {
        let selector = format!("app.kubernetes.io/instance=chart,app.kubernetes.io/component={component}");
        let log = kubectl(&["--namespace", &world.namespace, "logs", "--tail=-1", "--selector", &selector]);
        assert!(!log.is_empty() && !log.contains("orbidden"), "{component}: {log}");
    }
}

#[tokio::test]
async fn helm_3_installs_it_too_and_policies_keep_others_out() {
    in_world("chart3", |world| async move {
        enforce_restricted(&world).await;
        let release = Release::new(&world, "FOCUS_TEST_HELM3");
        release.install(&with(json!({"networkPolicy": network::values(), "operator": {"replicas": 1}})));
        let printed = release.test();
        assert!(printed.contains("Ready seen"), "{printed}");
        if network::is_enforced() {
            world.create(job("view", json!({}))).await;
            world.until_condition("view", READY, true).await;
            network::is_as_the_policies_say(&world, "view").await;
            // The replicas ask each other, and the node is let in everywhere.
            is_configured_over_http(&world).await;
            world.jobs().delete("view", &DeleteParams::default()).await.unwrap();
            world.until_gone("view").await;
        }
        release.uninstall();
        until_nothing_is_left(&world.namespace).await;
    })
    .await;
}
