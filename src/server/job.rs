//! One job as the server holds it: where its consumer stands, and its lines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kube::ResourceExt;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::lines::{Limits, Lines, MAX_JOB_BYTES, Pushed};
use super::stream::fan::Fan;
use crate::api::focusjob::ViewType;
use crate::api::{AnalyzerSource, FocusJob, FocusJobSpec, conditions, names, view};
use crate::telemetry::traces::{JobTrace, Steps};
use crate::wire;

/// The phase of a job whose consumer is, or is to be, in another replica.
pub const REPLICA: &str = "replica";
/// How often a job that has finished is looked at for the last of its lines.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What a job waits for, or why it will not have a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// What is awaited: `pool`, `operator`, `broker`, `replica`, `queue`, `consumer`; or the end that the job has come to:
    /// `header`, `suspended`, `finished`, `deleted`; or `none` for a job that does not exist.
    pub phase: &'static str,
    /// CamelCase cause.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
}

impl Awaited {
    /// `phase` is awaited because of `reason`.
    pub fn new(phase: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { phase, reason: reason.into(), message: message.into() }
    }
}

/// Where the consumer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being made.
    Waiting(Awaited),
    /// The broker has confirmed it.
    Attached,
    /// There will be none, unless a suspended job is resumed.
    Ended(Awaited),
}

impl Stage {
    /// Why those who stream here get no more lines: there will be no consumer, or none in this replica.
    pub fn end(&self) -> Option<Awaited> {
        match self {
            Self::Ended(why) => Some(why.clone()),
            Self::Waiting(why) => Some(why.clone()).filter(|why| why.phase == REPLICA),
            Self::Attached => None,
        }
    }
}

/// A job's lines and what is known of them.
#[derive(Debug)]
pub struct Feed {
    /// The lines.
    pub lines: Lines,
    /// The last header, once checked.
    pub header: Option<wire::Header>,
    /// The analyzer's farewell.
    pub ended: Option<wire::End>,
    seen_line: bool,
}

/// What the server knows of a job that it is making.
pub struct Expected {
    /// When the request arrived.
    pub received: Instant,
    /// The source that the pool declares.
    pub source: AnalyzerSource,
}

/// One job.
pub struct Job {
    /// Its id.
    pub name: String,
    /// metadata.uid.
    pub uid: String,
    /// Its queue.
    pub queue: String,
    /// Its view.
    pub spec: FocusJobSpec,
    /// When its request arrived, if this server made it.
    pub received: Option<Instant>,
    /// Whether its queue had not been reported when the server first saw it.
    pub fresh: bool,
    /// Wakes the consumer's loop when something may have changed.
    pub poke: Notify,
    /// Whether the operator has been asked to end it.
    pub end_asked: AtomicBool,
    /// Takes the lines to those who stream them.
    pub fan: Arc<Fan>,
    /// The span in which the log tells of it.
    pub log: tracing::Span,
    steps: Option<Steps>,
    seen: SystemTime,
    attached: OnceLock<SystemTime>,
    source: OnceLock<AnalyzerSource>,
    stage: watch::Sender<Stage>,
    feed: Mutex<Option<Feed>>,
    last_read: Mutex<Instant>,
    had_consumer: AtomicBool,
    noted: Mutex<Noted>,
}

/// What of the server's is noted on a job, as last seen.
#[derive(Default)]
struct Noted {
    /// The replica that the job is bound to.
    replica: Option<String>,
    /// The source that it was made of.
    source: Option<AnalyzerSource>,
}

impl Noted {
    fn on(object: &FocusJob) -> Self {
        let notes = object.annotations();
        let source = notes.get(names::SOURCE).and_then(|text| AnalyzerSource::of_told(text));
        Self { replica: notes.get(names::SERVER).cloned(), source }
    }
}

