//! One job, with all that is known of it. Pure.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::bars;
use super::events::{self, EventView};
use super::table::{self, Long, Text};
use crate::api::focusjob::{FocusJobStatus, JobPhase, ViewType};
use crate::api::job_view::{self, JobDetails};
use crate::api::timeline::seconds_between;
use crate::api::{FocusJob, FocusJobSpec};
use crate::plugin::screen::{Screen, Tone, age, seconds};

/// What is known of a job: what `GET /jobs/{job_id}` of the Focus Server says, and more.
#[derive(Clone, Debug, Serialize)]
pub struct JobReport {
    /// The namespace.
    pub namespace: String,
    /// What the Focus Server says of it.
    #[serde(flatten)]
    pub details: JobDetails,
    /// Since when it has waited (RFC 3339, microseconds); null when it does not.
    pub waiting_since: Option<String>,
    /// The analyzer; null: none yet.
    pub analyzer: Option<Analyzer>,
    /// The queue; null: none yet.
    pub queue: Option<Queue>,
    /// The Events of job and pod, the oldest first; null: they could not be read.
    pub events: Option<Vec<EventView>>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// The analyzer of a job.
#[derive(Clone, Debug, Serialize)]
pub struct Analyzer {
    /// Name of the current pod.
    pub pod: String,
    /// Its node.
    pub node: Option<String>,
    /// How many pods came before it.
    pub restarts: i32,
    /// How many of them failed in a row.
    pub failures: i32,
    /// `Cold` or `Warm`.
    pub start: &'static str,
}

/// The queue of a job.
#[derive(Clone, Debug, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Consumers attached to it, as last seen.
    pub consumers: i32,
}

impl JobReport {
    /// What `job` says; `events` are None when they could not be read, and `notes` tell why.
    pub fn new(job: &FocusJob, events: Option<Vec<EventView>>, notes: Vec<String>) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let analyzer = status.analyzer.map(|analyzer| Analyzer {
            pod: analyzer.pod_name,
            node: analyzer.node,
            restarts: analyzer.restarts,
            failures: analyzer.failures,
            start: analyzer.start.as_str(),
        });
        Self {
            namespace: job.namespace().unwrap_or_default(),
            details: job_view::details(job),
            waiting_since: job_view::waiting_since(job).map(|at| format!("{at:.6}")),
            analyzer,
            queue: status.queue.map(|queue| Queue { name: queue.name, consumers: queue.consumers }),
            events,
            notes,
        }
    }
}

/// How a state is coloured.
pub fn tone(job: &FocusJob) -> Tone {
    match job_view::state(job) {
        JobPhase::Ready => Tone::Good,
        JobPhase::Degraded | JobPhase::Failed => Tone::Bad,
        JobPhase::Pending | JobPhase::Starting => match job_view::waiting(job) {
            Some(waiting) if job_view::is_concern(&waiting) => Tone::Bad,
            _ => Tone::Waiting,
        },
        JobPhase::Suspended | JobPhase::Finished | JobPhase::Terminating => Tone::Dim,
    }
}

/// Everything of `report`, which is of `job`, as text.
pub fn draw(
    job: &FocusJob,
    report: &JobReport,
    now: Timestamp,
    screen: &Screen,
    most_events: usize,
) -> String {
    let mut text = head(job, report, now, screen);
    let drawn = bars::draw(&bars::phases(job, now), screen);
    if !drawn.is_empty() {
        section(&mut text, screen, "Phases", &drawn);
    }
    if !report.details.conditions.is_empty() {
        section(&mut text, screen, "Conditions", &conditions(report, now, screen));
    }
    let parts = parts(report, screen);
    if !parts.is_empty() {
        section(&mut text, screen, "Parts", &parts);
    }
    match report.events.as_deref() {
        None => {}
        Some([]) => section(&mut text, screen, "Events", "  none (they are kept for an hour)\n"),
        Some(all) => section(&mut text, screen, "Events", &events::draw(all, most_events, now, screen)),
    }
    text
}

fn section(text: &mut String, screen: &Screen, title: &str, body: &str) {
    let _ = write!(text, "\n{}\n{body}", screen.paint(title, Tone::Title));
}

