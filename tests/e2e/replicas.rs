//! Several replicas of the Focus Server: any answers anything, one takes over from another, windows stay unique.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use focus_operator::api::conditions::{self, CONSUMER_READY, FINISHED, READY};
use focus_operator::api::{AnalyzerPool, names};
use futures::future::join_all;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::server::{configure, get, request};
use crate::common::objects::{default_pool, job};
use crate::common::process::Process;
use crate::common::{World, condition, in_world, until};

/// Longest gap when a replica has died: its sign is good for 3 s.
const TAKEOVER: Duration = Duration::from_secs(5);
/// Longest gap when it is frozen: the broker gives it up after up to three heartbeats of 2 s, and is asked each 250 ms.
const TAKEOVER_FROM_FROZEN: Duration = Duration::from_secs(8);

/// One of three takeovers must be within `longest`: a busy machine may hold up any of them, but not what is too slow by
/// its own making. `takeover` gives the time that it took in a world of its own.
async fn one_is_within<F: Future<Output = Duration>>(
    longest: Duration,
    name: &str,
    takeover: impl Fn(Rc<World>) -> F,
) {
    let mut all = Vec::new();
    while all.len() < 3 {
        let taken = Cell::new(Duration::MAX);
        in_world(name, |world| async { taken.set(takeover(world).await) }).await;
        println!("{name}: taken over after {:?}", taken.get());
        if taken.get() < longest {
            return;
        }
        all.push(taken.get());
    }
    panic!("{name}: three takeovers, and none within {longest:?}: {all:?}");
}

/// How long a window is kept for a job that is not made.
const CLAIM: Duration = Duration::from_secs(60);

/// A replica that tells the others where it is.
async fn replica(world: &World, name: &str) -> Process {
    replica_in(world, name, &[]).await
}

/// The same, with more in its environment.
async fn replica_in(world: &World, name: &str, env: &[(&str, &str)]) -> Process {
    let peer = ["--peer-listen", "127.0.0.1:{peer_port}", "--peer-host", "127.0.0.1", "--replica", name];
    world.server_in(&peer, env).await
}

/// The replicas called "first" and "second", with `env`, once they have heard of each other.
pub async fn two_replicas(world: &World, env: &[(&str, &str)]) -> (Process, Process) {
    let (first, second) = (replica_in(world, "first", env).await, replica_in(world, "second", env).await);
    until_they_know_each_other(&[&first, &second], &["first", "second"]).await;
    (first, second)
}

/// Waits until the job `id` is bound to the replica called `name`.
async fn until_bound_to(world: &World, id: &str, name: &str) {
    until("the job is bound to the other replica", || async {
        (world.job(id).await.annotations()[names::SERVER] == name).then_some(())
    })
    .await;
}

/// Waits until the `replicas` called `names` have heard of each other: a job of each is answered by the other.
async fn until_they_know_each_other(replicas: &[&Process], names: &[&str]) {
    for replica in replicas {
        replica.until_replicas(names).await;
    }
}

async fn configured(server: &Process) -> String {
    let (status, answer) = configure(server, &request()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["job_id"].as_str().unwrap().to_owned()
}

/// Rows that this replica gives of the job, once there are some.
async fn rows(server: &Process, id: &str) -> Value {
    until("rows", || async {
        let answer = get(server, &format!("waterfall/{id}/5")).await;
        (answer.status() == StatusCode::CREATED).then_some(())?;
        answer.json().await.ok()
    })
    .await
}

#[tokio::test]
async fn any_replica_answers_and_another_takes_over_from_one_that_dies() {
    one_is_within(TAKEOVER, "replicas", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let (first, second) = two_replicas(&world, &[]).await;

        let id = configured(&first).await;
        let before = world.until_condition(&id, READY, true).await;
        assert_eq!(before.annotations()[names::SERVER], "first");
        let metadata = get(&second, &format!("metadata/{id}?wait=30s")).await;
        assert_eq!(metadata.status(), StatusCode::OK);
        assert!(rows(&second, &id).await[0]["rows"].as_array().is_some_and(|rows| !rows.is_empty()));

        let (killed, clock) = (Instant::now(), Timestamp::now());
        first.kill();
        // Who waits for the consumer waits for the next replica too.
        let path = format!("metadata/{id}?wait=30s");
        let metadata = async { (get(&second, &path).await, killed.elapsed()) };
        let ((metadata, taken), lost) =
            tokio::join!(metadata, world.until_condition(&id, CONSUMER_READY, false));
        assert_eq!(metadata.status(), StatusCode::OK);
        assert_eq!(condition(&lost, CONSUMER_READY).unwrap().1, "ConsumerLost");
        let after = world.until_condition(&id, READY, true).await;
        let list = &after.status.as_ref().unwrap().conditions;
        let back = conditions::find(list, CONSUMER_READY).unwrap().last_transition_time.0;
        let in_conditions = back.duration_since(clock).unsigned_abs();
        assert_eq!(
            after.status.unwrap().timeline,
            before.status.unwrap().timeline,
            "a milestone was rewritten"
        );
        rows(&second, &id).await;
        until_bound_to(&world, &id, "second").await;
        // For the client, and by the job's conditions.
        taken.max(in_conditions)
    })
    .await;
}

