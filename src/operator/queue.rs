//! The jobs that have news which no reconciliation has taken up yet: the controller does not tell of its own queue.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};

use crate::api::FocusJob;

/// Namespace and name of a job.
type Key = (String, String);

/// What waits for a reconciliation; clones share it.
#[derive(Clone, Default)]
pub struct Queue(Arc<Mutex<HashSet<Key>>>);

impl Queue {
    /// There is news of the job of this name.
    pub fn add(&self, namespace: Option<&str>, name: &str) {
        self.lock().insert(key(namespace, name));
    }

    /// There is news of the job that owns `child`.
    pub fn add_owner(&self, child: &impl ResourceExt) {
        let kind = FocusJob::kind(&());
        let owners = child.owner_references().iter().filter(|owner| owner.kind == kind);
        owners.for_each(|owner| self.add(child.namespace().as_deref(), &owner.name));
    }

    /// There is news of all `jobs`, which are given back.
    pub fn add_all(&self, jobs: Vec<ObjectRef<FocusJob>>) -> Vec<ObjectRef<FocusJob>> {
        jobs.iter().for_each(|job| self.add(job.namespace.as_deref(), &job.name));
        jobs
    }

    /// Sees the news of jobs as a watch delivers it.
    pub fn of_job(&self) -> impl FnMut(&watcher::Result<FocusJob>) + use<> {
        let queue = self.clone();
        move |news| {
            news.iter().for_each(|job| queue.add(job.meta().namespace.as_deref(), &job.name_any()));
        }
    }

    /// Sees the news of what jobs own.
    pub fn of_owner<K: ResourceExt>(&self) -> impl FnMut(&watcher::Result<K>) + use<K> {
        let queue = self.clone();
        move |news| news.iter().for_each(|child| queue.add_owner(child))
    }

    /// Sees references to jobs of which there is news.
    pub fn of_reference(&self) -> impl FnMut(&ObjectRef<FocusJob>) + use<> {
        let queue = self.clone();
        move |job| queue.add(job.namespace.as_deref(), &job.name)
    }

    /// Sees that all `jobs` are to be looked at.
    pub fn of_all(&self, jobs: Store<FocusJob>) -> impl FnMut(&()) + use<> {
        let queue = self.clone();
        move |()| {
            for job in jobs.state() {
                queue.add(job.meta().namespace.as_deref(), &job.name_any());
            }
        }
    }

    /// A reconciliation of the job of this name begins, or there is none because the job is gone.
    pub fn taken(&self, namespace: Option<&str>, name: &str) {
        self.lock().remove(&key(namespace, name));
    }

    /// How many jobs wait.
    pub fn depth(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        // Only a count depends on it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(namespace: Option<&str>, name: &str) -> Key {
    (namespace.unwrap_or_default().to_owned(), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn a_job_waits_once_from_its_first_news_until_it_is_taken_up() {
        let queue = Queue::default();
        queue.add(Some("a"), "view");
        queue.add(Some("a"), "view");
        queue.add(Some("b"), "view");
        assert_eq!(queue.depth(), 2);
        queue.taken(Some("a"), "view");
        queue.taken(Some("a"), "view");
        assert_eq!(queue.depth(), 1);
        queue.add(Some("a"), "view");
        assert_eq!(queue.depth(), 2);
    }

    #[test]
    fn news_of_a_pod_is_news_of_the_job_that_owns_it() {
        let pod = |kind: &str| -> Pod {
            let owner = serde_json::json!({"apiVersion": "x/v1", "kind": kind, "name": "view", "uid": "u"});
            let metadata = serde_json::json!({"name": "p", "namespace": "a", "ownerReferences": [owner]});
            serde_json::from_value(serde_json::json!({"metadata": metadata})).expect("a pod")
        };
        let queue = Queue::default();
        queue.add_owner(&pod("ReplicaSet"));
        assert_eq!(queue.depth(), 0);
        queue.add_owner(&pod("FocusJob"));
        queue.taken(Some("a"), "view");
        assert_eq!(queue.depth(), 0);
    }
}
