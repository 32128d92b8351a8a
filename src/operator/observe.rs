//! What is known of a job now: from the watches' stores, the broker's book and our own memory. Asks nobody.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use super::memory::Memory;
use super::metrics::Metrics;
use super::plan::Observed;
use crate::api::names;
use crate::api::timeline::{micro, seconds_between};
use crate::api::{AnalyzerPool, FocusJob};
use crate::broker::follow::BrokerHandle;

/// How long a pod is believed in that the API server has shown us and that the watch does not bring: one that is
/// in the way carries no label of ours, and one that was gone at once may never be brought. Then we look again.
const BELIEVED: Duration = Duration::from_secs(10);

/// Where observations come from.
#[derive(Clone)]
pub struct Sources {
    /// The analyzer pools of the watched namespaces.
    pub pools: Store<AnalyzerPool>,
    /// The analyzer pods, by the uid of their job.
    pub pods: PodIndex,
    /// The broker.
    pub broker: BrokerHandle<ObjectRef<FocusJob>>,
    /// Our own memory.
    pub memory: Memory,
    /// How busy we are.
    pub metrics: Metrics,
}

/// The pods that the watch knows, by the uid of their job.
#[derive(Clone, Default)]
pub struct PodIndex {
    pods: Arc<std::sync::Mutex<Pods>>,
}

type Pods = std::collections::HashMap<String, Vec<Arc<Pod>>>;

impl PodIndex {
    /// Takes in `pod` as the watch delivered it.
    pub fn applied(&self, pod: Pod) {
        insert(&mut self.lock(), pod);
    }

    /// Forgets `pod`, which the watch told to be deleted.
    pub fn deleted(&self, pod: &Pod) {
        let Some(job) = pod.labels().get(names::UID_LABEL) else { return };
        let mut pods = self.lock();
        if let Some(of_job) = pods.get_mut(job) {
            of_job.retain(|known| known.uid() != pod.uid());
            if of_job.is_empty() {
                pods.remove(job);
            }
        }
    }

    /// Puts `fresh`, a complete list, in the place of everything known.
    pub fn replaced(&self, fresh: Vec<Pod>) {
        let mut pods = Pods::default();
        fresh.into_iter().for_each(|pod| insert(&mut pods, pod));
        *self.lock() = pods;
    }

    /// The pods of the job with `uid`.
    pub fn of(&self, uid: &str) -> Vec<Arc<Pod>> {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn insert(pods: &mut Pods, pod: Pod) {
    let Some(job) = pod.labels().get(names::UID_LABEL).cloned() else { return };
    let of_job = pods.entry(job).or_default();
    of_job.retain(|known| known.name_any() != pod.name_any());
    of_job.push(Arc::new(pod));
}

/// Observes `job` at `now`; its first sight is remembered.
pub fn observe(job: &FocusJob, sources: &Sources, now: Timestamp) -> Observed {
    let uid = job.uid().unwrap_or_default();
    if job.meta().deletion_timestamp.is_none() {
        sources.memory.update(&uid, |memory| {
            memory.seen.accepted_at.get_or_insert_with(|| micro(now));
        });
    }
    let remembered = sources.memory.of(&uid);
    let mut pods: Vec<Pod> = sources.pods.of(&uid).iter().map(|pod| (**pod).clone()).collect();
    let shown = remembered.shown.filter(|(shown, _)| pods.iter().all(|pod| pod.uid() != shown.uid()));
    let left =
        shown.as_ref().and_then(|(_, at)| BELIEVED.checked_sub(waited(*at, now))).filter(|l| !l.is_zero());
    if let (Some((shown, _)), Some(_)) = (&shown, left) {
        pods.push((**shown).clone());
    }
    let newest_failed =
        remembered.failed.filter(|(failed, _)| pods.iter().any(|pod| pod.uid().as_ref() == Some(failed)));
    let pool = ObjectRef::new(&job.spec.pool).within(&job.namespace().unwrap_or_default());
    Observed {
        pool: sources.pools.get(&pool).map(|pool| (*pool).clone()),
        pods,
        believed_for: left,
        refused: remembered.refused,
        failed_at: newest_failed.map(|(_, at)| at),
        broker: sources.broker.state(),
        queue: sources.broker.seen(&names::queue_name(job)).unwrap_or_default(),
        seen: remembered.seen,
        crowded: sources.metrics.crowded(),
    }
}

fn waited(since: Timestamp, now: Timestamp) -> Duration {
    Duration::from_secs_f64(seconds_between(since, now).max(0.0))
}
