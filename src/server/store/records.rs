//! What the watch tells of jobs, on its way to the database.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;

use super::metrics::StoreMetrics;
use super::outbox::{Lost, Outbox, Pending};
use super::snapshot::Snapshot;
use crate::api::FocusJob;

/// What is known of each FocusJob, and what of it is not written yet.
pub struct Records {
    inner: Mutex<Inner>,
    metrics: StoreMetrics,
    /// Wakes the writer.
    pub wake: Notify,
}

#[derive(Default)]
struct Inner {
    seen: HashMap<String, Snapshot>,
    outbox: Outbox,
    /// Those that are being written.
    writing: HashSet<String>,
}

impl Records {
    /// None yet.
    pub fn new(metrics: StoreMetrics) -> Self {
        Self { inner: Mutex::default(), metrics, wake: Notify::new() }
    }

    /// The watch tells of `job`.
    pub fn saw(&self, job: &FocusJob) {
        let snapshot = Snapshot::of(job, Timestamp::now());
        let mut inner = self.lock();
        if inner.seen.get(&snapshot.id).is_some_and(|seen| snapshot.says_the_same(seen)) {
            return;
        }
        inner.seen.insert(snapshot.id.clone(), snapshot.clone());
        let lost = inner.outbox.change(snapshot, Instant::now());
        self.changed(&inner, one(lost));
    }

    /// The watch tells that `job` has been deleted.
    pub fn gone(&self, job: &FocusJob) {
        let now = Timestamp::now();
        let last = Snapshot::of(job, now).deleted(now);
        let mut inner = self.lock();
        inner.seen.remove(&last.id);
        let lost = inner.outbox.change(last, Instant::now());
        self.changed(&inner, one(lost));
    }

    /// The watch has read a complete list. Every job in it is written again, for much may have happened unseen;
    /// a job that is not in it any more has been deleted.
    pub fn resync(&self, listed: &[Arc<FocusJob>]) {
        let now = Timestamp::now();
        let fresh: Vec<Snapshot> = listed.iter().map(|job| Snapshot::of(job, now)).collect();
        let ids: HashSet<&str> = fresh.iter().map(|snapshot| snapshot.id.as_str()).collect();
        let mut inner = self.lock();
        let gone: Vec<Snapshot> = inner
            .seen
            .extract_if(|id, _| !ids.contains(id.as_str()))
            .map(|(_, last)| last.deleted(now))
            .collect();
        for snapshot in &fresh {
            inner.seen.insert(snapshot.id.clone(), snapshot.clone());
        }
        for snapshot in fresh.into_iter().chain(gone) {
            let lost = inner.outbox.change(snapshot, Instant::now());
            self.changed(&inner, one(lost));
        }
    }

    /// Has the record `id`, of a job that was never made, removed.
    pub fn discard(&self, id: &str) {
        let mut inner = self.lock();
        let lost = inner.outbox.discard(id, Instant::now());
        self.changed(&inner, one(lost));
    }

    /// Whether the watch tells of the job of record `id`, or has told of its end and that is not written yet.
    pub fn sees(&self, id: &str) -> bool {
        let inner = self.lock();
        inner.seen.contains_key(id) || inner.outbox.has(id) || inner.writing.contains(id)
    }

    /// Takes out the first `most` jobs with something to write that is due at `now`.
    pub fn take(&self, most: usize, now: Instant) -> Vec<(String, Pending)> {
        let mut inner = self.lock();
        let taken = inner.outbox.take(most, now);
        inner.writing.extend(taken.iter().map(|(id, _)| id.clone()));
        self.waiting(&inner);
        taken
    }

    /// What was taken of the job of record `id` is written.
    pub fn written(&self, id: &str) {
        let mut inner = self.lock();
        inner.writing.remove(id);
        self.waiting(&inner);
    }

    /// When the next job is due to be written.
    pub fn next_due(&self) -> Option<Instant> {
        self.lock().outbox.next_due()
    }

    /// Puts back what could not be written; `refused`: although the database was reached.
    pub fn put_back(&self, id: &str, pending: Pending, refused: bool) {
        let mut inner = self.lock();
        inner.writing.remove(id);
        let lost = inner.outbox.put_back(id, pending, refused, Instant::now());
        self.changed(&inner, lost);
    }

    fn changed(&self, inner: &Inner, lost: Option<(Lost, usize)>) {
        if let Some((cause, count)) = lost {
            self.metrics.lost(cause, u64::try_from(count).unwrap_or(u64::MAX));
        }
        self.waiting(inner);
        self.wake.notify_one();
    }

    /// What is being written is not in the database yet.
    fn waiting(&self, inner: &Inner) {
        let jobs = inner.outbox.len() + inner.writing.len();
        self.metrics.waiting.set(i64::try_from(jobs).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn one(lost: Option<Lost>) -> Option<(Lost, usize)> {
    lost.map(|cause| (cause, 1))
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::server::store::outbox::LINGER;
    use crate::server::store::snapshot::DELETED;
    use crate::server::store::snapshot::tests::job;

    fn records() -> Records {
        Records::new(StoreMetrics::new(&Registry::new()).expect("fresh registry"))
    }

    fn written(records: &Records) -> Vec<(String, Vec<String>)> {
        let states = |p: &Pending| p.changes.iter().map(|s| s.state.state.clone()).collect();
        records
            .take(9, Instant::now() + LINGER)
            .iter()
            .map(|(id, pending)| (id.clone(), states(pending)))
            .collect()
    }

    #[test]
    fn news_are_written_once_and_a_list_writes_all_again() {
        let records = records();
        records.saw(&job());
        records.saw(&job());
        let wanted = vec![("fibre/18-1".to_owned(), vec!["Pending".to_owned()])];
        assert_eq!(written(&records), wanted);
        records.saw(&job());
        assert!(written(&records).is_empty());
        records.resync(&[Arc::new(job())]);
        assert_eq!(written(&records), wanted);
    }

    #[test]
    fn a_job_that_a_list_lacks_has_been_deleted() {
        let records = records();
        records.saw(&job());
        assert!(records.sees("fibre/18-1"));
        records.resync(&[]);
        let states = vec!["Pending".to_owned(), DELETED.to_owned()];
        assert!(records.sees("fibre/18-1"), "its end is not written");
        assert_eq!(written(&records), [("fibre/18-1".to_owned(), states)]);
        assert!(records.sees("fibre/18-1"), "its end is being written");
        records.written("fibre/18-1");
        assert!(!records.sees("fibre/18-1"));
        records.resync(&[]);
        assert!(written(&records).is_empty());
    }

    #[test]
    fn a_deleted_job_s_last_words_are_written() {
        let records = records();
        records.saw(&job());
        assert_eq!(written(&records).len(), 1);
        records.gone(&job());
        assert_eq!(written(&records), [("fibre/18-1".to_owned(), vec![DELETED.to_owned()])]);
    }
}
