//! What goes wrong, and that the status says what and that the job comes back.

use focus_operator::api::FocusJob;
use focus_operator::api::conditions::{ANALYZER_READY, CONSUMER_READY, QUEUE_READY, READY};
use focus_operator::api::names::queue_name;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::common::objects::{default_pool, job, pool, synthetic};
use crate::common::{condition, in_world, until};

fn milestones(job: &FocusJob) -> focus_operator::api::timeline::Timeline {
    job.status.clone().unwrap().timeline
}

#[tokio::test]
async fn a_killed_operator_s_successor_finishes_its_work_and_rewrites_nothing() {
    in_world("restart", |world| async move {
        default_pool(&world).await;
        let operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let midway = world.until_condition("view", QUEUE_READY, true).await;
        operator.kill();
        let consumer = world.broker.consume(&queue_name(&created)).await;
        let _successor = world.operator().await;
        let ready = world.until_condition("view", READY, true).await;
        let (before, after) = (milestones(&midway), milestones(&ready));
        assert_eq!(after.merged(&before), after, "a milestone was lost");
        assert_eq!(before.merged(&after), after, "a milestone was rewritten");
        assert_eq!(world.pods().list(&ListParams::default()).await.unwrap().items.len(), 1);
        consumer.cancel().await;
    })
    .await;
}

#[tokio::test]
async fn a_queue_deleted_by_hand_comes_back() {
    in_world("queue", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let before = world.until_condition("view", QUEUE_READY, true).await;
        world.broker.delete(&queue_name(&created)).await;
        until("the queue is back", || async { world.broker.consumers(&queue_name(&created)).await }).await;
        let after = world.until_condition("view", QUEUE_READY, true).await;
        assert_eq!(milestones(&before).queue_ready_at, milestones(&after).queue_ready_at);
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_leaves_is_missed_and_one_that_comes_back_is_seen() {
    in_world("consumer", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let consumer = world.broker.consume(&queue_name(&created)).await;
        let before = world.until_condition("view", READY, true).await;
        consumer.cancel().await;
        let lost = world.until_reason("view", CONSUMER_READY, "ConsumerLost").await;
        assert_eq!(condition(&lost, READY).map(|(_, reason, _)| reason).as_deref(), Some("ConsumerLost"));
        let consumer = world.broker.consume(&queue_name(&created)).await;
        let after = world.until_condition("view", READY, true).await;
        assert_eq!(milestones(&before), milestones(&after), "a milestone was rewritten");
        consumer.cancel().await;
    })
    .await;
}

#[tokio::test]
async fn a_job_without_a_consumer_says_so_when_its_deadline_is_over() {
    in_world("deadline", |world| async move {
        default_pool(&world).await;
        let operator = world.operator().await;
        world.create(job("view", json!({"consumerDeadlineSeconds": 1}))).await;
        let late = world.until_reason("view", CONSUMER_READY, "DeadlineExceeded").await;
        let (_, _, message) = condition(&late, CONSUMER_READY).unwrap();
        assert!(message.contains("no consumer has attached to the queue within 1 s"), "{message}");
        operator.until_metric("focus_job_deadline_exceeded_total{phase=\"consumer\"}", 1.0).await;
    })
    .await;
}

#[tokio::test]
async fn a_deleted_pod_is_replaced() {
    in_world("pod", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        world.create(job("view", json!({}))).await;
        let before = world.until_condition("view", ANALYZER_READY, true).await;
        let first = before.status.clone().unwrap().analyzer.unwrap().pod_name;
        world.pods().delete(&first, &DeleteParams::default()).await.unwrap();
        let second = until("another pod is ready", || async {
            let job = world.job("view").await;
            let analyzer = job.status.clone()?.analyzer?;
            let ready = condition(&job, ANALYZER_READY)?.0 == "True";
            (ready && analyzer.pod_name != first).then_some(analyzer)
        })
        .await;
        assert_eq!(second.restarts, 1);
        assert_eq!(milestones(&before).pod_ready_at, milestones(&world.job("view").await).pod_ready_at);
    })
    .await;
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_named_in_the_status() {
    in_world("image", |world| async move {
        pool(&world, "default", synthetic(), "focus-operator.invalid/no-such-image:1").await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let blocked = world.until_reason("view", READY, "ImagePullBackOff").await;
        let (_, _, message) = condition(&blocked, ANALYZER_READY).unwrap();
        assert!(message.contains("no-such-image"), "{message}");
        world.jobs().delete("view", &DeleteParams::default()).await.unwrap();
        world.until_gone("view").await;
        world.broker.until_no_queue(&queue_name(&created)).await;
    })
    .await;
}

#[tokio::test]
async fn a_pool_that_does_not_exist_is_named_and_its_creation_heals_the_job() {
    in_world("pool", |world| async move {
        let _operator = world.operator().await;
        world.create(job("view", json!({}))).await;
        world.until_reason("view", READY, "PoolNotFound").await;
        default_pool(&world).await;
        world.until_condition("view", ANALYZER_READY, true).await;
    })
    .await;
}

#[tokio::test]
async fn without_a_broker_the_job_says_so_and_can_still_be_deleted() {
    in_world("nobroker", |world| async move {
        default_pool(&world).await;
        // Nothing listens on the discard port of this machine.
        let _operator = world.operator_with("amqp://nobody:nothing@127.0.0.1:9/%2f").await;
        world.create(job("view", json!({}))).await;
        let waiting = world.until_reason("view", QUEUE_READY, "BrokerUnreachable").await;
        let told = serde_json::to_string(&waiting.status).unwrap();
        assert!(!told.contains("nothing"), "the password is in the status: {told}");
        assert!(waiting.finalizers().iter().any(|name| name == focus_operator::api::names::FINALIZER));
        world.jobs().delete("view", &DeleteParams::default()).await.unwrap();
        world.until_gone("view").await;
        world.until_no_pods().await;
    })
    .await;
}
