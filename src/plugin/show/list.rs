//! A table of jobs: what is awaited first, the slowest of the ready ones next, what is over last. Pure.

use std::cmp::Reverse;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::job::{Analyzer, JobReport, Queue, status, tone, view};
use super::table::{self, Long, Text};
use crate::api::FocusJob;
use crate::api::conditions::{self, FINISHED};
use crate::api::focusjob::JobPhase;
use crate::api::job_view::{self, JobSummary};
use crate::api::timeline::seconds_between;
use crate::plugin::screen::{Screen, age, seconds};

/// Terminals narrower than this show neither the seconds of the single phases nor reasons in words.
const NARROW: u16 = 100;

/// A job of a list: what `GET /jobs` of the Focus Server says, and more.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The namespace.
    pub namespace: String,
    /// What the Focus Server says of it.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Since when it has waited (RFC 3339, microseconds); null when it does not.
    pub waiting_since: Option<String>,
    /// The analyzer; null: none yet.
    pub analyzer: Option<Analyzer>,
    /// The queue; null: none yet.
    pub queue: Option<Queue>,
}

impl Listed {
    /// `job` in a list.
    pub fn new(job: &FocusJob) -> Self {
        let JobReport { namespace, waiting_since, analyzer, queue, .. } =
            JobReport::new(job, None, Vec::new());
        Self { namespace, summary: job_view::summary(job), waiting_since, analyzer, queue }
    }
}

/// A job's place in a list, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Something is wrong, or was lost.
    Trouble,
    /// Something is under way.
    UnderWay,
    /// Given up.
    Failed,
    /// All is there.
    Ready,
    /// Over, or taken away.
    Over,
}

fn urgency(job: &FocusJob) -> Urgency {
    match job_view::state(job) {
        JobPhase::Pending | JobPhase::Starting | JobPhase::Degraded => match job_view::waiting(job) {
            Some(waiting) if job_view::is_concern(&waiting) => Urgency::Trouble,
            _ => Urgency::UnderWay,
        },
        JobPhase::Failed => Urgency::Failed,
        JobPhase::Ready => Urgency::Ready,
        JobPhase::Suspended | JobPhase::Finished | JobPhase::Terminating => Urgency::Over,
    }
}

/// Puts what is awaited first, the longest wait at the top; then failed jobs, the newest first; then ready jobs, the
/// slowest first; then what is over.
pub fn sort(jobs: &mut [FocusJob]) {
    jobs.sort_by_cached_key(|job| {
        let urgency = urgency(job);
        let times = status(job).timeline;
        let micros = |at: Timestamp| at.as_microsecond();
        let order = match urgency {
            Urgency::Trouble | Urgency::UnderWay => job_view::waiting_since(job).map_or(i64::MAX, micros),
            Urgency::Ready => -(status(job).phase_seconds.total.unwrap_or(0.0) * 1e6) as i64,
            Urgency::Failed | Urgency::Over => -times.finished_at.map_or(0, |at| micros(at.0)),
        };
        (urgency, order, Reverse(job.creation_timestamp().map(|at| at.0)), job.namespace(), job.name_any())
    });
}

/// How a list is shown.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Whether the namespace is a column.
    pub namespace: bool,
    /// Whether all that is known of each job is shown.
    pub wide: bool,
}

/// The jobs as a table, in the order given.
pub fn draw(jobs: &[FocusJob], columns: Columns, now: Timestamp, screen: &Screen) -> String {
    let narrow = screen.width.is_some_and(|width| width < NARROW) && !columns.wide;
    let mut header = vec!["NAME", "STATE", "WAITING-FOR", "SINCE"];
    if columns.namespace {
        header.insert(0, "NAMESPACE");
    }
    if !narrow {
        header.extend(["CONFIGURE", "POD", "QUEUE", "CONSUMER"]);
    }
    header.extend(["TOTAL", "AGE"]);
    if columns.wide {
        header.extend(["VIEW", "POOL", "START", "NODE", "RESTARTS", "CONSUMERS"]);
    }
    if !narrow {
        header.push("WHY");
    }
    let rows = jobs.iter().map(|job| row(job, columns, narrow, now)).collect();
    table::draw(screen, 0, &header, rows, Long::Cut)
}