fn head(job: &FocusJob, report: &JobReport, now: Timestamp, screen: &Screen) -> String {
    let state = screen.paint(&report.details.summary.state, tone(job));
    let name = format!("FocusJob {}/{}", report.namespace, job.name_any());
    let mut text = format!("{}  {state}\n", screen.paint(&name, Tone::Title));
    let _ = writeln!(text, "  {}", screen.wrap(&screen.clean(&report.details.explanation), 2));
    if let Some(since) = job_view::waiting_since(job) {
        let so_far = age(seconds_between(since, now));
        let words = format!("It has waited for {so_far}, since {since:.3}.");
        let _ = writeln!(text, "  {}", screen.wrap(&words, 2));
    }
    let mut facts = view(&job.spec);
    facts.push(format!("pool {}", job.spec.pool));
    if let Some(total) = report.details.summary.total_seconds {
        facts.push(format!("ready after {} s", seconds(total)));
    }
    if let Some(created) = job.creation_timestamp() {
        facts.push(format!("age {}", age(seconds_between(created.0, now))));
    }
    let _ = writeln!(text, "  {}", screen.wrap(&screen.clean(&facts.join(", ")), 2));
    text
}

/// The view in a few words.
pub fn view(spec: &FocusJobSpec) -> Vec<String> {
    let name = match spec.view_type {
        ViewType::MultiChannel => "MultiChannel",
        ViewType::SingleChannel => "SingleChannel",
        ViewType::Waterfall => "Waterfall",
    };
    let mut words = vec![name.to_owned(), format!("channels {}-{}", spec.channels.min, spec.channels.max)];
    if let Some(range) = spec.frequency_range {
        words.push(format!("{}-{} Hz", range.min, range.max));
    }
    words.push(format!("nfft {}", spec.nfft_selection));
    if spec.start_time.is_some() {
        words.push("historic".to_owned());
    }
    words
}

fn conditions(report: &JobReport, now: Timestamp, screen: &Screen) -> String {
    let rows = report.details.conditions.iter().map(|c| {
        let tone = match (c.status.as_str(), c.type_.as_str()) {
            (_, "Finished") => Tone::Plain,
            ("True", _) => Tone::Good,
            _ => Tone::Waiting,
        };
        let since = c.since.parse().map(|since| age(seconds_between(since, now))).unwrap_or_default();
        vec![
            c.type_.clone().into(),
            Text::new(&c.status, tone),
            c.reason.clone().into(),
            since.into(),
            c.message.clone().into(),
        ]
    });
    table::draw(screen, 2, &["TYPE", "STATUS", "REASON", "FOR", "MESSAGE"], rows.collect(), Long::Wrap)
}

fn parts(report: &JobReport, screen: &Screen) -> String {
    let mut text = String::new();
    if let Some(analyzer) = &report.analyzer {
        let node =
            analyzer.node.as_ref().map_or_else(|| "on no node yet".to_owned(), |n| format!("on node {n}"));
        let mut words = format!(
            "pod {} {node}, {} start, restarts {}",
            analyzer.pod,
            analyzer.start.to_ascii_lowercase(),
            analyzer.restarts
        );
        if analyzer.failures > 0 {
            let _ = write!(words, ", {} failed in a row", analyzer.failures);
        }
        let _ = writeln!(text, "  analyzer  {}", screen.wrap(&screen.clean(&words), 12));
    }
    if let Some(Queue { name, consumers }) = &report.queue {
        let of = if *consumers == 1 { "consumer" } else { "consumers" };
        let words = format!("{name}, {consumers} {of}");
        let _ = writeln!(text, "  queue     {}", screen.wrap(&screen.clean(&words), 12));
    }
    text
}

/// When each milestone was reached.
pub fn milestones(report: &JobReport, screen: &Screen) -> String {
    let mut text = String::new();
    if !report.details.timeline.is_empty() {
        let mut all: Vec<_> = report.details.timeline.iter().map(|(name, at)| (at, name)).collect();
        all.sort();
        let lines: String = all.iter().map(|(at, name)| format!("  {name:16} {at}\n")).collect();
        section(&mut text, screen, "Milestones", &lines);
    }
    text
}

/// How the exit code of `status JOB` tells where the job stands.
pub fn exit_code(job: &FocusJob) -> u8 {
    match job_view::state(job) {
        JobPhase::Ready | JobPhase::Finished | JobPhase::Suspended | JobPhase::Terminating => 0,
        JobPhase::Pending | JobPhase::Starting | JobPhase::Degraded => 3,
        JobPhase::Failed => 4,
    }
}

