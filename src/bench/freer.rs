//! In place of an operator: lets deleted FocusJobs go, which have neither pod nor queue.

use anyhow::Context;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use tokio::task::AbortHandle;

use crate::api::FocusJob;
use crate::probe::cluster::{Cluster, bounded};

/// Takes the finalizers of deleted jobs away until it is dropped.
pub struct Freer {
    task: AbortHandle,
}

impl Drop for Freer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Freer {
    /// Begins with the jobs of the cluster's namespace.
    pub fn start(cluster: &Cluster) -> Self {
        Self { task: tokio::spawn(follow(cluster.api())).abort_handle() }
    }
}

async fn follow(jobs: Api<FocusJob>) {
    let mut events = Box::pin(watcher::watcher(jobs.clone(), watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(job) | Event::InitApply(job)) if job.metadata.deletion_timestamp.is_some() => {
                let jobs = jobs.clone();
                tokio::spawn(async move {
                    if let Err(error) = free(&jobs, &job.name_any()).await {
                        tracing::warn!("{error:#}");
                    }
                });
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("the watch of FocusJobs was interrupted and goes on: {error}"),
        }
    }
}

async fn free(jobs: &Api<FocusJob>, name: &str) -> anyhow::Result<()> {
    let (params, patch) = (PatchParams::default(), json!({"metadata": {"finalizers": null}}));
    let what = format!("taking the finalizers of FocusJob {name} away");
    let freed = bounded(&what, async {
        match jobs.patch_metadata(name, &params, &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    });
    freed.await.context("a job may stay behind")
}
