//! The watches of FocusJobs and AnalyzerPools.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector::store::Writer};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::configure::Synced;
use super::jobs::Jobs;
use super::store::JobStore;
use crate::api::{AnalyzerPool, FocusJob};

/// Length of one watch call, s: a connection that died silently is noticed soon after.
const WATCH_S: u32 = 60;

fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_S)
}

/// Feeds `jobs` and the records in `records` from the watch until `stop`.
pub async fn jobs(
    api: Api<FocusJob>,
    jobs: Arc<Jobs>,
    records: JobStore,
    synced: Arc<Synced>,
    stop: CancellationToken,
) {
    let (store, writer) = reflector::store();
    let stream = reflector::reflector(writer, watcher(api, config())).default_backoff();
    let mut stream = std::pin::pin!(stream.take_until(stop.cancelled_owned()));
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(job)) => {
                records.saw(&job);
                jobs.apply(Arc::new(job));
            }
            Ok(Event::Delete(job)) => {
                records.gone(&job);
                jobs.remove(&job.name_any(), job.uid().as_deref());
            }
            Ok(Event::InitDone) => {
                records.resync(&store.state());
                jobs.resync(&store.state());
                synced.set_jobs();
            }
            Ok(Event::Init | Event::InitApply(_)) => {}
            Err(error) => warn!(%error, "watching FocusJobs"),
        }
    }
}

/// The pools, and the future that keeps them fresh until `stop`.
pub fn pools(
    api: Api<AnalyzerPool>,
    synced: Arc<Synced>,
    stop: CancellationToken,
) -> (Store<AnalyzerPool>, impl Future<Output = ()>) {
    let (store, writer): (_, Writer<AnalyzerPool>) = reflector::store();
    let stream = reflector::reflector(writer, watcher(api, config())).default_backoff();
    (store, follow_pools(stream.take_until(stop.cancelled_owned()), synced))
}

async fn follow_pools(stream: impl Stream<Item = watcher::Result<Event<AnalyzerPool>>>, synced: Arc<Synced>) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::InitDone) => synced.set_pools(),
            Ok(_) => {}
            Err(error) => warn!(%error, "watching AnalyzerPools"),
        }
    }
}
