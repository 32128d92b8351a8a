//! What the operator remembers between two looks at a job: milestones that no watch repeats, and its own writes
//! that the watch has not yet brought back. All of it may be lost with the process: what matters is in the status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::pod::{self, PodState};
use crate::api::FocusJob;
use crate::api::names::UID_LABEL;
use crate::api::timeline::{Timeline, micro};

/// What is remembered of one job.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// Milestones as first seen.
    pub seen: Timeline,
    /// The job as our last write returned it.
    pub written: Option<Arc<FocusJob>>,
    /// A pod that the API server showed us and that the watch has not brought, and when: one that we created, or
    /// another's that stands in the way.
    pub shown: Option<(Arc<Pod>, Timestamp)>,
    /// The API server's words when it last refused the pod for what is in it.
    pub refused: Option<String>,
    /// When a failed pod, named by its uid, was first seen to have failed.
    pub failed: Option<(String, Timestamp)>,
}

/// The memory of all jobs, by uid.
#[derive(Clone, Default)]
pub struct Memory {
    jobs: Arc<Mutex<HashMap<String, Remembered>>>,
}

impl Memory {
    /// What is remembered of the job with `uid`.
    pub fn of(&self, uid: &str) -> Remembered {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is remembered of the job with `uid`.
    pub fn update(&self, uid: &str, change: impl FnOnce(&mut Remembered)) {
        change(self.lock().entry(uid.to_owned()).or_default());
    }

    /// Forgets the job with `uid`.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Forgets every job but those `alive`.
    pub fn retain(&self, alive: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| alive(uid));
    }

    /// The pod watch delivered `pod` at `now`: takes its milestones.
    pub fn stamp_pod(&self, pod: &Pod, now: Timestamp) {
        let Some(uid) = pod.labels().get(UID_LABEL) else { return };
        let at = Some(micro(now));
        let mut jobs = self.lock();
        let job = jobs.entry(uid.clone()).or_default();
        if job.shown.as_ref().is_some_and(|(shown, _)| shown.uid() == pod.uid()) {
            job.shown = None;
        }
        let (state, scheduled) = (pod::state(pod), pod::is_scheduled(pod));
        let seen = Timeline {
            pod_created_at: at.clone(),
            pod_scheduled_at: at.clone().filter(|_| scheduled),
            pod_ready_at: at.filter(|_| state == PodState::Ready),
            ..Timeline::default()
        };
        job.seen = job.seen.merged(&seen);
        let pod_uid = pod.uid().unwrap_or_default();
        let known = job.failed.as_ref().is_some_and(|(failed, _)| *failed == pod_uid);
        if matches!(state, PodState::Failed { .. }) && !known {
            job.failed = Some((pod_uid, now));
        }
    }

    /// The watch delivered `job`: our own last write of it is of no more use when it is not newer.
    pub fn delivered(&self, job: &FocusJob) {
        let uid = job.meta().uid.clone().unwrap_or_default();
        if let Some(remembered) = self.lock().get_mut(&uid)
            && remembered.written.as_ref().is_some_and(|written| revision(written) <= revision(job))
        {
            remembered.written = None;
        }
    }

    /// The newer of the watch's `job` and our own last write of it.
    pub fn freshest(&self, job: &Arc<FocusJob>) -> Arc<FocusJob> {
        let uid = job.meta().uid.clone().unwrap_or_default();
        match self.of(&uid).written {
            Some(written) if revision(&written) > revision(job) => written,
            _ => job.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        // A memory only: what a panicking thread left in it is corrected by the next look.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions of one resource in one API server grow; one that is no number is older than all.
fn revision(job: &FocusJob) -> u64 {
    job.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}
