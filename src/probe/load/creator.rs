//! Creates the jobs: at a rate, or all at once.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::AT_ONCE;
use crate::api::{FocusJobSpec, names};
use crate::probe::args::Options;
use crate::probe::cluster::Cluster;
use crate::probe::report::{Failure, Report};

/// A job that was created.
pub struct Created {
    /// Its name.
    pub name: String,
    /// Its queue's name.
    pub queue: String,
    /// When the call was made.
    pub start: Instant,
    /// When the answer was there.
    pub answered: Instant,
}

/// Creates the jobs; those that the API server refused are failures in `report`.
pub async fn create_all(
    args: &Options,
    cluster: &Cluster,
    spec: &FocusJobSpec,
    stop: &CancellationToken,
    report: &mut Report,
) -> Vec<Created> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut ticks = (args.rate > 0.0).then(|| interval(Duration::from_secs_f64(1.0 / args.rate)));
    let mut running = JoinSet::new();
    for _ in 0..args.jobs {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let Ok(permit) = permits.clone().acquire_owned().await else { break };
        if stop.is_cancelled() {
            break;
        }
        let (cluster, spec) = (cluster.clone(), spec.clone());
        running.spawn(async move {
            let created = create(&cluster, &spec).await;
            drop(permit);
            created
        });
    }
    let mut created = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended.map_err(anyhow::Error::from).and_then(|r| r) {
            Ok(job) => created.push(job),
            Err(error) => {
                report.failures.push(Failure::new("(create)", "CreateFailed", format!("{error:#}")))
            }
        }
    }
    created
}

async fn create(cluster: &Cluster, spec: &FocusJobSpec) -> anyhow::Result<Created> {
    let start = Instant::now();
    let job = cluster.create_job(spec).await?;
    Ok(Created { name: job.name_any(), queue: names::queue_name(&job), start, answered: Instant::now() })
}
