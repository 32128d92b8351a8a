//! What a release is connected to: a RabbitMQ whose Secret the RabbitMQ cluster operator made, and a volume with
//! recordings.

use focus_operator::api::conditions::{FINISHED, READY};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Secret};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::installed::{front, nothing_was_refused, with};
use super::tools::{Release, enforce_restricted, until_nothing_is_left};
use crate::common::objects::{PAST, PAST_FOLDER, job};
use crate::common::{World, broker, condition, in_world, until};

/// The Secret of a RabbitmqCluster `rabbit`, as the cluster operator 2.10 and newer makes it.
async fn default_user(world: &World) {
    let url = broker::url_for_pods();
    let (user, rest) = url.strip_prefix("amqp://").unwrap().split_once(':').unwrap();
    let (password, address) = rest.split_once('@').unwrap();
    let (host, port) = address.split('/').next().unwrap().split_once(':').unwrap();
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "rabbit-default-user"},
        "stringData": {
            "username": user, "password": password, "host": host, "port": port,
            "provider": "rabbitmq", "type": "rabbitmq",
            "default_user.conf": format!("default_user = {user}\ndefault_pass = {password}\n"),
            "connection_string": format!("amqp://{user}:{password}@{host}:{port}/")
        }
    }))
    .unwrap();
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    // The one of all other tests would hide a mistake.
    secrets.delete("broker", &DeleteParams::default()).await.unwrap();
}

/// A volume of the node with this repository's recordings. It belongs to no namespace, and goes with this.
struct Volume(String);

impl Drop for Volume {
    fn drop(&mut self) {
        super::tools::kubectl(&["delete", "persistentvolume", &self.0, "--ignore-not-found", "--wait=false"]);
    }
}

/// Makes it, and the claim `recordings` in the world's namespace that is bound to it.
async fn recordings(world: &World) -> Volume {
    let name = format!("{}-recordings", world.namespace);
    let common = json!({"accessModes": ["ReadOnlyMany"], "storageClassName": ""});
    let mut volume = json!({"metadata": {"name": name}, "spec": common});
    volume["spec"]["capacity"] = json!({"storage": "1Mi"});
    volume["spec"]["hostPath"] = json!({"path": PAST_FOLDER, "type": "Directory"});
    volume["spec"]["claimRef"] = json!({"namespace": world.namespace, "name": "recordings"});
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let mut claim = json!({"metadata": {"name": "recordings"}, "spec": common});
    claim["spec"]["volumeName"] = json!(name);
    claim["spec"]["resources"] = json!({"requests": {"storage": "1Mi"}});
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &world.namespace);
    claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
    Volume(name)
}

/// A release with one of everything, the broker's Secret by its cluster's name, and live and recorded data of four
/// channels.
fn values(compose: bool) -> Value {
    let one = json!({"replicas": 1});
    with(json!({
        "operator": one, "server": one,
        "broker": {"rabbitmqCluster": {"name": "rabbit", "compose": compose}},
        "recordings": {"existingClaim": "recordings"},
        "pool": {"source": {"uri": "synthetic:", "sampleRateHz": 100, "channels": 4, "dxMeters": 2}}
    }))
}

#[tokio::test]
async fn a_rabbitmq_cluster_and_a_volume_of_recordings_are_used() {
    in_world("connected", |world| async move {
        enforce_restricted(&world).await;
        default_user(&world).await;
        let _volume = recordings(&world).await;
        let release = Release::new(&world, "FOCUS_TEST_HELM4");
        let four = json!({"channels": {"min": 1, "max": 4}, "frequencyRange": {"min": 0, "max": 50}});
        release.install(&values(false));
        world.create(job("by-url", four.clone())).await;
        world.until_condition("by-url", READY, true).await;
        plays_the_past(&world).await;
        nothing_was_refused(&world).await;

        release.upgrade(&values(true));
        world.create(job("by-parts", four)).await;
        for name in ["by-parts", "by-url"] {
            world.until_condition(name, READY, true).await;
            world.jobs().delete(name, &DeleteParams::default()).await.unwrap();
            world.until_gone(name).await;
        }
        release.uninstall();
        until_nothing_is_left(&world.namespace).await;
    })
    .await;
}

/// The server knows the recordings, and an analyzer plays them to their end.
async fn plays_the_past(world: &World) {
    let base = front(world).await;
    let client = reqwest::Client::new();
    let range = json!({"start_time": PAST, "end_time": PAST + 100});
    until("the server has found the recordings", || async {
        let asked = client.post(format!("{base}/recordings_in_time_range")).json(&range).send().await.ok()?;
        let found: Value = asked.json().await.ok()?;
        (found == json!([[PAST, PAST + 10], [PAST + 30, PAST + 35]])).then_some(())
    })
    .await;
    let request = json!({
        "displayTimeAxisDuration": 10, "nfftSelection": 256, "displayInfo": {"height": 100},
        "channels": {"min": 1, "max": 4}, "frequencyRange": {"min": 0, "max": 50}, "view_type": "MULTICHANNEL",
        "start_time": PAST + 3, "end_time": PAST + 9
    });
    let answer = client.post(format!("{base}/configure")).json(&request).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let id = answer["job_id"].as_str().unwrap();
    let finished = world.until_condition(id, FINISHED, true).await;
    assert_eq!(condition(&finished, FINISHED).unwrap().1, "Completed");
    let rows: Value = until("the last line is there", || async {
        let answer = client.get(format!("{base}/waterfall/{id}/1")).send().await.ok()?;
        (answer.status() == reqwest::StatusCode::ALREADY_REPORTED).then_some(())?;
        answer.json().await.ok()
    })
    .await;
    let began = rows[0]["rows"][0]["startTimestamp"].as_i64().unwrap();
    assert!((PAST + 3..PAST + 9).contains(&(began / 1000)), "{rows}");
    let ended = client.delete(format!("{base}/job/{id}")).send().await.unwrap();
    assert!(ended.status().is_success(), "{}", ended.status());
    world.until_gone(id).await;
}
