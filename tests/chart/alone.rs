//! What disturbs every other test: an operator for all namespaces, and the definitions taken away. `make test` runs it
//! after all others, by `cargo test --test chart -- --ignored`.

use focus_operator::api::conditions::READY;
use focus_operator::api::names::queue_name;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::kustomize::{Overlay, secret, serves_a_job};
use super::rights;
use super::tools::{ROOT, Release, enforce_restricted, kubectl, until_nothing_is_left};
use crate::common::objects::job;
use crate::common::plugin::focus;
use crate::common::{World, in_world, until};

const DEFINITIONS: [&str; 2] = ["crd/focusjobs.focus-operator.io", "crd/analyzerpools.focus-operator.io"];

/// `kubectl ARGS…` of both definitions.
fn definitions(args: &[&str]) -> String {
    kubectl(&[args, &DEFINITIONS].concat())
}

fn take_definitions_away() {
    definitions(&["delete", "--ignore-not-found", "--timeout=60s"]);
}

/// Puts the definitions back, whatever happens: others need them.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &format!("{ROOT}/crds")]);
        definitions(&["wait", "--for=condition=Established", "--timeout=30s"]);
    }
}

fn values(keep: bool) -> Value {
    json!({"scope": "cluster", "crds": {"keep": keep}})
}

#[tokio::test]
#[ignore = "takes the definitions of all others away: make test runs it last"]
async fn a_release_brings_and_takes_the_definitions() {
    // Before the world: nothing of anybody may depend on them.
    take_definitions_away();
    in_world("chart-crds", |world| async move {
        let _restored = Restored;
        enforce_restricted(&world).await;
        let release = Release::new(&world, "FOCUS_TEST_HELM4");
        release.install(&values(true));
        rights::name_everything(&world);
        rights::are_the_least(&world, true).await;
        world.create(job("view", json!({}))).await;
        let ready = world.until_condition("view", READY, true).await;

        release.uninstall();
        until_nothing_is_left(&world.namespace).await;
        definitions(&["get"]);
        assert_eq!(world.job("view").await.uid(), ready.uid());

        release.install(&values(true));
        world.until_condition("view", READY, true).await;
        release.upgrade(&values(false));
        world.until_condition("view", READY, true).await;
        release.uninstall();
        nothing_is_there(&world, &queue_name(&ready)).await;
        let told = focus(&["status", "-n", &world.namespace]);
        assert!(told.err.contains("helm install") && told.code == Some(1), "{}", told.err);

        installed_by_kubectl(&world).await;
        take_definitions_away();
    })
    .await;
}

async fn nothing_is_there(world: &World, queue: &str) {
    until_nothing_is_left(&world.namespace).await;
    until("the definitions are gone", || async {
        let found = definitions(&["get", "--ignore-not-found", "--output", "name"]);
        found.trim().is_empty().then_some(())
    })
    .await;
    world.until_no_pods().await;
    world.broker.until_no_queue(queue).await;
}

/// The whole overlay for the cluster, definitions included.
async fn installed_by_kubectl(world: &World) {
    secret(world);
    let overlay = Overlay::new(world, "all", &["overlays/cluster-wide"], &[]);
    overlay.apply();
    definitions(&["wait", "--for=condition=Established", "--timeout=30s"]);
    Overlay::new(world, "pool", &["pool"], &[]).apply();
    serves_a_job(world).await;
    overlay.delete();
}
