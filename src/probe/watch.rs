//! What the watch of FocusJobs has delivered, and when it arrived here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::cluster::Cluster;
use super::report::Failure;
use crate::api::conditions::{self, FINISHED, READY};
use crate::api::{FocusJob, FocusJobStatus};

/// One job as the watch has shown it.
#[derive(Clone, Debug, Default)]
pub struct Sighting {
    uid: String,
    /// The newest status.
    pub status: Option<FocusJobStatus>,
    /// When a status with `timeline.consumerReadyAt` first arrived.
    pub consumer: Option<Instant>,
    /// When a status with the condition Ready first arrived.
    pub ready: Option<Instant>,
    /// When the job was seen to be gone.
    pub gone: Option<Instant>,
}

impl Sighting {
    fn take(&mut self, job: &FocusJob, now: Instant) {
        let uid = job.uid().unwrap_or_default();
        if self.uid != uid {
            *self = Self { uid, ..Self::default() };
        }
        let Some(status) = &job.status else { return };
        if status.timeline.consumer_ready_at.is_some() {
            self.consumer.get_or_insert(now);
        }
        if conditions::is_true(&status.conditions, READY) {
            self.ready.get_or_insert(now);
        }
        self.status = Some(status.clone());
    }

    /// Whether the job has ended.
    pub fn is_finished(&self) -> bool {
        self.status.as_ref().is_some_and(|s| conditions::is_true(&s.conditions, FINISHED))
    }

    /// Why the job `name` is not Ready: the reason and message of its conditions.
    pub fn failure(&self, name: &str) -> Failure {
        let Some(status) = self.status.as_ref().filter(|s| !s.conditions.is_empty()) else {
            return Failure::new(
                name,
                "NoStatus",
                "the operator has written no condition: see that it runs and watches the job's namespace",
            );
        };
        let finished = conditions::find(&status.conditions, FINISHED).filter(|c| c.status == "True");
        match finished.or_else(|| conditions::find(&status.conditions, READY)) {
            Some(c) => Failure::new(name, &c.reason, &c.message),
            None => Failure::new(name, "NoReadyCondition", "the status has no condition Ready"),
        }
    }
}

type Table = Arc<Mutex<HashMap<String, Sighting>>>;

/// A running watch of one namespace's FocusJobs; ends when dropped.
pub struct JobWatch {
    table: Table,
    changed: watch::Receiver<()>,
    task: AbortHandle,
}

impl Drop for JobWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl JobWatch {
    /// Watches the cluster's namespace; returns when the first list is there.
    ///
    /// # Errors
    /// When it is not there within 10 s, for example because the CRD is missing.
    pub async fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let events = watcher::watcher(cluster.api::<FocusJob>(), watcher::Config::default());
        let mut events = Box::pin(events);
        let table = Table::default();
        let mut known = HashSet::new();
        let what = format!("watching FocusJobs in namespace {}", cluster.namespace);
        timeout(Duration::from_secs(10), async {
            while let Some(event) = events.next().await {
                let event = event.with_context(|| what.clone())?;
                if !take(&table, &mut known, event) {
                    continue;
                }
                return Ok(());
            }
            anyhow::bail!("{what}: the watch ended")
        })
        .await
        .with_context(|| format!("{what}: no list came within 10 s"))??;
        let (sender, changed) = watch::channel(());
        let task = tokio::spawn(follow(events, table.clone(), known, sender)).abort_handle();
        Ok(Self { table, changed, task })
    }

    /// What is known of the job `name`.
    pub fn get(&self, name: &str) -> Option<Sighting> {
        locked(&self.table).get(name).cloned()
    }

    /// How many jobs of `names` fulfil `test`.
    pub fn count<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        test: impl Fn(&Sighting) -> bool,
    ) -> usize {
        let table = locked(&self.table);
        names.into_iter().filter(|name| table.get(*name).is_some_and(&test)).count()
    }

    /// Waits until `test` is true of this watch; false when `deadline` came first.
    pub async fn until(&self, deadline: Instant, test: impl Fn(&Self) -> bool) -> bool {
        let mut changed = self.changed.clone();
        loop {
            changed.mark_unchanged();
            if test(self) {
                return true;
            }
            if !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return test(self);
            }
        }
    }
}