#[tokio::test]
async fn another_takes_over_from_one_that_is_frozen_once_the_broker_gives_it_up() {
    one_is_within(TAKEOVER_FROM_FROZEN, "frozen", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let (first, second) = two_replicas(&world, &[]).await;
        let id = configured(&first).await;
        world.until_condition(&id, READY, true).await;
        let frozen = Instant::now();
        first.freeze();
        // It binds the job to itself when the broker has given it the consumer.
        until_bound_to(&world, &id, "second").await;
        let taken = frozen.elapsed();
        rows(&second, &id).await;
        world.until_condition(&id, READY, true).await;
        taken
    })
    .await;
}

#[tokio::test]
async fn a_pool_that_was_edited_since_fails_no_job_that_is_taken_over() {
    in_world("edited", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let server = world.server().await;
        let made = configured(&server).await;
        world.create(job("applied", json!({}))).await;
        for id in [&made, "applied"] {
            world.until_condition(id, READY, true).await;
            rows(&server, id).await;
            until("its source is noted on the job", || async {
                world.job(id).await.annotations().contains_key(names::SOURCE).then_some(())
            })
            .await;
        }
        server.kill();
        let pools: Api<AnalyzerPool> = Api::namespaced(world.client.clone(), &world.namespace);
        let patch = Patch::Merge(json!({"spec": {"source": {"sampleRateHz": 2000.0}}}));
        pools.patch("default", &PatchParams::default(), &patch).await.unwrap();
        let next = world.server().await;
        for id in [&made, "applied"] {
            rows(&next, id).await;
            let metadata = get(&next, &format!("metadata/{id}")).await.json::<Value>().await.unwrap();
            assert_eq!(metadata["metadata"]["prr"], json!(1000.0), "{metadata}");
            assert!(condition(&world.job(id).await, FINISHED).is_none_or(|(status, _, _)| status != "True"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_rolling_restart_loses_no_job() {
    in_world("rolling", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let old = replica(&world, "old").await;
        let id = configured(&old).await;
        let before = world.until_condition(&id, READY, true).await;
        let new = replica(&world, "new").await;
        until_they_know_each_other(&[&old, &new], &["old", "new"]).await;
        assert_eq!(old.terminate().await, Some(0));
        until_they_know_each_other(&[&new], &["new"]).await;
        rows(&new, &id).await;
        let after = world.until_condition(&id, READY, true).await;
        assert_eq!(after.uid(), before.uid());
        assert_eq!(
            after.status.unwrap().timeline,
            before.status.unwrap().timeline,
            "a milestone was rewritten"
        );
    })
    .await;
}

/// Lets the namespace have so many FocusJobs; None: as many as it likes.
async fn quota(world: &World, most: Option<u32>) {
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let Some(most) = most else {
        quotas.delete("few", &Default::default()).await.unwrap();
        return;
    };
    let quota = json!({
        "metadata": {"name": "few"}, "spec": {"hard": {"count/focusjobs.focus-operator.io": most.to_string()}}
    });
    quotas.create(&Default::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    until("the quota is in force", || async {
        let quota = quotas.get("few").await.unwrap();
        quota.status.and_then(|status| status.used).map(drop)
    })
    .await;
}

#[tokio::test]
async fn windows_stay_unique_among_replicas() {
    in_world("windows", |world| async move {
        // No operator: the jobs are only objects.
        default_pool(&world).await;
        let (first, second) = two_replicas(&world, &[]).await;
        let asked = (0..20).map(|i| configured(if i % 2 == 0 { &first } else { &second }));
        let ids = join_all(asked).await;
        let windows: BTreeSet<&str> = ids.iter().map(|id| id.split('-').next().unwrap()).collect();
        assert_eq!(windows.len(), ids.len(), "{ids:?}");
        let all: BTreeSet<String> = (0..30).map(|window| window.to_string()).collect();
        assert!(windows.iter().all(|window| all.contains(*window)), "no such window: {ids:?}");

        // Those of refused requests are given back at once: a quota that is full takes no window.
        quota(&world, Some(20)).await;
        let begun = Instant::now();
        for n in 0..40 {
            let server = if n % 2 == 0 { &first } else { &second };
            until("a request is refused for the quota's sake", || async {
                let (status, answer) = configure(server, &request()).await;
                assert_ne!(status, StatusCode::OK, "{answer}");
                // A window may not have been given back yet.
                (answer["reason"] == json!("ApiServerRefuses")).then_some(())
            })
            .await;
        }
        assert!(begun.elapsed() < CLAIM, "as long as claims last that are not given back");
        quota(&world, None).await;
        until("a job is made again", || async {
            let (status, answer) = configure(&second, &request()).await;
            (status == StatusCode::OK).then_some(answer)
        })
        .await;

        // A window is free again when its job is gone.
        let gone = &ids[7];
        let window = format!("{}-", gone.split('-').next().unwrap());
        let url = second.url(&format!("/focus-server/job/{gone}"));
        let deleted: Value = reqwest::Client::new().delete(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(deleted["status"], json!("deleted"));
        until(&format!("window {window} is given again"), || async {
            let id = configured(&first).await;
            id.starts_with(&window).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn reads_through_another_replica_do_not_wait_for_one_that_has_frozen() {
    in_world("frozen", |world| async move {
        default_pool(&world).await;
        let _operator = world.operator().await;
        let (first, second) = two_replicas(&world, &[]).await;
        let id = configured(&first).await;
        // The connection between them is kept, and used again.
        rows(&second, &id).await;

        first.freeze();
        let path = format!("waterfall/{id}/5");
        let asked = std::time::Instant::now();
        let answer = get(&second, &path).await;
        assert!(asked.elapsed().as_secs() < 20, "it took {:?}", asked.elapsed());
        assert_eq!(answer.headers()["focus-phase"], "replica", "{:?}", answer.headers());
    })
    .await;
}
