//! The lines of one job: the last seconds of the display, bounded in number and bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::{Budget, Share};
use crate::wire;

/// Most bytes of intensities that one job keeps.
pub const MAX_JOB_BYTES: usize = 256 << 20;

/// How many lines are kept, and of which size they must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Most lines.
    pub lines: usize,
    /// Longest time between the oldest and the newest line, µs.
    pub span_us: i64,
    /// Most bytes of intensities.
    pub bytes: usize,
    /// Intensities of each line: channels times frequencies.
    pub line_bytes: usize,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Kept. `missing` lines were lost on the way before it, `evicted` were dropped for want of memory.
    Kept {
        /// Lines between this and the last that never came.
        missing: u64,
        /// Lines of the display that the byte limit pushed out.
        evicted: u64,
    },
    /// Delivered a second time.
    Repeated,
    /// Not of the view's size, or without sensible levels.
    Malformed,
}

/// The ring.
#[derive(Debug)]
pub struct Lines {
    limits: Limits,
    ring: VecDeque<Arc<wire::Line>>,
    share: Share,
    /// Of the newest line that was kept: when it begins, and its number.
    last: Option<(i64, u64)>,
}

impl Lines {
    /// An empty ring, whose lines are of `budget`.
    pub fn new(limits: Limits, budget: &Arc<Budget>) -> Self {
        Self { limits, ring: VecDeque::new(), share: budget.share(), last: None }
    }

    /// Keeps `line` as the newest. `redelivered`: the broker may have delivered it before.
    pub fn push(&mut self, line: wire::Line, redelivered: bool) -> Pushed {
        if line.intensities.len() != self.limits.line_bytes
            || !line.db_min.is_finite()
            || !line.db_max.is_finite()
            || line.end_us < line.start_us
        {
            return Pushed::Malformed;
        }
        // A smaller index alone proves nothing: a new analyzer counts from 0 again.
        if redelivered && self.last.is_some_and(|last| (line.start_us, line.index) <= last) {
            return Pushed::Repeated;
        }
        // An index that goes back is a new analyzer, which counts from 0 again.
        let missing = match self.last {
            Some((_, last)) if line.index > last => line.index - last - 1,
            _ => 0,
        };
        self.last = Some((line.start_us, line.index));
        self.share.take(line.intensities.len());
        self.ring.push_back(Arc::new(line));
        Pushed::Kept { missing, evicted: self.trim() }
    }

    fn trim(&mut self) -> u64 {
        let newest = self.ring.back().map_or(0, |line| line.start_us);
        while let Some(oldest) = self.ring.front()
            && (self.ring.len() > self.limits.lines
                || newest.saturating_sub(oldest.start_us) > self.limits.span_us)
        {
            self.pop();
        }
        self.make_room()
    }

    /// Lets go of the oldest lines while there are too many bytes, of this job or of all; says of how many. The newest
    /// line is kept.
    pub fn make_room(&mut self) -> u64 {
        let mut evicted = 0;
        while self.ring.len() > 1 && (self.share.bytes() > self.limits.bytes || self.share.is_too_large()) {
            self.pop();
            evicted += 1;
        }
        evicted
    }

    fn pop(&mut self) {
        if let Some(line) = self.ring.pop_front() {
            self.share.give(line.intensities.len());
        }
    }

    /// The newest `count` lines, the oldest of them first.
    pub fn newest(&self, count: usize) -> Vec<Arc<wire::Line>> {
        self.ring.iter().skip(self.ring.len().saturating_sub(count)).cloned().collect()
    }

    /// The newest line.
    pub fn last(&self) -> Option<&Arc<wire::Line>> {
        self.ring.back()
    }

