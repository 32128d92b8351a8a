//! The objects that tests create.

use focus_operator::api::{AnalyzerPool, FocusJob};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::{World, broker, from_env};

pub fn namespace(name: &str) -> Namespace {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"focus-operator.io/e2e": "true"}}}))
        .unwrap()
}

/// The broker's address, for the analyzers.
pub async fn broker_secret(world: &World) {
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "broker"},
        "stringData": {"url": broker::url_for_pods()}
    }))
    .unwrap();
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    secrets.create(&PostParams::default(), &secret).await.unwrap();
}

pub fn synthetic() -> Value {
    json!({"uri": "synthetic:", "sampleRateHz": 1000.0, "channels": 2500, "dxMeters": 1.0})
}

/// A pool `name` that runs the reference analyzer.
pub async fn pool(world: &World, name: &str, source: Value, image: &str) {
    create_pool(world, name, source, template(image)).await;
}

async fn create_pool(world: &World, name: &str, source: Value, template: Value) {
    let pool: AnalyzerPool = serde_json::from_value(json!({
        "apiVersion": "focus-operator.io/v1alpha1", "kind": "AnalyzerPool",
        "metadata": {"name": name},
        "spec": {"source": source, "template": template}
    }))
    .unwrap();
    let pools: Api<AnalyzerPool> = Api::namespaced(world.client.clone(), &world.namespace);
    pools.create(&PostParams::default(), &pool).await.unwrap();
}

/// The pool that most tests use: the reference analyzer on the synthetic source.
pub async fn default_pool(world: &World) {
    pool(world, "default", synthetic(), &image()).await;
}

/// The default pool, whose analyzers have more environment.
pub async fn pool_in(world: &World, env: &[(&str, &str)]) {
    let mut template = template(&image());
    let variables = template["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    variables.extend(env.iter().map(|(name, value)| json!({"name": name, "value": value})));
    create_pool(world, "default", synthetic(), template).await;
}

/// A pool `name` that plays the recordings of this repository, made from [`PAST`] on, and nothing live.
pub async fn past_pool(world: &World, name: &str) {
    let source = json!({"uri": "file:///past/", "sampleRateHz": 100.0, "channels": 4, "dxMeters": 2.0});
    let mut template = template(&image());
    let spec = &mut template["spec"];
    spec["volumes"] = json!([{"name": "past", "hostPath": {"path": PAST_FOLDER, "type": "Directory"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "past", "mountPath": "/past", "readOnly": true}]);
    create_pool(world, name, source, template).await;
}

/// The folder of those recordings.
pub const PAST_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings");
/// When they begin: 2026-01-01T00:00:00Z, s. They last until 10 s later, and from 30 s to 35 s later.
pub const PAST: i64 = 1_767_225_600;

/// The default pool, whose pods no node takes: for tests that make many jobs and need no lines.
pub async fn idle_pool(world: &World) {
    let mut template = template("none");
    template["spec"]["nodeSelector"] = json!({"focus-operator.io/test": "no-such-node"});
    create_pool(world, "default", synthetic(), template).await;
}

/// A pool `name` that runs the example analyzer in Python, under the Pod Security level `restricted`; without a broker it
/// is not told where that is.
pub async fn python_pool(world: &World, name: &str, source: Value, broker: bool) {
    let mut template = template(&from_env("FOCUS_TEST_PYTHON_IMAGE"));
    let spec = template["spec"].as_object_mut().unwrap();
    spec.remove("volumes");
    spec.insert("terminationGracePeriodSeconds".to_owned(), json!(60));
    let container = spec["containers"][0].as_object_mut().unwrap();
    for reference_only in ["args", "volumeMounts"] {
        container.remove(reference_only);
    }
    if !broker {
        container.remove("env");
    }
    create_pool(world, name, source, template).await;
}

pub fn image() -> String {
    from_env("FOCUS_TEST_IMAGE")
}

/// Where real recordings are, if there are any.
pub fn recordings() -> Option<String> {
    std::env::var("FOCUS_TEST_RECORDINGS").ok().filter(|path| std::path::Path::new(path).is_dir())
}

fn template(image: &str) -> Value {
    let mut container = json!({
        "name": "analyzer", "image": image, "imagePullPolicy": "IfNotPresent", "args": ["analyzer"],
        "env": [{"name": "FOCUS_BROKER_URL", "valueFrom": {"secretKeyRef": {"name": "broker", "key": "url"}}}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8082}, "periodSeconds": 1},
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"}
        }
    });
    let mut spec = json!({"terminationGracePeriodSeconds": 1});
    if let Some(path) = recordings() {
        container["volumeMounts"] =
            json!([{"name": "recordings", "mountPath": "/recordings", "readOnly": true}]);
        spec["volumes"] = json!([{"name": "recordings", "hostPath": {"path": path, "type": "Directory"}}]);
    }
    spec["containers"] = json!([container]);
    json!({"spec": spec})
}

/// A view of 50 channels, as the clients ask for; `changes` are laid over its spec.
pub fn job(name: &str, changes: Value) -> FocusJob {
    let mut spec = json!({
        "viewType": "MultiChannel", "channels": {"min": 1, "max": 50}, "frequencyRange": {"min": 0, "max": 500},
        "nfftSelection": 1024, "displayTimeAxisDuration": 10
    });
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "focus-operator.io/v1alpha1", "kind": "FocusJob", "metadata": {"name": name}, "spec": spec
    }))
    .unwrap()
}