async fn follow(
    events: impl Stream<Item = watcher::Result<Event<FocusJob>>> + Send,
    table: Table,
    mut known: HashSet<String>,
    sender: watch::Sender<()>,
) {
    let mut events = Box::pin(events.default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                take(&table, &mut known, event);
                sender.send_replace(());
            }
            Err(error) => tracing::warn!("the watch of FocusJobs was interrupted and goes on: {error}"),
        }
    }
}

/// Enters an event into the table; true when a list was completed.
fn take(table: &Table, known: &mut HashSet<String>, event: Event<FocusJob>) -> bool {
    let now = Instant::now();
    let mut table = locked(table);
    match event {
        Event::Init => known.clear(),
        Event::InitApply(job) => {
            known.insert(job.name_any());
            table.entry(job.name_any()).or_default().take(&job, now);
        }
        Event::InitDone => {
            for (_, sighting) in table.iter_mut().filter(|(name, _)| !known.contains(*name)) {
                sighting.gone.get_or_insert(now);
            }
            return true;
        }
        Event::Apply(job) => table.entry(job.name_any()).or_default().take(&job, now),
        Event::Delete(job) => {
            table.entry(job.name_any()).or_default().gone.get_or_insert(now);
        }
    }
    false
}

fn locked(table: &Table) -> MutexGuard<'_, HashMap<String, Sighting>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn job(name: &str, uid: &str, status: serde_json::Value) -> FocusJob {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "focus-operator.io/v1alpha1", "kind": "FocusJob",
            "metadata": {"name": name, "uid": uid},
            "spec": {"viewType": "Waterfall", "channels": {"min": 1, "max": 8}, "nfftSelection": 256},
            "status": status,
        }))
        .unwrap()
    }

    fn ready(status: &str, reason: &str) -> serde_json::Value {
        serde_json::json!({
            "conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "why",
                            "lastTransitionTime": "2030-01-01T00:00:00Z"}],
            "timeline": {"consumerReadyAt": "2030-01-01T00:00:00.000001Z"},
        })
    }

    #[test]
    fn first_times_stay() {
        let mut sighting = Sighting::default();
        let first = Instant::now();
        sighting.take(&job("a", "1", serde_json::json!({})), first);
        assert!(sighting.ready.is_none() && sighting.consumer.is_none());
        sighting.take(&job("a", "1", ready("True", "Ready")), first);
        sighting.take(&job("a", "1", ready("True", "Ready")), first + Duration::from_secs(1));
        assert_eq!((sighting.ready, sighting.consumer), (Some(first), Some(first)));
        sighting.take(&job("a", "2", serde_json::json!({})), first);
        assert_eq!(sighting.ready, None, "another job of the same name starts anew");
    }

    #[test]
    fn a_failure_names_the_condition() {
        for (status, reason) in
            [(serde_json::json!({}), "NoStatus"), (ready("False", "NoConsumer"), "NoConsumer")]
        {
            let mut sighting = Sighting::default();
            sighting.take(&job("a", "1", status), Instant::now());
            assert_eq!(sighting.failure("a").reason, reason);
        }
    }

    #[test]
    fn a_new_list_tells_what_is_gone() {
        let (table, mut known) = (Table::default(), HashSet::new());
        for event in [Event::Init, Event::InitApply(job("a", "1", ready("True", "Ready"))), Event::InitDone] {
            take(&table, &mut known, event);
        }
        take(&table, &mut known, Event::Apply(job("b", "2", serde_json::json!({}))));
        take(&table, &mut known, Event::Init);
        take(&table, &mut known, Event::InitApply(job("b", "2", serde_json::json!({}))));
        assert!(take(&table, &mut known, Event::InitDone));
        let table = locked(&table);
        assert!(table["a"].gone.is_some() && table["b"].gone.is_none());
    }
}
