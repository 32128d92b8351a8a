//! A fake kubelet: every pod of the namespace is Running and Ready as soon as it is seen.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::AT_ONCE;
use crate::probe::cluster::{Cluster, bounded};

/// The running fake kubelet; ends when dropped.
pub struct Kubelet {
    patched: Arc<Mutex<Vec<f64>>>,
    task: AbortHandle,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kubelet {
    /// Starts it; returns when its watch has its first list.
    ///
    /// # Errors
    /// When that is not there within 10 s.
    pub async fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let patched = Arc::new(Mutex::new(Vec::new()));
        let (listed, ready) = oneshot::channel();
        let task = tokio::spawn(follow(cluster.api(), patched.clone(), listed)).abort_handle();
        let kubelet = Self { patched, task };
        let what = "watching the pods of the load";
        timeout(Duration::from_secs(10), ready).await.context(what)?.context(what)?;
        Ok(kubelet)
    }

    /// How long each pod took from its sight until its patch was answered, s.
    pub fn patch_seconds(&self) -> Vec<f64> {
        self.patched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn follow(api: Api<Pod>, patched: Arc<Mutex<Vec<f64>>>, listed: oneshot::Sender<()>) {
    let mut events = Box::pin(watcher::watcher(api.clone(), watcher::Config::default()).default_backoff());
    let (permits, mut done, mut listed) = (Arc::new(Semaphore::new(AT_ONCE)), HashSet::new(), Some(listed));
    while let Some(event) = events.next().await {
        let pod = match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => pod,
            Ok(Event::InitDone) => {
                // Nobody waits any more when a later list is done.
                listed.take().map(|l| l.send(()));
                continue;
            }
            Ok(Event::Init | Event::Delete(_)) => continue,
            Err(error) => {
                tracing::warn!("the watch of pods was interrupted and goes on: {error}");
                continue;
            }
        };
        let seen = Instant::now();
        if pod.metadata.deletion_timestamp.is_some() || !done.insert(pod.uid()) {
            continue;
        }
        let (api, patched, permits) = (api.clone(), patched.clone(), permits.clone());
        tokio::spawn(async move {
            let _permit = permits.acquire_owned().await;
            match make_ready(&api, &pod).await {
                Ok(()) => {
                    let took = seen.elapsed().as_secs_f64();
                    patched.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                }
                Err(error) => tracing::warn!("{error:#}"),
            }
        });
    }
}

async fn make_ready(api: &Api<Pod>, pod: &Pod) -> anyhow::Result<()> {
    let (name, status) = (pod.name_any(), ready_status(pod, Timestamp::now()));
    let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
    let patching = api.patch_status(&name, &params, &patch);
    bounded(&format!("patching the status of pod {name}"), patching).await.map(|_| ())
}

/// What a kubelet would report of a pod whose containers all run.
fn ready_status(pod: &Pod, now: Timestamp) -> Value {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    let condition = |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let containers = pod.spec.iter().flat_map(|s| &s.containers).map(|c| {
        json!({
            "name": c.name, "image": c.image, "imageID": "focus-bench", "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": now}}
        })
    });
    json!({
        "apiVersion": Pod::api_version(&()), "kind": Pod::kind(&()),
        "status": {
            "phase": "Running",
            "startTime": now,
            "conditions": conditions,
            "containerStatuses": containers.collect::<Vec<_>>(),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_status_is_a_pod_status() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"}, "spec": {"containers": [{"name": "analyzer", "image": "i"}]}
        }))
        .unwrap();
        let patch = ready_status(&pod, Timestamp::UNIX_EPOCH);
        let status = serde_json::from_value::<Pod>(patch).unwrap().status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Running"));
        let ready: Vec<_> = status.conditions.unwrap().into_iter().map(|c| (c.type_, c.status)).collect();
        assert!(ready.contains(&("Ready".to_owned(), "True".to_owned())));
        let container = &status.container_statuses.unwrap()[0];
        assert!(container.ready && container.name == "analyzer");
        assert!(container.state.as_ref().unwrap().running.is_some());
    }
}