fn row(job: &FocusJob, columns: Columns, narrow: bool, now: Timestamp) -> Vec<Text> {
    let status = status(job);
    let (waiting, why) = awaited(job);
    let ago = |at: Option<Timestamp>| at.map(|at| age(seconds_between(at, now))).unwrap_or_default();
    let mut row: Vec<Text> = Vec::new();
    if columns.namespace {
        row.push(job.namespace().unwrap_or_default().into());
    }
    row.push(job.name_any().into());
    row.push(Text::new(job_view::state(job).as_str(), tone(job)));
    row.push(waiting.into());
    row.push(ago(job_view::waiting_since(job)).into());
    let phases = status.phase_seconds.named();
    let shown = if narrow { &phases[4..] } else { &phases[..] };
    row.extend(shown.iter().map(|(_, s)| Text::from(s.map(seconds).unwrap_or_default())));
    row.push(ago(job.creation_timestamp().map(|at| at.0)).into());
    if columns.wide {
        let analyzer = status.analyzer.as_ref();
        row.push(view(&job.spec).join(" ").into());
        row.push(job.spec.pool.clone().into());
        row.push(analyzer.map(|a| a.start.as_str()).unwrap_or_default().into());
        row.push(analyzer.and_then(|a| a.node.clone()).unwrap_or_default().into());
        row.push(analyzer.map(|a| a.restarts.to_string()).unwrap_or_default().into());
        row.push(status.queue.map(|q| q.consumers.to_string()).unwrap_or_default().into());
    }
    if !narrow {
        row.push(why.into());
    }
    row
}

/// What a job waits for, and why, or why it is over.
pub fn awaited(job: &FocusJob) -> (String, String) {
    if let Some(waiting) = job_view::waiting(job) {
        return (format!("{}: {}", waiting.phase, waiting.reason), waiting.message);
    }
    let list = status(job).conditions;
    let end = conditions::find(&list, FINISHED).filter(|c| c.status == "True");
    (String::new(), end.map(|c| format!("{}: {}", c.reason, c.message)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::api::conditions::{CONSUMER_READY, READY};
    use crate::api::job_view::tests::job;
    use crate::api::timeline::micro;
    use crate::plugin::screen::tests::plain;

    fn named(name: &str, mut job: FocusJob) -> FocusJob {
        job.metadata.name = Some(name.to_owned());
        job.metadata.namespace = Some("fibre".to_owned());
        job
    }

    fn waits(name: &str, reason: &str, since: i64) -> FocusJob {
        let mut job = named(name, job(Some(JobPhase::Starting), &[(CONSUMER_READY, false, reason)]));
        let at = Timestamp::from_second(since).unwrap();
        job.status.as_mut().unwrap().timeline.queue_ready_at = Some(micro(at));
        job
    }

    fn ready(name: &str, total: f64) -> FocusJob {
        let mut job = named(name, job(Some(JobPhase::Ready), &[(READY, true, "Ready")]));
        job.status.as_mut().unwrap().phase_seconds.total = Some(total);
        job
    }

    #[test]
    fn what_is_awaited_comes_first_and_the_slowest_of_the_ready_next() {
        let over = named("over", job(Some(JobPhase::Finished), &[(FINISHED, true, "IdleTimeout")]));
        let failed = named("failed", job(Some(JobPhase::Failed), &[(FINISHED, true, "CrashLoop")]));
        let mut jobs = vec![
            over,
            ready("fast", 0.5),
            waits("young", "NoConsumer", 50),
            ready("slow", 9.0),
            failed,
            waits("late", "DeadlineExceeded", 60),
            waits("old", "NoConsumer", 10),
        ];
        sort(&mut jobs);
        let names: Vec<String> = jobs.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["late", "old", "young", "failed", "slow", "fast", "over"]);
    }

    #[test]
    fn the_columns_fit_the_terminal() {
        let jobs = [waits("18-1795486283888", "DeadlineExceeded", 0), ready("fast", 0.5)];
        let now = Timestamp::from_second(75).unwrap();
        let plainly = Columns { namespace: true, wide: false };
        for width in [60, 80, 99, 100, 140, 200] {
            let drawn = draw(&jobs, plainly, now, &plain(Some(width)));
            let longest = drawn.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= usize::from(width) && drawn.lines().count() == 3, "{width}:\n{drawn}");
            assert_eq!(drawn.contains("WHY"), width >= NARROW, "{width}:\n{drawn}");
        }
        let drawn = draw(&jobs, plainly, now, &plain(None));
        let expected = "\
NAMESPACE  NAME              STATE     WAITING-FOR                 SINCE  CONFIGURE  POD  QUEUE  CONSUMER  TOTAL  AGE  WHY
fibre      18-1795486283888  Starting  consumer: DeadlineExceeded  75s                                                 so it is
fibre      fast              Ready                                                                         0.500
";
        assert_eq!(drawn, expected, "\n{drawn}");
        let wide = draw(&jobs, Columns { namespace: false, wide: true }, now, &plain(None));
        assert!(wide.contains("MultiChannel channels 1-8 0-500 Hz nfft 1024  default"), "\n{wide}");
    }
}
