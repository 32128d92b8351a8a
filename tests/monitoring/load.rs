//! A system in use: jobs that run and are read, and jobs that fail in several ways.

use std::rc::Rc;

use focus_operator::api::conditions::{ANALYZER_READY, CONSUMER_READY, READY};
use focus_operator::api::names::pod_name;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::common::objects::{default_pool, job, pool, synthetic};
use crate::common::process::Process;
use crate::common::prometheus::Target;
use crate::common::{World, from_env, until};

/// The parts under load.
pub struct System {
    pub operator: Process,
    pub server: Process,
    world: Rc<World>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for System {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl System {
    /// Starts operator and server, with every part that has metrics of its own; nothing is asked of them yet.
    pub async fn start(world: Rc<World>) -> Self {
        default_pool(&world).await;
        pool(&world, "broken", synthetic(), "focus-operator.invalid/no-such-image:1").await;
        let operator = world.operator().await;
        let database = format!("focus_{}", world.namespace.replace('-', "_"));
        let uri = from_env("FOCUS_TEST_MONGODB_URL");
        let recordings = crate::common::objects::PAST_FOLDER;
        let options = ["--mongodb-uri", &uri, "--mongodb-database", &database, "--recordings", recordings];
        let server = world.server_with(&options).await;
        Self { operator, server, world, reader: tokio::spawn(async {}) }
    }

    /// Operator and server, as Prometheus is to scrape them.
    pub fn targets(&self) -> Vec<Target> {
        let namespace = &self.world.namespace;
        vec![
            Target::of(&self.operator, "operator", namespace, "operator-0"),
            Target::of(&self.server, "server", namespace, "server-0"),
        ]
    }

    /// Makes jobs, good ones and bad ones, and reads what comes; gives the analyzers as further targets.
    pub async fn load(&mut self) -> Vec<Target> {
        let world = self.world.clone();
        world.create(job("no-pool", json!({"pool": "nowhere"}))).await;
        world.create(job("no-image", json!({"pool": "broken"}))).await;
        world.create(job("short", json!({}))).await;
        self.stand_in_the_way().await;
        let ids = [self.configure().await, self.configure().await];
        self.ask(&json!({"channels": {"min": 5, "max": 1}})).await;
        for id in &ids {
            world.until_condition(id, READY, true).await;
            self.read(id).await;
        }
        self.stream(&ids[0]).await;
        world.until_reason("no-pool", READY, "PoolNotFound").await;
        world.until_reason("no-image", ANALYZER_READY, "ImagePullBackOff").await;
        world.until_reason("in-the-way", ANALYZER_READY, "PodConflict").await;
        world.until_condition("short", CONSUMER_READY, true).await;
        world.jobs().delete("short", &DeleteParams::default()).await.unwrap();
        world.until_gone("short").await;
        analyzers(&world, &ids).await
    }

    /// A job whose pod cannot be made: another has its name.
    async fn stand_in_the_way(&self) {
        let created = self.world.create(job("in-the-way", json!({"suspend": true}))).await;
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": pod_name(&created, 0)},
            "spec": {
                "containers": [{"name": "other", "image": "none"}],
                "nodeSelector": {"focus-operator.io/test": "no-such-node"}
            }
        }))
        .unwrap();
        self.world.pods().create(&PostParams::default(), &pod).await.unwrap();
        let go_on = Patch::Merge(json!({"spec": {"suspend": false}}));
        self.world.jobs().patch("in-the-way", &PatchParams::default(), &go_on).await.unwrap();
    }

    async fn configure(&self) -> String {
        let request = json!({
            "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 8},
            "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
        });
        self.ask(&request).await["job_id"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, request: &Value) -> Value {
        let client = reqwest::Client::new();
        let url = self.server.url("/focus-server/configure");
        client.post(url).json(request).send().await.unwrap().json().await.unwrap()
    }

    /// Reads metadata, and waits for lines.
    async fn read(&self, id: &str) {
        let metadata = reqwest::get(self.server.url(&format!("/focus-server/metadata/{id}?wait=30s"))).await;
        assert!(metadata.unwrap().status().is_success());
        let waterfall = self.server.url(&format!("/focus-server/waterfall/{id}/5"));
        until("lines at the client", || async {
            (reqwest::get(&waterfall).await.ok()?.status() == 201).then_some(())
        })
        .await;
    }

    /// Reads a live stream from now on.
    async fn stream(&mut self, id: &str) {
        let url = self.server.url(&format!("/focus-server/stream/{id}")).replace("http", "ws");
        let (mut stream, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        self.reader = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    }
}

/// The analyzers of the jobs of these names, which have pods of their own.
async fn analyzers(world: &World, ids: &[String]) -> Vec<Target> {
    let pods: Vec<Pod> = world.pods().list(&ListParams::default()).await.unwrap().items;
    let of_job = |pod: &&Pod| ids.iter().any(|id| pod.name_any().starts_with(id.as_str()));
    let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let targets = pods.iter().filter(of_job).filter_map(|pod| {
        let address = format!("{}:8082", address(pod)?);
        Some(Target::new("analyzer", &address, &world.namespace, &pod.name_any()))
    });
    let targets: Vec<Target> = targets.collect();
    assert_eq!(targets.len(), ids.len(), "every job that is ready has a pod with an address");
    targets
}
