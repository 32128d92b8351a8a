//! What is wrong with jobs, though operator and broker are well.

use focus_operator::api::conditions::{CONSUMER_READY, FINISHED};
use focus_operator::api::names::queue_name;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::common::objects::{image, job, pool, synthetic};
use crate::common::{condition, in_world, until};
use crate::{fires, operator, prometheus};

#[tokio::test]
async fn jobs_without_consumer_or_image_are_told_of() {
    in_world("no-server", |world| async move {
        pool(&world, "default", synthetic(), "focus-operator.invalid/no-such-image:1").await;
        let process = world.operator().await;
        let prometheus = prometheus(&[operator(&world, &process)]).await;
        let names = ["one", "two", "three"];
        let mut queues = Vec::new();
        for name in names {
            queues.push(queue_name(&world.create(job(name, json!({"consumerDeadlineSeconds": 1}))).await));
        }
        let here = ("namespace", world.namespace.as_str());
        for severity in ["ticket", "page"] {
            fires(&prometheus, "FocusConsumerNeverArrived", &[here, ("severity", severity)]).await;
        }
        // All of the jobs are bad: the budget burns at a hundred times its rate.
        let burning = fires(&prometheus, "FocusConsumerLatencyBurnFast", &[here, ("long", "1h")]).await;
        assert!(burning.annotations["description"].contains("100%"), "{burning:?}");
        fires(&prometheus, "FocusAnalyzersBlocked", &[here, ("reason", "ImagePullBackOff")]).await;
        // A consumer that comes and goes for good is another matter.
        prometheus.until_quiet("FocusConsumerLost").await;
        let consumer = world.broker.consume(&queues[0]).await;
        world.until_condition("one", CONSUMER_READY, true).await;
        consumer.cancel().await;
        fires(&prometheus, "FocusConsumerLost", &[here, ("severity", "page")]).await;
    })
    .await;
}

/// Their consumers come in time, and nothing else is wrong.
#[tokio::test]
async fn views_that_all_fail_page() {
    in_world("failing", |world| async move {
        let mut source = synthetic();
        source["uri"] = json!("file:///no-such-folder/");
        pool(&world, "default", source, &image()).await;
        let process = world.operator().await;
        let prometheus = prometheus(&[operator(&world, &process)]).await;
        let page = [("namespace", world.namespace.as_str()), ("severity", "page")];
        let made = AtomicU32::new(0);
        // What is counted is forgotten after a quarter of a minute here: so they go on failing.
        until("FocusJobsFailing pages", || async {
            let name = format!("fails-{}", made.fetch_add(1, Ordering::Relaxed));
            world.create(job(&name, json!({}))).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            prometheus.is_firing("FocusJobsFailing", &page).await.then_some(())
        })
        .await;
        fires(&prometheus, "FocusJobsFailing", &page).await;
        fires(&prometheus, "FocusJobsFailing", &[page[0], ("severity", "ticket"), ("reason", "Other")]).await;
        assert_eq!(condition(&world.job("fails-0").await, FINISHED).unwrap().1, "SourceUnreadable");
    })
    .await;
}