/// The job's status, or an empty one.
pub fn status(job: &FocusJob) -> FocusJobStatus {
    job.status.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::api::conditions::{ANALYZER_READY, CONSUMER_READY, FINISHED, QUEUE_READY};
    use crate::api::job_view::tests::job;
    use crate::plugin::screen::tests::plain;

    fn waiting() -> FocusJob {
        let mut job = job(
            Some(JobPhase::Starting),
            &[
                (ANALYZER_READY, true, "Ready"),
                (QUEUE_READY, true, "Ready"),
                (CONSUMER_READY, false, "DeadlineExceeded"),
            ],
        );
        job.metadata.namespace = Some("fibre".to_owned());
        let status = job.status.as_mut().unwrap();
        let changes = json!({
            "analyzer": {"podName": "18-3-0a1b2c3d-1", "node": "n1", "restarts": 1, "failures": 1, "start": "Cold"},
            "queue": {"name": "focus.fibre.18-3.uid", "consumers": 0},
            "timeline": {"configuredAt": "1970-01-01T00:00:00.000000Z", "acceptedAt": "1970-01-01T00:00:00.010000Z",
                         "queueReadyAt": "1970-01-01T00:00:00.020000Z"}
        });
        let changed: FocusJobStatus = serde_json::from_value(changes).unwrap();
        (status.analyzer, status.queue, status.timeline) =
            (changed.analyzer, changed.queue, changed.timeline);
        job
    }

    #[test]
    fn a_job_that_waits_says_for_what_and_since_when() {
        let job = waiting();
        let report = JobReport::new(&job, Some(Vec::new()), Vec::new());
        let now = Timestamp::from_second(42).unwrap();
        let text = draw(&job, &report, now, &plain(Some(100)), 10);
        for words in [
            "FocusJob fibre/18-3  Starting",
            "The job waits for its consumer: so it is (DeadlineExceeded).",
            "It has waited for 41s, since 1970-01-01T00:00:00.020Z.",
            "MultiChannel, channels 1-8, 0-500 Hz, nfft 1024, pool default",
            "so far",
            "ConsumerReady  False",
            "pod 18-3-0a1b2c3d-1 on node n1, cold start, restarts 1, 1 failed in a row",
            "focus.fibre.18-3.uid, 0 consumers",
            "none (they are kept for an hour)",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert_eq!(exit_code(&job), 3);
        assert_eq!(tone(&job), Tone::Bad);
    }

    #[test]
    fn what_could_not_be_read_is_left_out() {
        let job = waiting();
        let report = JobReport::new(&job, None, vec!["why".to_owned()]);
        let text = draw(&job, &report, Timestamp::UNIX_EPOCH, &plain(None), 10);
        assert!(!text.contains("Events"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["events"], &json["notes"][0]), (&json!(null), &json!("why")));
        assert_eq!(
            (&json["namespace"], &json["job_id"], &json["state"]),
            (&json!("fibre"), &json!("18-3"), &json!("Starting"))
        );
        assert_eq!(json["waiting_for"]["reason"], "DeadlineExceeded");
        assert_eq!(json["waiting_since"], "1970-01-01T00:00:00.020000Z");
        assert_eq!((&json["analyzer"]["restarts"], &json["queue"]["consumers"]), (&json!(1), &json!(0)));
    }

    #[test]
    fn codes_and_colours_of_each_state() {
        for (phase, code, expected) in [
            (JobPhase::Pending, 3, Tone::Waiting),
            (JobPhase::Starting, 3, Tone::Waiting),
            (JobPhase::Ready, 0, Tone::Good),
            (JobPhase::Degraded, 3, Tone::Bad),
            (JobPhase::Suspended, 0, Tone::Dim),
            (JobPhase::Finished, 0, Tone::Dim),
            (JobPhase::Failed, 4, Tone::Bad),
            (JobPhase::Terminating, 0, Tone::Dim),
        ] {
            let job = job(Some(phase), &[(FINISHED, false, "Running")]);
            assert_eq!((exit_code(&job), tone(&job)), (code, expected), "{phase:?}");
        }
    }
}
