//! A job's life as it should be: up, down, taken away, brought back.

use focus_operator::api::conditions::{ANALYZER_READY, CONSUMER_READY, FINISHED, QUEUE_READY, READY};
use focus_operator::api::names::{self, queue_name};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::common::objects::{default_pool, job};
use crate::common::{World, assert_ascending, in_world, until};

#[tokio::test]
async fn a_job_becomes_ready_and_tells_how_long_each_phase_took() {
    in_world("ready", |world| async move {
        default_pool(&world).await;
        let operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let consumer = world.broker.consume(&queue_name(&created)).await;
        let ready = world.until_condition("view", READY, true).await;

        let status = ready.status.clone().unwrap();
        let at = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>| {
            time.clone().unwrap().0
        };
        let t = &status.timeline;
        assert_ascending(&[
            ("configured", at(&t.configured_at)),
            ("accepted", at(&t.accepted_at)),
            ("pod created", at(&t.pod_created_at)),
            ("pod scheduled", at(&t.pod_scheduled_at)),
            ("pod ready", at(&t.pod_ready_at)),
            ("ready", at(&t.ready_at)),
        ]);
        assert_ascending(&[
            ("accepted", at(&t.accepted_at)),
            ("queue", at(&t.queue_ready_at)),
            ("consumer", at(&t.consumer_ready_at)),
            ("ready", at(&t.ready_at)),
        ]);
        assert!(status.phase_seconds.named().iter().all(|(_, seconds)| seconds.is_some()), "{status:?}");
        assert_eq!(status.queue.map(|queue| queue.consumers), Some(1));
        for type_ in [ANALYZER_READY, QUEUE_READY, CONSUMER_READY] {
            world.until_condition("view", type_, true).await;
        }
        operator
            .until_metric("focus_job_phase_duration_seconds_count{phase=\"total\",start=\"Cold\"}", 1.0)
            .await;
        operator.until_metric("focus_jobs{phase=\"Ready\"}", 1.0).await;
        until_event(&world, "Ready").await;
        has_standard_labels(&world).await;
        consumer.cancel().await;
    })
    .await;
}

async fn until_event(world: &World, reason: &str) {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    until(&format!("an Event {reason} of the job"), || async {
        let all = events.list(&ListParams::default()).await.unwrap();
        let of_job = |event: &Event| {
            event.regarding.as_ref().is_some_and(|about| about.kind.as_deref() == Some("FocusJob"))
        };
        all.iter().any(|event| of_job(event) && event.reason.as_deref() == Some(reason)).then_some(())
    })
    .await;
}

async fn has_standard_labels(world: &World) {
    let pods = world.pods().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), 1);
    for label in [
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        names::UID_LABEL,
    ] {
        assert!(pods[0].labels().contains_key(label), "{label}: {:?}", pods[0].labels());
    }
}

#[tokio::test]
async fn a_deleted_job_leaves_no_pod_and_no_queue() {
    in_world("delete", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        world.until_condition("view", ANALYZER_READY, true).await;
        world.jobs().delete("view", &DeleteParams::default()).await.unwrap();
        world.until_gone("view").await;
        world.broker.until_no_queue(&queue_name(&created)).await;
        world.until_no_pods().await;
    })
    .await;
}

#[tokio::test]
async fn a_suspended_job_gives_its_pod_and_queue_back_and_resumes() {
    in_world("suspend", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({}))).await;
        let before = world.until_condition("view", ANALYZER_READY, true).await;
        suspend(&world, true).await;
        world.until_reason("view", READY, "Suspended").await;
        world.until_no_pods().await;
        world.broker.until_no_queue(&queue_name(&created)).await;
        suspend(&world, false).await;
        let after = world.until_condition("view", ANALYZER_READY, true).await;
        world.until_condition("view", QUEUE_READY, true).await;
        let ready_at =
            |job: &focus_operator::api::FocusJob| job.status.clone().unwrap().timeline.pod_ready_at;
        assert_eq!(ready_at(&before), ready_at(&after), "a milestone was rewritten");
    })
    .await;
}

async fn suspend(world: &World, suspend: bool) {
    let patch = json!({"spec": {"suspend": suspend}});
    world.jobs().patch("view", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_asked_to_end_finishes_and_is_deleted_after_its_time() {
    in_world("ttl", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let created = world.create(job("view", json!({"ttlSecondsAfterFinished": 3}))).await;
        world.until_condition("view", QUEUE_READY, true).await;
        let request =
            json!({"reason": "IdleTimeout", "message": "nobody reads it", "failed": false}).to_string();
        let patch = json!({"metadata": {"annotations": {names::END: request}}});
        world.jobs().patch("view", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        let finished = world.until_condition("view", FINISHED, true).await;
        assert!(finished.status.unwrap().timeline.finished_at.is_some());
        world.until_gone("view").await;
        world.broker.until_no_queue(&queue_name(&created)).await;
        world.until_no_pods().await;
    })
    .await;
}
