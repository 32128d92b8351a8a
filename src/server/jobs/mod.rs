//! All jobs of the namespace that the server knows, and the consumer of each that should have one. `verdict` is pure.

mod verdict;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::consumer::{self, Shared};
use super::end;
use super::job::{Awaited, Expected, Job, REPLICA, Stage};
use super::metrics::Dropped;
use super::replicas::Place;
use super::security;
use crate::api::names::{self, COMPLETED, DRAIN, EndRequest};
use crate::api::{FocusJob, conditions};

pub use verdict::{explain, holds_window, over};

/// How long a job that this server made is believed in although a list does not have it: the list may be older.
const UNSEEN: Duration = Duration::from_secs(60);

/// How long the lines of a job that has finished are kept: whoever polls sees the last of them too.
const LINGER: Duration = Duration::from_secs(10);

/// The registry.
pub struct Jobs {
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
    changes: watch::Sender<()>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    expected: HashMap<String, Expected>,
}

struct Entry {
    job: Arc<Job>,
    object: Arc<FocusJob>,
    task: Option<CancellationToken>,
    /// What takes the last lines of a job that has finished.
    drain: Option<CancellationToken>,
    seen: bool,
    entered: Instant,
}

impl Jobs {
    /// An empty registry; `stop` ends all consumers.
    pub fn new(shared: Arc<Shared>, stop: CancellationToken) -> Self {
        Self { shared, inner: Mutex::default(), changes: watch::channel(()).0, stop }
    }

    /// Tells that some job has changed, come or gone.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// All jobs, as last seen.
    pub fn all(&self) -> Vec<Arc<FocusJob>> {
        self.lock().entries.values().map(|entry| Arc::clone(&entry.object)).collect()
    }

    /// Announces a job that this server is about to make, for the watch may tell of it before the API server
    /// has answered.
    pub fn expect(&self, name: &str, expected: Expected) {
        self.lock().expected.insert(name.to_owned(), expected);
    }

    /// Takes an announcement back.
    pub fn unexpect(&self, name: &str) {
        self.lock().expected.remove(name);
    }

    /// Enters a job that this server has just made, and had announced.
    pub fn made(&self, object: FocusJob) {
        let mut inner = self.lock();
        let known = inner.entries.get(&object.name_any());
        if known.is_none_or(|entry| Some(&entry.job.uid) != object.uid().as_ref()) {
            self.enter(&mut inner, Arc::new(object), false);
        }
    }

    /// Takes in what the watch tells of a job.
    pub fn apply(&self, object: Arc<FocusJob>) {
        let mut inner = self.lock();
        match inner.entries.get_mut(&object.name_any()) {
            Some(entry) if Some(&entry.job.uid) == object.uid().as_ref() => {
                let queue_ready = |job: &FocusJob| condition_is_true(job, conditions::QUEUE_READY);
                if queue_ready(&object) && !queue_ready(&entry.object) {
                    entry.job.poke.notify_one();
                }
                entry.job.saw(&object);
                entry.object = object;
                entry.seen = true;
                self.drive(entry);
            }
            _ => self.enter(&mut inner, object, true),
        }
        self.changes.send_replace(());
    }

    fn enter(&self, inner: &mut Inner, object: Arc<FocusJob>, seen: bool) {
        let job = Arc::new(Job::new(&object, inner.expected.remove(&object.name_any())));
        if let Some(old) = inner.entries.remove(&job.name) {
            end_entry(&old, Awaited::new("deleted", "Replaced", "another job has taken this name"));
        }
        let mut entry = Entry { job, object, task: None, drain: None, seen, entered: Instant::now() };
        self.drive(&mut entry);
        inner.entries.insert(entry.job.name.clone(), entry);
    }

    /// A replica has come or gone: consumers of other replicas' jobs stop, those of jobs that are now ours start.
    pub fn reassign(&self) {
        self.lock().entries.values_mut().for_each(|entry| self.drive(entry));
    }

