//! The phases of a job as bars over one time axis, so that what ran side by side is seen side by side. Pure.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;

use crate::api::FocusJob;
use crate::api::job_view;
use crate::api::timeline::seconds_between;
use crate::plugin::screen::{Screen, Tone, seconds};

/// Columns of a phase's name.
const NAME: usize = 10;
/// Columns of its seconds.
const SECONDS: usize = 17;
/// Fewest and most columns of the bars.
const BARS: std::ops::RangeInclusive<usize> = 10..=72;
/// A terminal narrower than this shows the seconds alone.
const NARROW: usize = 2 + NAME + 1 + *BARS.start() + SECONDS;
/// Columns that are taken where there is no terminal.
const NO_TERMINAL: usize = 80;

/// One phase of a job's life.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// `configure`, `pod`, `queue`, `consumer` or `total`.
    pub name: &'static str,
    /// When it began; None: it has not.
    pub from: Option<Timestamp>,
    /// When it ended; for a phase that lasts, now or the job's end.
    pub to: Option<Timestamp>,
    /// How it stands.
    pub progress: Progress,
}

/// How a phase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not begun.
    Ahead,
    /// It lasts.
    Open,
    /// It was not over when the job ended, or was taken away.
    Abandoned,
    /// Over.
    Done,
}

impl Phase {
    /// How long it took, or has taken so far, s.
    pub fn seconds(&self) -> Option<f64> {
        Some(seconds_between(self.from?, self.to?))
    }
}

/// The phases of `job` as they stand at `now`.
pub fn phases(job: &FocusJob, now: Timestamp) -> Vec<Phase> {
    let timeline = job.status.as_ref().map(|status| status.timeline.clone()).unwrap_or_default();
    let waits = job_view::waiting(job).is_some();
    let end = timeline.finished_at.as_ref().map(|at| at.0);
    let phase = |(name, from, to): (_, &Option<_>, &Option<_>)| {
        let at = |milestone: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>| {
            milestone.as_ref().map(|at| at.0)
        };
        let (from, to) = (at(from), at(to));
        let (to, progress) = match (from, to) {
            (None, _) => (None, Progress::Ahead),
            (Some(_), Some(to)) => (Some(to), Progress::Done),
            (Some(from), None) if waits => (Some(now.max(from)), Progress::Open),
            (Some(from), None) => (Some(end.unwrap_or(now).max(from)), Progress::Abandoned),
        };
        Phase { name, from, to, progress }
    };
    timeline.phases().map(phase).into()
}

