//! What disturbs every other test: the broker restarted, an operator for all namespaces.

#![allow(clippy::unwrap_used)]

mod common;

use common::objects::{default_pool, job};
use common::process::Process;
use common::{broker, condition, from_env, in_world, until};
use focus_operator::api::conditions::{CONSUMER_READY, QUEUE_READY, READY};
use focus_operator::api::names::queue_name;
use kube::api::DeleteParams;
use serde_json::json;

/// `hack/broker <what>`.
fn broker_command(what: &str) {
    let done = std::process::Command::new(from_env("FOCUS_TEST_BROKER_COMMAND")).arg(what).status().unwrap();
    assert!(done.success(), "hack/broker {what}: {done}");
}

#[test]
fn one_after_the_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        two_jobs_with_one_name_in_two_namespaces().await;
        if std::env::var_os("FOCUS_TEST_BROKER_COMMAND").is_some() {
            jobs_survive_a_restart_of_the_broker().await;
        } else {
            println!("skipped: the broker is not ours to restart (FOCUS_TEST_BROKER_COMMAND is not set)");
        }
    }));
}

async fn two_jobs_with_one_name_in_two_namespaces() {
    in_world("twin-a", |one| async move {
        in_world("twin-b", |other| async move {
            let operator = Process::start(
                &["operator", "--admin-addr", "127.0.0.1:{port}"],
                &[("FOCUS_BROKER_URL", &broker::url())],
            );
            operator.until_ready().await;
            let mut queues = Vec::new();
            for world in [&one, &other] {
                default_pool(world).await;
                queues.push(queue_name(&world.create(job("view", json!({}))).await));
            }
            assert_ne!(queues[0], queues[1]);
            let consumer = one.broker.consume(&queues[0]).await;
            one.until_condition("view", READY, true).await;
            other.until_reason("view", CONSUMER_READY, "NoConsumer").await;
            one.jobs().delete("view", &DeleteParams::default()).await.unwrap();
            one.until_gone("view").await;
            other.until_condition("view", QUEUE_READY, true).await;
            assert_eq!(other.broker.consumers(&queues[1]).await, Some(0));
            drop(consumer);
            other.jobs().delete("view", &DeleteParams::default()).await.unwrap();
            other.until_gone("view").await;
        })
        .await;
    })
    .await;
}

async fn jobs_survive_a_restart_of_the_broker() {
    in_world("broker", |world| async move {
        default_pool(&world).await;
        let operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let consumer = world.broker.consume(&queue_name(&created)).await;
        let before = world.until_condition("view", READY, true).await;
        broker_command("stop");
        let told = world.until_reason("view", QUEUE_READY, "BrokerUnreachable").await;
        assert_eq!(condition(&told, READY).map(|(status, _, _)| status).as_deref(), Some("False"));
        until("the operator says that it is not ready", || async {
            let answer = reqwest::get(operator.url("/readyz")).await.ok()?;
            (!answer.status().is_success()).then_some(())
        })
        .await;
        broker_command("start");
        drop(consumer);
        world.until_condition("view", QUEUE_READY, true).await;
        let consumer = world.broker.consume(&queue_name(&created)).await;
        let after = world.until_condition("view", READY, true).await;
        let timeline = |job: &focus_operator::api::FocusJob| job.status.clone().unwrap().timeline;
        assert_eq!(timeline(&before), timeline(&after), "a milestone was rewritten");
        consumer.cancel().await;
    })
    .await;
}
