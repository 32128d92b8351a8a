//! deploy/, applied by kubectl.

use std::path::{Path, PathBuf};

use focus_operator::api::conditions::READY;
use kube::api::DeleteParams;
use serde_json::json;

use super::tools::{ROOT, enforce_restricted, kubectl};
use crate::common::objects::{image, job};
use crate::common::{World, broker, in_world, until};

/// A kustomization over parts of deploy/, for the world's namespace and the image under test.
pub struct Overlay(PathBuf);

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Overlay {
    pub fn new(world: &World, name: &str, folders: &[&str], files: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", world.namespace));
        std::fs::create_dir_all(&folder).unwrap();
        // kustomize takes folders elsewhere by a relative path only, and files not at all.
        let up = "../".repeat(folder.components().count() - 1);
        let mut resources: Vec<String> =
            folders.iter().map(|path| format!("{up}{}/deploy/{path}", &ROOT[1..])).collect();
        for (number, path) in files.iter().enumerate() {
            let copy = format!("{number}.yaml");
            std::fs::copy(format!("{ROOT}/deploy/{path}"), folder.join(&copy)).unwrap();
            resources.push(copy);
        }
        let image = image();
        let (repository, tag) = image.rsplit_once(':').unwrap();
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
            "namespace": world.namespace, "resources": resources,
            "images": [{"name": "focus-operator.io/focus", "newName": repository, "newTag": tag}],
        });
        std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).unwrap();
        Self(folder)
    }

    pub fn apply(&self) {
        kubectl(&["apply", "--server-side", "--force-conflicts", "-k", self.0.to_str().unwrap()]);
    }

    pub fn delete(&self) {
        kubectl(&["delete", "--ignore-not-found", "--wait=false", "-k", self.0.to_str().unwrap()]);
    }
}

/// The Secret by the name that deploy/ expects.
pub fn secret(world: &World) {
    let url = format!("--from-literal=url={}", broker::url_for_pods());
    kubectl(&["--namespace", &world.namespace, "create", "secret", "generic", "focus-broker", &url]);
}

/// One job becomes Ready, and is taken away.
pub async fn serves_a_job(world: &World) {
    for name in ["focus-operator", "focus-server"] {
        let deployment = format!("deployment/{name}");
        kubectl(&["--namespace", &world.namespace, "rollout", "status", &deployment, "--timeout=120s"]);
    }
    world.create(job("view", json!({}))).await;
    world.until_condition("view", READY, true).await;
    world.jobs().delete("view", &DeleteParams::default()).await.unwrap();
    world.until_gone("view").await;
}

#[tokio::test]
async fn kubectl_apply_installs_it_in_one_namespace() {
    in_world("kustom", |world| async move {
        enforce_restricted(&world).await;
        secret(&world);
        // Not the whole overlay: all tests share the definitions.
        let overlay = Overlay::new(&world, "all", &["base", "pool"], &["overlays/namespaced/operator.yaml"]);
        overlay.apply();
        serves_a_job(&world).await;
        // A second time changes nothing of what runs.
        let leader = || {
            kubectl(&[
                "--namespace",
                &world.namespace,
                "get",
                "lease",
                "focus-operator",
                "--output",
                "jsonpath={.spec.holderIdentity}",
            ])
        };
        let before = leader();
        overlay.apply();
        assert!(!before.is_empty() && before == leader(), "{before} is no longer the leader");
        overlay.delete();
        until("no deployment is left", || async {
            let left = kubectl(&["--namespace", &world.namespace, "get", "deployments", "--output", "name"]);
            (!left.contains("deployment")).then_some(())
        })
        .await;
    })
    .await;
}
