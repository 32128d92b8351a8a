//! Jobs that nobody reads.

use std::time::Duration;

use focus_operator::api::conditions::{self, CONSUMER_READY, FINISHED};
use focus_operator::api::names;
use kube::ResourceExt;

use super::replicas::two_replicas;
use super::server::get;
use crate::common::objects::{idle_pool, job};
use crate::common::{in_world, until};

/// Seconds without a reader after which the job ends.
const IDLE: i64 = 4;

#[tokio::test]
async fn a_job_ends_when_nobody_has_read_it_and_a_replica_that_takes_over_counts_anew() {
    in_world("idle", |world| async move {
        idle_pool(&world).await;
        let _operator = world.operator().await;
        let (first, second) = two_replicas(&world, &[]).await;
        let mut view = job("read", serde_json::json!({"idleTimeoutSeconds": IDLE}));
        view.annotations_mut().insert(names::SERVER.to_owned(), "first".to_owned());
        world.create(view).await;
        world.until_condition("read", CONSUMER_READY, true).await;

        // Reads of the lines keep it alive, also through the other replica, for longer than it may be idle.
        let started = tokio::time::Instant::now();
        until("it was read for longer than it may be idle", || async {
            let answer = get(&second, "waterfall/read/1").await;
            let phase = answer.headers().get("focus-phase").and_then(|phase| phase.to_str().ok());
            // On a busy machine a sign of life may come late; such a read is the next one's.
            let late = answer.status().as_u16() == 404 && phase == Some("replica");
            assert!(late || answer.status().as_u16() == 200, "{}: {:?}", answer.status(), answer.headers());
            tokio::time::sleep(Duration::from_millis(500)).await;
            (started.elapsed() > Duration::from_secs(IDLE as u64 + 3)).then_some(())
        })
        .await;
        first.kill();
        until("the other replica has it", || async {
            (world.job("read").await.annotations()[names::SERVER] == "second").then_some(())
        })
        .await;
        let back = world.until_condition("read", CONSUMER_READY, true).await;
        let ended = world.until_reason("read", FINISHED, "IdleTimeout").await;
        let since = |job: &focus_operator::api::FocusJob, type_: &str| {
            let found = conditions::find(&job.status.as_ref().unwrap().conditions, type_);
            found.unwrap().last_transition_time.0
        };
        // Whole seconds, the consumer's rounded down.
        let unread = since(&ended, FINISHED).duration_since(since(&back, CONSUMER_READY)).as_secs();
        assert!(unread >= IDLE - 1, "ended {unread} s after it was taken over");
    })
    .await;
}
