//! Two operators for the same jobs: one reconciles, and the other takes over.

use focus_operator::api::conditions::READY;
use focus_operator::api::names::queue_name;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::common::objects::{default_pool, job};
use crate::common::process::Process;
use crate::common::{World, broker, in_world, until};

const LEADER: &str = "focus_operator_leader";

/// An operator that stands for election under a name of its own, with short times.
async fn candidate(world: &World, name: &str) -> Process {
    let operator = Process::start(
        &["operator", "--namespace", &world.namespace, "--admin-addr", "127.0.0.1:{port}", "--leader-elect"],
        &[
            ("FOCUS_BROKER_URL", &broker::url()),
            ("POD_NAME", name),
            ("FOCUS_LEASE_NAMESPACE", &world.namespace),
            ("FOCUS_LEASE_DURATION_SECONDS", "5"),
            ("FOCUS_LEASE_RENEW_SECONDS", "3"),
            ("FOCUS_LEASE_RETRY_SECONDS", "1"),
        ],
    );
    operator.until_ready().await;
    operator
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

async fn holder(world: &World) -> Option<String> {
    leases(world).get_opt("focus-operator").await.unwrap()?.spec?.holder_identity
}

async fn until_held_by(world: &World, name: &str) {
    until(&format!("{name} holds the lease"), || async {
        holder(world).await?.starts_with(&format!("{name}_")).then_some(())
    })
    .await;
}

/// A job becomes Ready: somebody reconciles.
async fn is_served(world: &World, name: &str) {
    let created = world.create(job(name, json!({}))).await;
    let consumer = world.broker.consume(&queue_name(&created)).await;
    world.until_condition(name, READY, true).await;
    consumer.cancel().await;
}

#[tokio::test]
async fn a_successor_takes_over_when_the_leader_ends_or_dies() {
    in_world("leader", |world| async move {
        default_pool(&world).await;
        let first = candidate(&world, "first").await;
        until_held_by(&world, "first").await;
        first.until_metric(LEADER, 1.0).await;
        let second = candidate(&world, "second").await;
        is_served(&world, "one").await;
        assert_eq!(second.metric(LEADER).await, 0.0);
        assert_eq!(second.metric("focus_api_writes_total{resource=\"pods\",verb=\"create\"}").await, 0.0);

        // Told to end: the lease is given back, and nobody waits for its end.
        let began = std::time::Instant::now();
        assert_eq!(first.terminate().await, Some(0));
        until_held_by(&world, "second").await;
        assert!(
            began.elapsed().as_secs() < 5,
            "the successor waited for the lease's end: {:?}",
            began.elapsed()
        );
        second.until_metric(LEADER, 1.0).await;
        is_served(&world, "two").await;

        // Dead without a word: the lease ends by itself.
        let third = candidate(&world, "third").await;
        second.kill();
        until_held_by(&world, "third").await;
        third.until_metric(LEADER, 1.0).await;
        is_served(&world, "three").await;
        assert_eq!(
            leases(&world).get("focus-operator").await.unwrap().spec.unwrap().lease_transitions,
            Some(2)
        );
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_lost_its_lease_ends() {
    in_world("lost-lease", |world| async move {
        let operator = candidate(&world, "first").await;
        until_held_by(&world, "first").await;
        let taken = json!({"spec": {"holderIdentity": "another"}});
        let params = PatchParams::default();
        leases(&world).patch("focus-operator", &params, &Patch::Merge(&taken)).await.unwrap();
        assert_eq!(operator.until_ended().await, Some(1));
        assert_eq!(holder(&world).await.as_deref(), Some("another"));
    })
    .await;
}
