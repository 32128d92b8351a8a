//! Kubernetes Events: one for each step that a person would want told, published behind the reconciler's back so
//! that no job waits for them.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use crate::api::conditions::{self, ANALYZER_READY, CONSUMER_READY, FINISHED, QUEUE_READY, READY};
use crate::api::timeline::PhaseSeconds;
use crate::api::{FocusJob, FocusJobStatus};

/// How many Events may wait to be published; more are dropped and counted.
const BACKLOG: usize = 8192;
/// The longest note that the API takes, bytes.
const NOTE: usize = 1000;

/// What is told of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether a person should worry.
    pub warning: bool,
    /// CamelCase cause.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

/// Takes Events to be published.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(FocusJob, Told)>,
    metrics: Metrics,
}

impl Events {
    /// Starts to publish, until `stop`.
    pub fn start(client: Client, metrics: Metrics, stop: CancellationToken) -> Self {
        let (queue, told) = mpsc::channel(BACKLOG);
        let instance = std::env::var("POD_NAME").ok();
        let recorder = Recorder::new(client, Reporter { controller: "focus-operator".into(), instance });
        tokio::spawn(publish(recorder, told, metrics.clone(), stop));
        Self { queue, metrics }
    }

    /// Publishes what `new` says and `old` did not.
    pub fn tell(&self, job: &FocusJob, old: &FocusJobStatus, new: &FocusJobStatus) {
        for told in changes(old, new) {
            // Only what a reference to the job needs.
            let mut about = FocusJob::new("", job.spec.clone());
            about.metadata.name = job.meta().name.clone();
            about.metadata.namespace = job.meta().namespace.clone();
            about.metadata.uid = job.meta().uid.clone();
            if self.queue.try_send((about, told)).is_err() {
                self.metrics.events.with_label_values(&["dropped"]).inc();
            }
        }
    }
}

async fn publish(
    recorder: Recorder,
    mut told: mpsc::Receiver<(FocusJob, Told)>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! { next = told.recv() => next, () = stop.cancelled() => None };
        let Some((job, Told { warning, reason, note })) = next else { return };
        let type_ = if warning { EventType::Warning } else { EventType::Normal };
        let note: String = note.chars().take(NOTE).collect();
        let event = Event { type_, action: reason.clone(), reason, note: Some(note), secondary: None };
        let reference = job.object_ref(&());
        let sent =
            tokio::time::timeout(std::time::Duration::from_secs(5), recorder.publish(&event, &reference))
                .await;
        let outcome = if matches!(sent, Ok(Ok(()))) { "published" } else { "dropped" };
        metrics.events.with_label_values(&[outcome]).inc();
    }
}

/// What is to be told when a status changes from `old` to `new`. A job that comes up as it should is told of
/// once, when it is ready, with the time of each phase.
pub fn changes(old: &FocusJobStatus, new: &FocusJobStatus) -> Vec<Told> {
    if conditions::is_true(&new.conditions, FINISHED) {
        let ended = conditions::find(&new.conditions, FINISHED)
            .filter(|_| !conditions::is_true(&old.conditions, FINISHED));
        let failed = new.phase == Some(crate::api::focusjob::JobPhase::Failed);
        return ended.map(|c| told(failed, &c.reason, &c.message)).into_iter().collect();
    }
    let is_new = |type_: &str| {
        conditions::is_true(&new.conditions, type_) && !conditions::is_true(&old.conditions, type_)
    };
    if is_new(READY) {
        return vec![told(false, "Ready", &phases(&new.phase_seconds))];
    }
    let mut all: Vec<Told> = Vec::new();
    for type_ in [ANALYZER_READY, QUEUE_READY, CONSUMER_READY] {
        let Some(now) = conditions::find(&new.conditions, type_) else { continue };
        let before = conditions::find(&old.conditions, type_);
        let changed = before.is_none_or(|b| b.status != now.status || b.reason != now.reason);
        let quiet = ["Starting", "Declaring", "NoConsumer", "WaitingForQueue"].contains(&now.reason.as_str());
        if now.status == "True" && is_new(type_) && old.timeline.ready_at.is_some() {
            all.push(told(false, type_, &now.message));
        } else if now.status != "True" && changed && !quiet {
            all.push(told(now.reason != "Suspended", &now.reason, &now.message));
        }
    }
    all.dedup_by(|a, b| a.reason == b.reason);
    all
}

fn told(warning: bool, reason: &str, note: &str) -> Told {
    Told { warning, reason: reason.to_owned(), note: note.to_owned() }
}

fn phases(seconds: &PhaseSeconds) -> String {
    let parts: Vec<String> = seconds
        .named()
        .into_iter()
        .filter_map(|(phase, seconds)| seconds.map(|s| format!("{phase} {:.1} ms", s * 1e3)))
        .collect();
    format!("analyzer, queue and consumer are there: {}", parts.join(", "))
}