    /// How many lines are kept.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether no line is kept.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Lets go of every line.
    pub fn clear(&mut self) {
        self.ring = VecDeque::new();
        self.share.give(self.share.bytes());
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::budget::tests::budget;

    const LIMITS: Limits = Limits { lines: 4, span_us: 1_000_000, bytes: 1000, line_bytes: 10 };

    fn line(index: u64, start_us: i64) -> wire::Line {
        wire::Line {
            index,
            start_us,
            end_us: start_us + 10,
            db_min: -100.0,
            db_max: 0.0,
            intensities: vec![7; 10],
            dropped_total: 0,
        }
    }

    fn indices(lines: &Lines, count: usize) -> Vec<u64> {
        lines.newest(count).iter().map(|l| l.index).collect()
    }

    #[test]
    fn number_time_and_bytes_are_bounded() {
        for (limits, starts, kept) in [
            (LIMITS, vec![0, 1, 2, 3, 4, 5], vec![2, 3, 4, 5]),
            (LIMITS, vec![0, 500_000, 1_000_000], vec![0, 1, 2]),
            (LIMITS, vec![0, 500_000, 1_500_001], vec![2]),
            (Limits { bytes: 25, ..LIMITS }, vec![0, 1, 2], vec![1, 2]),
            (Limits { bytes: 5, ..LIMITS }, vec![0, 1, 2], vec![2]),
        ] {
            let mut lines = Lines::new(limits, &budget(1000));
            for (index, start) in starts.iter().enumerate() {
                assert!(matches!(lines.push(line(index as u64, *start), false), Pushed::Kept { .. }));
            }
            assert_eq!(indices(&lines, 100), kept, "{starts:?}");
        }
    }

    #[test]
    fn all_jobs_share_their_memory() {
        let budget = budget(60);
        let limits = Limits { lines: 100, ..LIMITS };
        let (mut first, mut second) = (Lines::new(limits, &budget), Lines::new(limits, &budget));
        let evicted = |lines: &mut Lines, index| match lines.push(line(index, index as i64), false) {
            Pushed::Kept { evicted, .. } => evicted,
            other => panic!("{other:?}"),
        };
        assert_eq!((0..6).map(|i| evicted(&mut first, i)).sum::<u64>(), 0);
        // The one that has less than its part is not the one that lets go.
        assert_eq!((0..3).map(|i| evicted(&mut second, i)).sum::<u64>(), 0);
        assert_eq!((first.len(), second.len()), (6, 3));
        assert_eq!(first.make_room(), 3);
        assert_eq!(evicted(&mut second, 3), 1);
        assert_eq!((first.len(), second.len()), (3, 3));
        drop(second);
        assert_eq!((6..9).map(|i| evicted(&mut first, i)).sum::<u64>(), 0);
        assert_eq!(first.len(), 6);
    }

    #[test]
    fn the_newest_come_oldest_first() {
        let mut lines = Lines::new(LIMITS, &budget(1000));
        for index in 0..4 {
            lines.push(line(index, index as i64), false);
        }
        assert_eq!(indices(&lines, 2), [2, 3]);
        assert_eq!(indices(&lines, 9), [0, 1, 2, 3]);
        lines.clear();
        assert!(lines.is_empty());
    }

    #[test]
    fn gaps_repeats_restarts_and_nonsense_are_told_apart() {
        let mut lines = Lines::new(Limits { bytes: 30, ..LIMITS }, &budget(1000));
        let kept = |missing, evicted| Pushed::Kept { missing, evicted };
        for (line, redelivered, wanted) in [
            (line(5, 0), false, kept(0, 0)),
            (line(6, 1), false, kept(0, 0)),
            (line(9, 2), false, kept(2, 0)),
            (line(9, 2), true, Pushed::Repeated),
            (line(10, 3), true, kept(0, 1)),
            (line(0, 4), false, kept(0, 1)),
            (line(10, 3), true, Pushed::Repeated),
            (line(0, 4), true, Pushed::Repeated),
            (line(1, 5), true, kept(0, 1)),
            // Another analyzer's, which no consumer had taken when the connection broke.
            (line(0, 6), true, kept(0, 1)),
            (wire::Line { intensities: vec![1; 9], ..line(1, 5) }, false, Pushed::Malformed),
            (wire::Line { db_max: f32::NAN, ..line(1, 5) }, false, Pushed::Malformed),
            (wire::Line { end_us: 0, ..line(1, 5) }, false, Pushed::Malformed),
        ] {
            assert_eq!(lines.push(line.clone(), redelivered), wanted, "{line:?}");
        }
    }
}