    /// Where the consumer of the job of this id is; None when there is no such job.
    pub fn place(&self, id: &str) -> Option<Place> {
        self.lock().entries.get(id).map(|entry| self.place_of(&entry.object))
    }

    fn place_of(&self, object: &FocusJob) -> Place {
        let bound = object.annotations().get(names::SERVER).map(String::as_str);
        self.shared.replicas.place(bound, &object.uid().unwrap_or_default())
    }

    /// Starts or stops the consumer of `entry`, as its object and the other replicas demand.
    fn drive(&self, entry: &mut Entry) {
        let _about = entry.job.log.clone().entered();
        let elsewhere = match self.place_of(&entry.object) {
            Place::Here => None,
            Place::There(_) => Some("another replica of the server has the job's consumer"),
            Place::Nowhere => Some("this replica of the server has not yet joined the others"),
        };
        match (over(&entry.object), &entry.task) {
            (None, task) if elsewhere.is_some() => {
                if let Some(task) = task {
                    info!("another replica takes over the consumer");
                    task.cancel();
                }
                entry.task = None;
                entry.stop_drain();
                let message = elsewhere.unwrap_or_default();
                entry.job.stop(Stage::Waiting(Awaited::new(REPLICA, "AnotherReplica", message)));
            }
            (None, None) => {
                // A job that comes from another replica was read there.
                entry.job.touch();
                let token = self.stop.child_token();
                let starting = Awaited::new("queue", "Starting", "the consumer is being made");
                entry.job.set_stage(Stage::Waiting(starting), &token);
                tokio::spawn(consumer::run(Arc::clone(&self.shared), Arc::clone(&entry.job), token.clone()));
                entry.task = Some(token);
            }
            (None, Some(_)) => {}
            (Some(awaited), _) => {
                if entry.drain.is_some() && awaited.phase == "finished" {
                    return;
                }
                entry.stop_drain();
                let task = entry.task.take();
                if let Some(task) = task.clone().filter(|_| lines_may_come(&awaited)) {
                    let by = self.stop.child_token();
                    entry.drain = Some(by.clone());
                    tokio::spawn(drain(Arc::clone(&entry.job), awaited, task, by));
                    return;
                }
                if let Some(task) = &task {
                    info!(reason = awaited.reason, "the consumer is taken away");
                    task.cancel();
                }
                match (awaited.phase, task) {
                    ("finished", Some(_)) => {
                        entry.job.finish(awaited);
                        tokio::spawn(forget(Arc::clone(&entry.job)));
                    }
                    ("finished", None) => entry.job.finish(awaited),
                    _ => entry.job.stop(Stage::Ended(awaited)),
                }
            }
        }
    }

    /// Forgets the job of this name and uid.
    pub fn remove(&self, name: &str, uid: Option<&str>) {
        let mut inner = self.lock();
        if inner.entries.get(name).is_some_and(|entry| Some(entry.job.uid.as_str()) == uid)
            && let Some(entry) = inner.entries.remove(name)
        {
            end_entry(&entry, deleted());
        }
        self.changes.send_replace(());
    }

    /// Takes in a complete list: a job that is not in it is gone, unless it was made a moment ago.
    pub fn resync(&self, listed: &[Arc<FocusJob>]) {
        listed.iter().for_each(|object| self.apply(Arc::clone(object)));
        let names: BTreeSet<String> = listed.iter().map(|object| object.name_any()).collect();
        self.lock().entries.retain(|name, entry| {
            let fresh = !entry.seen && entry.entered.elapsed() < UNSEEN;
            let keep = fresh || names.contains(name);
            if !keep {
                end_entry(entry, deleted());
            }
            keep
        });
        self.changes.send_replace(());
    }

    /// The job of this id, and the object as last seen.
    pub fn get(&self, id: &str) -> Option<(Arc<Job>, Arc<FocusJob>)> {
        let inner = self.lock();
        let entry = inner.entries.get(id)?;
        Some((Arc::clone(&entry.job), Arc::clone(&entry.object)))
    }

