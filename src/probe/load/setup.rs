//! The namespace and the pool on which no real scheduler acts.

use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::api::{AnalyzerPool, FocusJob};
use crate::probe::cluster::{Cluster, bounded};

/// The scheduler that nobody runs.
const SCHEDULER: &str = "focus-bench";

/// What had to be made, and is therefore to be deleted.
#[derive(Default)]
pub struct Ground {
    namespace: bool,
    pool: bool,
}

impl Ground {
    /// Makes namespace and pool where they are missing.
    ///
    /// # Errors
    /// When the API server refuses, or a real scheduler would place the pool's pods.
    pub async fn prepare(cluster: &Cluster, pool: &str) -> anyhow::Result<Self> {
        let (mut ground, params) = (Self::default(), PostParams::default());
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let name = &cluster.namespace;
        if !is_there(&namespaces, name).await? {
            let namespace =
                serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": SCHEDULER}}}))?;
            bounded(&format!("creating namespace {name}"), namespaces.create(&params, &namespace)).await?;
            ground.namespace = true;
        }
        refuse_others(cluster).await?;
        let pools = cluster.api::<AnalyzerPool>();
        match bounded(&format!("reading AnalyzerPool {pool}"), pools.get_opt(pool)).await? {
            Some(found) => refuse_real(&found, name)?,
            None => {
                let new = bench_pool(pool)?;
                bounded(&format!("creating AnalyzerPool {pool}"), pools.create(&params, &new)).await?;
                ground.pool = true;
            }
        }
        Ok(ground)
    }

    /// Deletes what was made; the namespace goes on its own after that.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn clear(&self, cluster: &Cluster, pool: &str) -> anyhow::Result<()> {
        if self.pool {
            cluster.delete::<AnalyzerPool>(pool).await?;
        }
        if self.namespace {
            let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
            let (name, params) = (&cluster.namespace, DeleteParams::default());
            bounded(&format!("deleting namespace {name}"), namespaces.delete(name, &params)).await?;
        }
        Ok(())
    }
}

/// Whether the namespace is there; one that is going away, such as that of an earlier load, is awaited.
async fn is_there(namespaces: &Api<Namespace>, name: &str) -> anyhow::Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = bounded(&format!("reading namespace {name}"), namespaces.get_opt(name)).await?;
        if found.as_ref().is_none_or(|n| n.metadata.deletion_timestamp.is_none()) {
            return Ok(found.is_some());
        }
        if Instant::now() > deadline {
            bail!(
                "namespace {name} is still going away after 60 s: kubectl describe namespace {name} tells why"
            );
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Jobs of others would be measured too.
async fn refuse_others(cluster: &Cluster) -> anyhow::Result<()> {
    let (what, name) = ("looking for earlier FocusJobs", &cluster.namespace);
    let one = ListParams::default().limit(1);
    let found = bounded(what, cluster.api::<FocusJob>().list_metadata(&one)).await?;
    if let Some(job) = found.items.first() {
        bail!(
            "namespace {name} has FocusJobs already, such as {}: delete them with \
             kubectl delete focusjobs --all -n {name}, or name an empty namespace with --namespace",
            job.name_any()
        );
    }
    Ok(())
}

fn refuse_real(pool: &AnalyzerPool, namespace: &str) -> anyhow::Result<()> {
    let spec = pool.spec.template.spec.as_ref();
    let scheduler = spec.and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler");
    if scheduler == "default-scheduler" {
        bail!(
            "AnalyzerPool {} in namespace {namespace} has real pods: the load needs a pool of its own with \
             schedulerName {SCHEDULER}; name an empty namespace with --namespace",
            pool.name_any()
        );
    }
    Ok(())
}

fn bench_pool(name: &str) -> serde_json::Result<AnalyzerPool> {
    serde_json::from_value(json!({
        "apiVersion": "focus-operator.io/v1alpha1",
        "kind": "AnalyzerPool",
        "metadata": {"name": name},
        "spec": {
            "source": {"uri": "synthetic:", "sampleRateHz": 1000.0, "channels": 2500, "dxMeters": 1.0},
            "template": {"spec": {
                "schedulerName": SCHEDULER,
                "containers": [{"name": "analyzer", "image": "focus-bench.invalid/never-run"}]
            }}
        }
    }))
}

/// Creates `samples` small objects one after the other and deletes them: what a create costs, s.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn create_floor(cluster: &Cluster, samples: u32) -> anyhow::Result<Vec<f64>> {
    let api = cluster.api::<ConfigMap>();
    let mut seconds = Vec::new();
    for _ in 0..samples {
        let map = ConfigMap { metadata: cluster.metadata("probe-floor-"), ..ConfigMap::default() };
        let start = Instant::now();
        let map = bounded("creating a ConfigMap", api.create(&PostParams::default(), &map)).await?;
        seconds.push(start.elapsed().as_secs_f64());
        cluster.delete::<ConfigMap>(&map.name_any()).await?;
    }
    Ok(seconds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn real_pools_are_refused() {
        let mut pool = bench_pool("p").unwrap();
        assert!(refuse_real(&pool, "n").is_ok());
        for scheduler in [None, Some("default-scheduler".to_owned())] {
            pool.spec.template.spec.as_mut().unwrap().scheduler_name = scheduler;
            assert!(refuse_real(&pool, "n").is_err());
        }
    }
}