impl Job {
    /// The job of `object`, with what is known of it if this server makes it.
    pub fn new(object: &FocusJob, expected: Option<Expected>) -> Self {
        let noted = Noted::on(object);
        let (received, source) =
            expected.map_or((None, noted.source.clone()), |e| (Some(e.received), Some(e.source)));
        let list = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let starting = Awaited::new("queue", "Starting", "the consumer is being made");
        let trace = JobTrace::of(object);
        let was_ready = object.status.as_ref().is_some_and(|status| status.timeline.ready_at.is_some());
        Self {
            log: trace.log(),
            // A job that is taken up again has had its steps.
            steps: (!was_ready).then(|| {
                let consumer = trace.phase("consumer");
                Steps::new(trace, consumer)
            }),
            seen: SystemTime::now(),
            attached: OnceLock::new(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            queue: names::queue_name(object),
            spec: object.spec.clone(),
            received,
            fresh: !conditions::is_true(list, conditions::QUEUE_READY),
            poke: Notify::new(),
            end_asked: AtomicBool::new(object.annotations().contains_key(names::END)),
            fan: Arc::default(),
            source: source.map_or_else(OnceLock::new, OnceLock::from),
            stage: watch::channel(Stage::Waiting(starting)).0,
            feed: Mutex::new(None),
            last_read: Mutex::new(Instant::now()),
            had_consumer: AtomicBool::new(false),
            noted: Mutex::new(noted),
        }
    }

    /// Takes in what is noted on the job now.
    pub fn saw(&self, object: &FocusJob) {
        *lock(&self.noted) = Noted::on(object);
    }

    /// Whether the job, as last seen, is bound to `replica`.
    pub fn is_bound_to(&self, replica: &str) -> bool {
        lock(&self.noted).replica.as_deref() == Some(replica)
    }

    /// Whether the job, as last seen, tells the source that it was made of.
    pub fn tells_source(&self) -> bool {
        lock(&self.noted).source.is_some()
    }

    /// The source that its pool declared when the job was made, or else when it was first seen.
    pub fn source(&self) -> Option<&AnalyzerSource> {
        self.source.get()
    }

    /// The source, taken from `declared` if it is not known yet.
    pub fn source_or(&self, declared: AnalyzerSource) -> &AnalyzerSource {
        self.source.get_or_init(|| declared)
    }

    /// Where the consumer stands, now and whenever that changes.
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Where the consumer stands as soon as it is there, can no longer come, or is to be in another replica; else
    /// after `wait`, or when `stop` comes.
    pub async fn settled(&self, wait: Duration, stop: &CancellationToken) -> Stage {
        let mut stages = self.stages();
        let settled = |stage: &Stage| match stage {
            Stage::Waiting(awaited) => awaited.phase == REPLICA,
            Stage::Attached | Stage::Ended(_) => true,
        };
        tokio::select! {
            _ = stages.wait_for(settled) => {}
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
        self.stage.borrow().clone()
    }

    /// Sets where the consumer stands, unless `by`, the task that says so, has been cancelled.
    pub fn set_stage(&self, stage: Stage, by: &CancellationToken) {
        self.stage.send_if_modified(|current| {
            let change = !by.is_cancelled() && *current != stage;
            if change {
                self.fan.end(stage.end());
                *current = stage;
            }
            change
        });
    }

    /// Sets where the consumer stands, and lets go of its lines. The task that feeds the job must have been
    /// cancelled before.
    pub fn stop(&self, stage: Stage) {
        let end = stage.end();
        self.stage.send_replace(stage);
        *lock(&self.feed) = None;
        self.fan.end(end);
    }

    /// Comes when no more lines can: the analyzer has taken leave, or the queue is gone.
    pub async fn drained(&self) {
        let mut look = tokio::time::interval(DRAIN_LOOK);
        let farewell = || self.with_feed(|feed| feed.ended.is_some()).unwrap_or(true);
        while *self.stage.borrow() == Stage::Attached && !farewell() {
            look.tick().await;
        }
    }

    /// The job has finished; its lines stay for a while. The task that feeds it must have been cancelled before.
    pub fn finish(&self, awaited: Awaited) {
        self.stage.send_replace(Stage::Ended(awaited.clone()));
        self.fan.end(Some(awaited));
    }

    /// Lets go of the lines, unless the job has come back to life.
    pub fn forget(&self) {
        if matches!(&*self.stage.borrow(), Stage::Ended(_)) {
            *lock(&self.feed) = None;
        }
    }

    /// Makes room for lines of `source`, of `budget`, unless `by` has been cancelled.
    pub fn open(&self, source: &AnalyzerSource, budget: &Arc<Budget>, by: &CancellationToken) {
        let mut feed = lock(&self.feed);
        if !by.is_cancelled() {
            let lines = Lines::new(limits(&self.spec, source), budget);
            *feed = Some(Feed { lines, header: None, ended: None, seen_line: false });
        }
    }

    /// `f` of the feed, or None when there is none. `f` must be quick: the consumer waits for it.
    pub fn with_feed<T>(&self, f: impl FnOnce(&mut Feed) -> T) -> Option<T> {
        lock(&self.feed).as_mut().map(f)
    }

    /// Keeps `line` and gives it to those who stream; also says whether it is the first. None when there is no feed.
    pub fn push(&self, line: wire::Line, redelivered: bool) -> Option<(Pushed, bool)> {
        let mut feed = lock(&self.feed);
        let feed = feed.as_mut()?;
        let pushed = feed.push(line, redelivered);
        if let ((Pushed::Kept { .. }, _), Some(line)) = (&pushed, feed.lines.last()) {
            self.fan.push(line);
        }
        Some(pushed)
    }

    /// `f` of the newest `count` lines that are kept, the oldest of them first, while no other can come. `f` must be
    /// quick: the consumer waits for it.
    pub fn with_newest<T>(&self, count: usize, f: impl FnOnce(&[Arc<wire::Line>]) -> T) -> T {
        let feed = lock(&self.feed);
        f(&feed.as_ref().map_or_else(Vec::new, |feed| feed.lines.newest(count)))
    }

    /// Somebody reads the job.
    pub fn touch(&self) {
        *lock(&self.last_read) = Instant::now();
    }

    /// How long nobody has read the job; a stream is read for as long as its reader is connected.
    pub fn unread_for(&self) -> Duration {
        if self.fan.readers() > 0 { Duration::ZERO } else { lock(&self.last_read).elapsed() }
    }

    /// The consumer is attached. True the first time: for the time to the first consumer.
    pub fn first_consumer(&self) -> bool {
        let first = !self.had_consumer.swap(true, Ordering::Relaxed);
        if first {
            let _ = self.attached.set(SystemTime::now());
            self.step("subscribe", self.seen, None);
            let since = self.received.map(|received| SystemTime::now() - received.elapsed());
            self.step("metadata available", since.unwrap_or(self.seen), None);
        }
        first
    }

    /// The step `name`, which begins with the consumer, has ended, badly if there is a cause. The first time counts.
    pub fn step_of_consumer(&self, name: &'static str, failed: Option<&str>) {
        self.step(name, self.attached.get().copied().unwrap_or(self.seen), failed);
    }

    fn step(&self, name: &'static str, start: SystemTime, failed: Option<&str>) {
        if let Some(steps) = &self.steps {
            steps.once(name, start, failed);
        }
    }
}

impl Feed {
    /// Keeps `line`; also says whether it is the first.
    fn push(&mut self, line: wire::Line, redelivered: bool) -> (Pushed, bool) {
        let pushed = self.lines.push(line, redelivered);
        let kept = matches!(pushed, Pushed::Kept { .. });
        let first = kept && !self.seen_line;
        if kept {
            self.seen_line = true;
            // A new analyzer has taken the place of one that had said farewell.
            self.ended = None;
        }
        (pushed, first)
    }
}

/// Intensities of each line.
pub fn line_bytes(spec: &FocusJobSpec, source: &AnalyzerSource) -> usize {
    let per_channel = match spec.view_type {
        ViewType::Waterfall => 1,
        ViewType::MultiChannel | ViewType::SingleChannel => {
            view::frequencies(spec, source.sample_rate_hz).len()
        }
    };
    spec.channels.count() * per_channel
}

fn limits(spec: &FocusJobSpec, source: &AnalyzerSource) -> Limits {
    Limits {
        lines: usize::try_from(spec.display_info.height).unwrap_or(1).max(1),
        span_us: (view::display_seconds(spec, source.sample_rate_hz) * 1e6) as i64,
        bytes: MAX_JOB_BYTES,
        line_bytes: line_bytes(spec, source),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::tests::{source, spec};

    fn object(notes: &[(&str, &str)]) -> FocusJob {
        let mut object = FocusJob::new("5-1", spec(8));
        let notes = notes.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        object.annotations_mut().extend(notes);
        object
    }

    #[test]
    fn the_replica_that_counts_is_the_one_that_was_seen_last() {
        let job = Job::new(&object(&[(names::SERVER, "a")]), None);
        assert!(job.is_bound_to("a"));
        job.saw(&object(&[(names::SERVER, "b")]));
        assert!(job.is_bound_to("b") && !job.is_bound_to("a"), "it must be bound anew when it comes back");
    }

    #[test]
    fn a_job_is_read_by_the_source_that_it_was_made_of() {
        let told = source().told().expect("short");
        let job = Job::new(&object(&[(names::SOURCE, &told)]), None);
        let edited = AnalyzerSource { sample_rate_hz: 2000.0, ..source() };
        assert!((job.source_or(edited.clone()).sample_rate_hz - 1000.0).abs() < f64::EPSILON);
        assert!(job.tells_source());
        for object in [object(&[]), object(&[(names::SOURCE, "no source")])] {
            let job = Job::new(&object, None);
            assert_eq!((job.source(), job.tells_source()), (None, false));
            assert_eq!(job.source_or(edited.clone()), &edited);
        }
    }
}
