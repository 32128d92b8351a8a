//! Kubernetes Events: one for each step that a person would want told, published behind the reconciler's back so
//! that no job waits for them.

use std::time::Duration;

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
/// How long an Event waits while very many jobs come up.
const GIVES_WAY: Duration = Duration::from_secs(2);
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

    /// Publishes what `new` says and `old` did not, and logs it.
    pub fn tell(&self, job: &FocusJob, old: &FocusJobStatus, new: &FocusJobStatus) {
        for told in changes(old, new) {
            if told.warning {
                tracing::warn!(reason = told.reason, "{}", told.note);
            } else {
                tracing::info!(reason = told.reason, "{}", told.note);
            }
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
        give_way(&metrics).await;
        let type_ = if warning { EventType::Warning } else { EventType::Normal };
        let note: String = note.chars().take(NOTE).collect();
        let event = Event { type_, action: reason.clone(), reason, note: Some(note), secondary: None };
        let reference = job.object_ref(&());
        let sent = tokio::time::timeout(Duration::from_secs(5), recorder.publish(&event, &reference)).await;
        let outcome = if matches!(sent, Ok(Ok(()))) { "published" } else { "dropped" };
        metrics.events.with_label_values(&[outcome]).inc();
    }
}

/// While very many jobs come up, their writes go first; but not for long.
async fn give_way(metrics: &Metrics) {
    let since = tokio::time::Instant::now();
    while metrics.crowded() && since.elapsed() < GIVES_WAY {
        tokio::time::sleep(Duration::from_millis(50)).await;
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
        let quiet = conditions::UNDER_WAY.contains(&now.reason.as_str());
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

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::api::conditions::Verdict;
    use crate::api::focusjob::JobPhase;
    use crate::api::timeline::{Timeline, micro};

    type Says = (&'static str, bool, &'static str);

    fn status(phase: JobPhase, says: &[Says]) -> FocusJobStatus {
        let verdicts: Vec<Verdict> =
            says.iter().map(|(type_, is, reason)| Verdict::new(type_, *is, *reason, "m")).collect();
        FocusJobStatus {
            phase: Some(phase),
            conditions: conditions::merge(&[], &verdicts, None, Timestamp::UNIX_EPOCH),
            ..FocusJobStatus::default()
        }
    }

    /// What is told, as (warning, reason).
    fn told(old: &FocusJobStatus, new: &FocusJobStatus) -> Vec<(bool, String)> {
        changes(old, new).into_iter().map(|told| (told.warning, told.reason)).collect()
    }

    fn was_ready(mut status: FocusJobStatus) -> FocusJobStatus {
        let at = Some(micro(Timestamp::UNIX_EPOCH));
        status.timeline = Timeline { ready_at: at, ..Timeline::default() };
        status
    }

    #[test]
    fn each_change_is_told_once() {
        use JobPhase::{Degraded, Failed, Finished, Ready, Starting, Suspended};
        let none = FocusJobStatus::default();
        let starting = status(
            Starting,
            &[
                (ANALYZER_READY, false, "Starting"),
                (QUEUE_READY, false, "Declaring"),
                (CONSUMER_READY, false, "WaitingForQueue"),
            ],
        );
        let half = status(
            Starting,
            &[
                (ANALYZER_READY, true, "Ready"),
                (QUEUE_READY, true, "Ready"),
                (CONSUMER_READY, false, "NoConsumer"),
            ],
        );
        let ready = was_ready(status(
            Ready,
            &[
                (ANALYZER_READY, true, "Ready"),
                (QUEUE_READY, true, "Ready"),
                (CONSUMER_READY, true, "Attached"),
                (READY, true, "Ready"),
            ],
        ));
        let lost = was_ready(status(
            Degraded,
            &[
                (ANALYZER_READY, false, "PodLost"),
                (QUEUE_READY, true, "Ready"),
                (CONSUMER_READY, false, "ConsumerLost"),
            ],
        ));
        let pod_back = was_ready(status(
            Degraded,
            &[
                (ANALYZER_READY, true, "Ready"),
                (QUEUE_READY, true, "Ready"),
                (CONSUMER_READY, false, "ConsumerLost"),
            ],
        ));
        let no_broker = status(
            Starting,
            &[
                (ANALYZER_READY, false, "Starting"),
                (QUEUE_READY, false, "BrokerUnreachable"),
                (CONSUMER_READY, false, "BrokerUnreachable"),
            ],
        );
        let suspended = status(
            Suspended,
            &[
                (ANALYZER_READY, false, "Suspended"),
                (QUEUE_READY, false, "Suspended"),
                (CONSUMER_READY, false, "Suspended"),
            ],
        );
        let failed = status(Failed, &[(ANALYZER_READY, false, "CrashLoop"), (FINISHED, true, "CrashLoop")]);
        let finished = status(Finished, &[(FINISHED, true, "IdleTimeout")]);
        type Case<'a> = (&'a str, &'a FocusJobStatus, &'a FocusJobStatus, &'a [(bool, &'a str)]);
        let cases: [Case; 13] = [
            ("a quiet start", &none, &starting, &[]),
            ("half of it", &starting, &half, &[]),
            ("ready", &half, &ready, &[(false, "Ready")]),
            ("ready at once", &none, &ready, &[(false, "Ready")]),
            ("unchanged", &ready, &ready, &[]),
            ("lost", &ready, &lost, &[(true, "PodLost"), (true, "ConsumerLost")]),
            ("still lost", &lost, &lost, &[]),
            ("one is back", &lost, &pod_back, &[(false, ANALYZER_READY)]),
            ("one cause, told once", &starting, &no_broker, &[(true, "BrokerUnreachable")]),
            ("suspended", &ready, &suspended, &[(false, "Suspended")]),
            ("failed", &ready, &failed, &[(true, "CrashLoop")]),
            ("finished", &ready, &finished, &[(false, "IdleTimeout")]),
            ("an end is told once", &finished, &finished, &[]),
        ];
        for (what, old, new, expected) in cases {
            let expected: Vec<(bool, String)> =
                expected.iter().map(|(warning, reason)| (*warning, (*reason).to_owned())).collect();
            assert_eq!(told(old, new), expected, "{what}");
        }
    }

    #[test]
    fn ready_is_told_with_the_time_of_each_phase() {
        let mut ready = status(JobPhase::Ready, &[(READY, true, "Ready")]);
        ready.phase_seconds = PhaseSeconds { pod: Some(0.75), total: Some(1.0), ..PhaseSeconds::default() };
        let told = changes(&FocusJobStatus::default(), &ready);
        assert_eq!(told[0].note, "analyzer, queue and consumer are there: pod 750.0 ms, total 1000.0 ms");
    }
}
