//! What is wrong with jobs, though operator and broker are well.

use focus_operator::api::conditions::{CONSUMER_READY, FINISHED};
use focus_operator::api::names::queue_name;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::common::objects::{image, job, pool, synthetic};
use crate::common::{condition, in_world};
use crate::{fires, fires_while, operator, prometheus};

#[tokio::test]
async fn jobs_without_consumer_or_image_are_told_of() {
    in_world("no-server", |world| async move {
        pool(&world, "default", synthetic(), "focus-operator.invalid/no-such-image:1").await;
        let process = world.operator().await;
        let prometheus = prometheus(&[operator(&world, &process)]).await;
        let here = ("namespace", world.namespace.as_str());
        let made = AtomicU32::new(0);
        let make = || async {
            let name = format!("view-{}", made.fetch_add(1, Ordering::Relaxed));
            world.create(job(&name, json!({"consumerDeadlineSeconds": 1}))).await
        };
        let queue = queue_name(&make().await);
        // What was counted is forgotten after seconds here, and a busy machine may miss them: so it goes on.
        for (name, label) in [
            ("FocusConsumerNeverArrived", ("severity", "ticket")),
            ("FocusConsumerNeverArrived", ("severity", "page")),
            ("FocusConsumerLatencyBurnFast", ("long", "1h")),
        ] {
            let labels = [here, label];
            let alert = fires_while(&prometheus, name, &labels, || async { drop(make().await) }).await;
            // All of the jobs are bad: the budget burns at a hundred times its rate.
            let told = &alert.annotations["description"];
            assert!(!name.ends_with("BurnFast") || told.contains("100%"), "{alert:?}");
        }
        fires(&prometheus, "FocusAnalyzersBlocked", &[here, ("reason", "ImagePullBackOff")]).await;
        // A consumer that comes and goes for good is another matter.
        prometheus.until_quiet("FocusConsumerLost").await;
        let consumer = world.broker.consume(&queue).await;
        world.until_condition("view-0", CONSUMER_READY, true).await;
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
        source["uri"] = json!("file:///no-such-file.h5");
        pool(&world, "default", source, &image()).await;
        let process = world.operator().await;
        let prometheus = prometheus(&[operator(&world, &process)]).await;
        let page = [("namespace", world.namespace.as_str()), ("severity", "page")];
        let made = AtomicU32::new(0);
        // What was counted is forgotten after a quarter of a minute here: so they go on failing.
        fires_while(&prometheus, "FocusJobsFailing", &page, || async {
            let name = format!("fails-{}", made.fetch_add(1, Ordering::Relaxed));
            world.create(job(&name, json!({}))).await;
        })
        .await;
        fires(&prometheus, "FocusJobsFailing", &[page[0], ("severity", "ticket"), ("reason", "Other")]).await;
        assert_eq!(condition(&world.job("fails-0").await, FINISHED).unwrap().1, "SourceUnreadable");
    })
    .await;
}