/// The phases as lines: name, bar, seconds. Empty when none has begun.
pub fn draw(phases: &[Phase], screen: &Screen) -> String {
    let begun = || phases.iter().filter_map(|p| Some((p.from?, p.to?)));
    let (Some(start), Some(end)) = (begun().map(|(from, _)| from).min(), begun().map(|(_, to)| to).max())
    else {
        return String::new();
    };
    let width = screen.width.map_or(NO_TERMINAL, usize::from);
    let cells = (width.saturating_sub(2 + NAME + 1 + SECONDS)).clamp(*BARS.start(), *BARS.end());
    let cells = if width < NARROW { 0 } else { cells };
    let span = seconds_between(start, end);
    let mut text = String::new();
    for phase in phases {
        let share = |at: Timestamp| if span > 0.0 { seconds_between(start, at) / span } else { 0.0 };
        let bar = match (phase.from, phase.to) {
            (Some(from), Some(to)) => bar(share(from), share(to), phase.progress, cells, screen.unicode),
            _ => String::new(),
        };
        let gap = " ".repeat(cells.saturating_sub(bar.chars().count()));
        let bar = screen.paint(&bar, tone(phase));
        let _ = writeln!(text, "  {:NAME$} {bar}{gap}{}", phase.name, spent(phase));
    }
    if cells > 0 {
        let axis = format!("{} s", seconds(span));
        let _ = writeln!(text, "  {:NAME$} 0 s{axis:>1$}", "", cells.saturating_sub(3));
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

fn tone(phase: &Phase) -> Tone {
    match (phase.progress, phase.name) {
        (Progress::Done, "total") => Tone::Plain,
        (Progress::Done, _) => Tone::Good,
        (Progress::Open, _) => Tone::Waiting,
        (Progress::Abandoned, _) => Tone::Bad,
        (Progress::Ahead, _) => Tone::Dim,
    }
}

fn spent(phase: &Phase) -> String {
    let number = phase.seconds().map(seconds).unwrap_or_else(|| "-".to_owned());
    match phase.progress {
        Progress::Done => format!("{number:>8} s"),
        Progress::Open => format!("{number:>8} s so far"),
        Progress::Abandoned => format!("{number:>8} s, never"),
        Progress::Ahead => format!("{number:>8}"),
    }
}

/// A bar from `from` to `to`, both shares of `cells`; at least an eighth of a cell (ASCII: one cell) is seen.
fn bar(from: f64, to: f64, progress: Progress, cells: usize, unicode: bool) -> String {
    let first = ((from * cells as f64) as usize).min(cells.saturating_sub(1));
    if cells == 0 {
        return String::new();
    }
    let blank = " ".repeat(first);
    if progress != Progress::Done || !unicode {
        let sign = match (progress, unicode) {
            (Progress::Done, _) => "=",
            (_, false) => "-",
            (_, true) => "░",
        };
        let last = ((to * cells as f64).round() as usize).clamp(first + 1, cells);
        return blank + &sign.repeat(last - first);
    }
    let eighths = ((to * cells as f64 * 8.0).round() as usize).clamp(first * 8 + 1, cells * 8) - first * 8;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    blank + &"█".repeat(eighths / 8) + part
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::api::conditions::CONSUMER_READY;
    use crate::api::focusjob::JobPhase;
    use crate::api::job_view::tests::job;
    use crate::api::timeline::{Timeline, micro};
    use crate::plugin::screen::tests::plain;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn with(phase: JobPhase, timeline: Timeline) -> FocusJob {
        let mut job = job(Some(phase), &[(CONSUMER_READY, phase == JobPhase::Ready, "NoConsumer")]);
        job.status.as_mut().unwrap().timeline = timeline;
        job
    }

    fn ready() -> Timeline {
        let at = |ms| Some(micro(at(ms)));
        Timeline {
            configured_at: at(0),
            accepted_at: at(100),
            pod_created_at: at(150),
            pod_scheduled_at: at(200),
            pod_ready_at: at(1000),
            queue_ready_at: at(200),
            consumer_ready_at: at(300),
            ready_at: at(1000),
            finished_at: None,
        }
    }

    #[test]
    fn what_ran_side_by_side_is_seen_side_by_side() {
        let phases = phases(&with(JobPhase::Ready, ready()), at(99_000));
        let drawn = draw(&phases, &plain(Some(70)));
        let expected = "  configure  ████                                       0.100 s
  pod            ████████████████████████████████████   0.900 s
  queue          ████                                   0.100 s
  consumer           ████                               0.100 s
  total      ████████████████████████████████████████   1.000 s
             0 s                              1.000 s
";
        assert_eq!(drawn, expected, "\n{drawn}");
    }

    #[test]
    fn a_phase_that_lasts_reaches_to_now_and_says_so() {
        let timeline = Timeline { consumer_ready_at: None, ready_at: None, pod_ready_at: None, ..ready() };
        let phases = phases(&with(JobPhase::Starting, timeline), at(2_200));
        assert_eq!(phases[3].progress, Progress::Open);
        assert_eq!((phases[3].seconds(), phases[1].seconds()), (Some(2.0), Some(2.1)));
        let drawn = draw(&phases, &Screen { unicode: false, ..plain(Some(70)) });
        assert!(drawn.contains("2.000 s so far") && drawn.is_ascii(), "\n{drawn}");
        let bars: Vec<&str> = drawn.lines().map(|line| line[13..].split("  ").next().unwrap()).collect();
        assert!(bars[0].starts_with("==") && bars[1].trim().starts_with("--"), "\n{drawn}");
    }

    #[test]
    fn a_phase_that_the_job_did_not_live_to_see_ends_with_it() {
        let finished = Some(micro(at(5_000)));
        let timeline = Timeline { consumer_ready_at: None, ready_at: None, finished_at: finished, ..ready() };
        let phases = phases(&with(JobPhase::Failed, timeline), at(99_000));
        assert_eq!((phases[3].progress, phases[3].seconds()), (Progress::Abandoned, Some(4.8)));
        assert!(draw(&phases, &plain(None)).contains("4.800 s, never"));
    }

    #[test]
    fn narrow_terminals_and_no_length_at_all() {
        let ready = phases(&with(JobPhase::Ready, ready()), at(0));
        for width in 1..200 {
            let drawn = draw(&ready, &plain(Some(width)));
            let longest = drawn.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= usize::from(width).max(2 + NAME + 1 + SECONDS), "{width}:\n{drawn}");
            assert_eq!(drawn.contains('█'), usize::from(width) >= NARROW, "{width}:\n{drawn}");
        }
        let none = phases(&with(JobPhase::Pending, Timeline::default()), at(0));
        assert_eq!(draw(&none, &plain(Some(80))), "");
        let first = Timeline { configured_at: Some(micro(at(7))), ..Timeline::default() };
        let drawn = draw(&phases(&with(JobPhase::Pending, first), at(7)), &plain(Some(80)));
        assert!(drawn.contains("configure  ░") && drawn.contains("0.000 s so far"), "\n{drawn}");
    }

    #[test]
    fn a_bar_is_always_seen_and_never_longer_than_its_place() {
        for cells in [1, 2, 10, 72] {
            for (from, to) in [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.999, 1.0), (0.5, 0.5001)] {
                for progress in [Progress::Done, Progress::Open] {
                    for unicode in [true, false] {
                        let bar = bar(from, to, progress, cells, unicode);
                        assert!(bar.chars().count() <= cells && !bar.trim().is_empty(), "{bar:?}");
                    }
                }
            }
        }
    }
}