    /// The jobs that are not over.
    pub fn live(&self) -> Vec<Arc<Job>> {
        let inner = self.lock();
        let live = inner.entries.values().filter(|entry| over(&entry.object).is_none());
        live.map(|entry| Arc::clone(&entry.job)).collect()
    }

    /// Windows of the live jobs.
    pub fn windows(&self) -> BTreeSet<u16> {
        self.windows_where(|_| true)
    }

    /// Windows of the live jobs of the caller of this name.
    pub fn windows_of(&self, caller: &str) -> BTreeSet<u16> {
        self.windows_where(|object| security::owner(object) == Some(caller))
    }

    fn windows_where(&self, chosen: impl Fn(&FocusJob) -> bool) -> BTreeSet<u16> {
        self.lock()
            .entries
            .values()
            .filter(|entry| chosen(&entry.object) && holds_window(&entry.object))
            .filter_map(|entry| entry.object.labels().get(names::WINDOW_LABEL)?.parse().ok())
            .collect()
    }

    /// Ends the jobs that nobody reads, and holds the lines of those that get none to their part of the memory. To be
    /// called each second.
    pub fn sweep(&self) {
        let inner = self.lock();
        for entry in inner.entries.values() {
            let evicted = entry.job.with_feed(|feed| feed.lines.make_room()).unwrap_or(0);
            self.shared.metrics.drop_lines(Dropped::Memory, evicted);
            let idle =
                Duration::from_secs(u64::try_from(entry.object.spec.idle_timeout_seconds).unwrap_or(0));
            let (Some(task), false) = (&entry.task, idle.is_zero()) else { continue };
            let asked = entry.job.end_asked.load(std::sync::atomic::Ordering::Relaxed);
            if !asked && entry.job.unread_for() > idle {
                let message = format!("nobody has read the job for {} s", idle.as_secs());
                entry.job.log.in_scope(|| info!(message, "ending the job"));
                let request = EndRequest { reason: "IdleTimeout".to_owned(), message, failed: false };
                let (shared, job) = (Arc::clone(&self.shared), Arc::clone(&entry.job));
                tokio::spawn(end::end(shared, job, request, task.clone()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn stop_drain(&mut self) {
        if let Some(drain) = self.drain.take() {
            drain.cancel();
        }
    }
}

/// Whether the broker may still have lines of a job that has come to its end: the operator sees the analyzer's pod
/// end before the last of them are here, and keeps the queue for a while.
fn lines_may_come(end: &Awaited) -> bool {
    end.phase == "finished" && end.reason == COMPLETED
}

/// Takes the last lines of a job that has finished, for as long as its queue is kept, then ends it, unless `by` is
/// cancelled; `task` feeds it.
async fn drain(job: Arc<Job>, end: Awaited, task: CancellationToken, by: CancellationToken) {
    let _ = by.run_until_cancelled(tokio::time::timeout(DRAIN, job.drained())).await;
    job.log.in_scope(|| info!(reason = end.reason, "the consumer is taken away"));
    task.cancel();
    job.set_stage(Stage::Ended(end), &by);
    if !by.is_cancelled() {
        forget(job).await;
    }
}

/// Lets go of a finished job's lines, once its readers have had the time to come for the last of them.
async fn forget(job: Arc<Job>) {
    tokio::time::sleep(LINGER).await;
    job.forget();
}

fn end_entry(entry: &Entry, awaited: Awaited) {
    entry.drain.iter().chain(&entry.task).for_each(CancellationToken::cancel);
    entry.job.stop(Stage::Ended(awaited));
}

fn deleted() -> Awaited {
    Awaited::new("deleted", "Deleted", "the job has been deleted")
}

fn condition_is_true(object: &FocusJob, type_: &str) -> bool {
    object.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, type_))
}
