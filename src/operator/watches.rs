//! The watches: what they keep, what they drop, and the moment at which they stamp a milestone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;

use super::memory::Memory;
use super::observe::PodIndex;
use crate::api::names::UID_LABEL;
use crate::api::{AnalyzerPool, FocusJob};

/// The watch of analyzer pods.
pub struct Pods<S> {
    /// What it knows, by job.
    pub index: PodIndex,
    /// Pods that were added, changed or deleted.
    pub stream: S,
    /// Whether the first list is complete.
    pub synced: Arc<AtomicBool>,
    /// A complete list replaced what was known: pods may have gone without a word.
    pub relisted: mpsc::Receiver<()>,
}

/// Watches the pods that carry a job's uid. Milestones are stamped here, when the news arrives.
pub fn pods(api: Api<Pod>, memory: Memory) -> Pods<impl Stream<Item = watcher::Result<Pod>> + Send + use<>> {
    let (index, synced) = (PodIndex::default(), Arc::new(AtomicBool::new(false)));
    let (tell, relisted) = mpsc::channel(1);
    let mut taker = Taker { index: index.clone(), memory, synced: synced.clone(), tell, listed: Vec::new() };
    let config = watcher::Config::default().labels(UID_LABEL);
    let stream = watch(api, config)
        .default_backoff()
        .modify(only_what_is_needed)
        .inspect(move |event| taker.take(event))
        .touched_objects();
    Pods { index, stream, synced, relisted }
}

/// Takes in what the watch of pods delivers.
struct Taker {
    index: PodIndex,
    memory: Memory,
    synced: Arc<AtomicBool>,
    tell: mpsc::Sender<()>,
    listed: Vec<Pod>,
}

impl Taker {
    fn take(&mut self, event: &watcher::Result<Event<Pod>>) {
        match event {
            Ok(Event::Apply(pod)) => self.seen(pod),
            Ok(Event::Delete(pod)) => self.index.deleted(pod),
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::InitApply(pod)) => {
                self.seen(pod);
                self.listed.push(pod.clone());
            }
            Ok(Event::InitDone) => {
                self.index.replaced(std::mem::take(&mut self.listed));
                self.synced.store(true, Ordering::Relaxed);
                // Full: somebody is about to look at everything already.
                let _ = self.tell.try_send(());
            }
            Err(error) => tracing::warn!(%error, "watching pods; trying again"),
        }
    }

    fn seen(&self, pod: &Pod) {
        let now = Timestamp::now();
        // First the index: at no moment may a pod be in neither of the two.
        self.index.applied(pod.clone());
        self.memory.stamp_pod(pod, now);
    }
}

/// Of a pod, what the plan reads: a thousand whole pods would be megabytes.
fn only_what_is_needed(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    let node_name = pod.spec.take().and_then(|spec| spec.node_name);
    pod.spec = Some(PodSpec { node_name, ..PodSpec::default() });
}

/// Watches the jobs into the store behind `writer`. What is remembered of a deleted job is forgotten.
pub fn jobs(
    api: Api<FocusJob>,
    writer: Writer<FocusJob>,
    memory: Memory,
) -> impl Stream<Item = watcher::Result<FocusJob>> + Send + use<> {
    watch(api, watcher::Config::default())
        .default_backoff()
        .modify(|job| job.metadata.managed_fields = None)
        .inspect(move |event| match event {
            Ok(Event::Apply(job) | Event::InitApply(job)) => memory.delivered(job),
            Ok(Event::Delete(job)) => memory.forget(&job.uid().unwrap_or_default()),
            Err(error) => tracing::warn!(%error, "watching FocusJobs; trying again"),
            Ok(_) => {}
        })
        .reflect(writer)
        .applied_objects()
}

/// The jobs of `pool`.
pub fn jobs_in_pool(jobs: &Store<FocusJob>, pool: &AnalyzerPool) -> Vec<ObjectRef<FocusJob>> {
    jobs.state()
        .iter()
        .filter(|job| job.spec.pool == pool.name_any() && job.namespace() == pool.namespace())
        .map(|job| ObjectRef::from_obj(&**job))
        .collect()
}
