//! Recordings of a folder, played from one time to another. Where there is a gap between them, the view goes on
//! after it at once: its samples and lines are counted without gaps, and only their times jump.

use std::ops::Range;
use std::path::PathBuf;

use super::hdf5::Recording;
use super::{Description, Rows, SourceError};
use crate::analyzer::geometry::Geometry;
use crate::api::AnalyzerSource;
use crate::recordings::{Index, Recorded};

/// Samples that are read from a file at once: 8 MiB as f32.
const BLOCK_SAMPLES: usize = 2 * 1024 * 1024;
/// Most times as fast as it happened.
const MAX_SPEED: f64 = 100.0;

/// A part of a recording that belongs to the view.
#[derive(Clone, Debug, PartialEq)]
struct Piece {
    path: PathBuf,
    /// Index of its first sample within the view.
    first: u64,
    /// Index of that sample within the file.
    from: u64,
    /// Samples.
    len: u64,
    /// Time of its first sample, µs since the Unix epoch.
    start_us: f64,
}

/// Pieces without a gap, and the lines whose windows lie within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    /// Index of its first sample within the view.
    first: u64,
    first_line: u64,
    lines: u64,
}

/// A past stretch of time, or several with gaps between them.
pub struct History {
    pieces: Vec<Piece>,
    stretches: Vec<Stretch>,
    /// How many times as fast as it happened it is played.
    pub speed: f64,
    rate_hz: f64,
    channels: Range<usize>,
    description: Description,
    /// The piece whose file is open.
    open: usize,
    recording: Recording,
    /// Index within the view of the first sample in memory, and the samples, time by time.
    block_first: u64,
    block: Vec<f32>,
}

impl History {
    /// What the declared folder has from `start_s` to `end_s`, seconds since the Unix epoch. Blocks on files.
    ///
    /// # Errors
    /// When the folder cannot be read, has nothing of that time that is as declared, or no whole window of it.
    pub fn open(
        declared: &AnalyzerSource,
        geometry: &Geometry,
        start_s: i64,
        end_s: i64,
    ) -> Result<Self, SourceError> {
        let uri = declared.past().unwrap_or_default();
        let (folder, speed) = parse(uri)?;
        let scan = Index::new(folder).scan().map_err(|error| SourceError::Unreadable {
            doing: "looking for recordings in",
            path: folder.to_owned(),
            why: error.to_string(),
        })?;
        for (path, why) in &scan.newly_unreadable {
            tracing::warn!(file = %path.display(), why, "left out: no recording that can be played");
        }
        let (start_us, end_us) = (start_s.saturating_mul(1_000_000), end_s.saturating_mul(1_000_000));
        let chosen = choose(&scan.recordings, declared, folder, start_us, end_us)?;
        let (pieces, stretches) = arrange(&chosen, geometry, start_us, end_us);
        let nfft = geometry.nfft;
        let Some(first) = pieces.first().filter(|_| stretches.iter().any(|stretch| stretch.lines > 0)) else {
            let samples = pieces.iter().map(|piece| piece.len).max().unwrap_or(0);
            return Err(SourceError::RecordingTooShort { path: folder.to_owned(), samples, nfft });
        };
        let recording = reopen(first)?;
        Ok(Self {
            description: Description { dtype: recording.dtype.clone(), text: recording.text.clone() },
            recording,
            pieces,
            stretches,
            speed,
            rate_hz: geometry.rate_hz,
            channels: geometry.channels.clone(),
            open: 0,
            block_first: 0,
            block: Vec::new(),
        })
    }

    /// What the first recording says of itself.
    pub fn description(&self) -> Description {
        self.description.clone()
    }

    /// First sample of line `index`, within the view; None after the last line.
    pub fn line_start(&self, index: u64, geometry: &Geometry) -> Option<u64> {
        let after = self.stretches.partition_point(|stretch| stretch.first_line <= index);
        let stretch = self.stretches.get(after.checked_sub(1)?)?;
        let within = index - stretch.first_line;
        (within < stretch.lines).then(|| stretch.first + geometry.line_start(within))
    }

    /// The time of a sample of the view, µs since the Unix epoch.
    pub fn time_us(&self, sample: u64) -> i64 {
        let piece = &self.pieces[self.piece_at(sample)];
        (piece.start_us + (sample - piece.first) as f64 / self.rate_hz * 1e6).round() as i64
    }

    /// Writes the view's channels from sample `first` of the view on.
    ///
    /// # Errors
    /// When a file cannot be read any more.
    pub fn read(&mut self, first: u64, rows: &mut Rows<'_>) -> Result<(), SourceError> {
        let (mut done, count, width) = (0, rows.columns.len(), self.channels.len());
        while done < count {
            let at = first + done as u64;
            let take = self.hold(at)?.min(count - done);
            let from = (at - self.block_first) as usize * width;
            let block = &self.block[from..from + take * width];
            super::replay::spread(block, width, &mut rows.part(done, done + take));
            done += take;
        }
        Ok(())
    }

    /// Has sample `at` in memory, and says how many are there from it on.
    fn hold(&mut self, at: u64) -> Result<usize, SourceError> {
        let width = self.channels.len();
        let held = |block: &[f32], first: u64| first + (block.len() / width) as u64;
        if at < self.block_first || at >= held(&self.block, self.block_first) {
            let index = self.piece_at(at);
            if index != self.open {
                self.recording = reopen(&self.pieces[index])?;
                self.open = index;
            }
            let piece = &self.pieces[index];
            let most = (BLOCK_SAMPLES / width.max(1)).max(64) as u64;
            let from = piece.from + (at - piece.first);
            let end = (from + most).min(piece.from + piece.len);
            self.block = self.recording.read(from..end, self.channels.clone())?;
            self.block_first = at;
        }
        Ok((held(&self.block, self.block_first) - at) as usize)
    }

    fn piece_at(&self, sample: u64) -> usize {
        self.pieces.partition_point(|piece| piece.first <= sample).saturating_sub(1)
    }
}

/// Folder and speed of `file:///path/?speed=4`.
fn parse(uri: &str) -> Result<(&str, f64), SourceError> {
    let bad_uri = |why: String| SourceError::BadUri { uri: uri.to_owned(), why };
    let (address, query) = uri.split_once('?').unwrap_or((uri, ""));
    let folder = address
        .strip_prefix("file://")
        .filter(|path| path.starts_with('/') && path.ends_with('/'))
        .ok_or_else(|| bad_uri("it is no folder, such as file:///recordings/".to_owned()))?;
    let mut speed = 1.0;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        speed = pair
            .strip_prefix("speed=")
            .and_then(|number| number.parse::<f64>().ok())
            .filter(|speed| *speed > 0.0 && *speed <= MAX_SPEED)
            .ok_or_else(|| bad_uri(format!("{pair:?} is not speed= and a number up to {MAX_SPEED}")))?;
    }
    Ok((folder, speed))
}

/// The recordings of that time which are as declared.
fn choose<'a>(
    recordings: &'a [Recorded],
    declared: &AnalyzerSource,
    folder: &str,
    start_us: i64,
    end_us: i64,
) -> Result<Vec<&'a Recorded>, SourceError> {
    let of_the_time = || recordings.iter().filter(|recorded| recorded.overlaps(start_us, end_us));
    let chosen: Vec<&Recorded> = of_the_time().filter(|recorded| recorded.fits(declared)).collect();
    if let (true, Some(other)) = (chosen.is_empty(), of_the_time().next()) {
        let path = other.path.display().to_string();
        super::replay::as_declared(&path, other.rate_hz, other.channels, declared)?;
    }
    if chosen.is_empty() {
        let (start, end) = (start_us / 1_000_000, end_us / 1_000_000);
        return Err(SourceError::NoRecording { folder: folder.to_owned(), start, end });
    }
    Ok(chosen)
}

/// The pieces between two times, and the stretches that they make. `chosen` are in the order of their starts. Pure.
fn arrange(
    chosen: &[&Recorded],
    geometry: &Geometry,
    start_us: i64,
    end_us: i64,
) -> (Vec<Piece>, Vec<Stretch>) {
    let rate = geometry.rate_hz;
    let (mut pieces, mut starts): (Vec<Piece>, Vec<u64>) = (Vec::new(), Vec::new());
    let (mut next, mut covered_us, mut last): (u64, i64, Option<&Recorded>) = (0, start_us, None);
    for recorded in chosen {
        // The first sample that is not before the view and was not in an earlier recording: to a half sample, for
        // times are rounded.
        let skipped = covered_us.saturating_sub(recorded.start_us) as f64 * 1e-6 * rate;
        let from = (skipped - 0.5).ceil().max(0.0) as u64;
        let until = (end_us.saturating_sub(recorded.start_us) as f64 * 1e-6 * rate).round().max(0.0) as u64;
        let len = until.min(recorded.samples).saturating_sub(from);
        if len == 0 {
            continue;
        }
        if last.is_none_or(|before| !before.is_followed_by(recorded)) {
            starts.push(next);
        }
        let piece_us = recorded.start_us as f64 + from as f64 / rate * 1e6;
        pieces.push(Piece { path: recorded.path.clone(), first: next, from, len, start_us: piece_us });
        next += len;
        covered_us = covered_us.max(recorded.end_us());
        if last.is_none_or(|before| recorded.end_us() >= before.end_us()) {
            last = Some(recorded);
        }
    }
    let ends = starts.iter().copied().skip(1).chain([next]);
    let mut first_line = 0;
    let stretches = starts.iter().zip(ends).map(|(first, end)| {
        let lines = lines_within(end - first, geometry);
        let stretch = Stretch { first: *first, first_line, lines };
        first_line += lines;
        stretch
    });
    let stretches = stretches.collect();
    (pieces, stretches)
}

/// How many lines have their windows within `samples`.
fn lines_within(samples: u64, geometry: &Geometry) -> u64 {
    let Some(room) = samples.checked_sub(geometry.nfft as u64) else { return 0 };
    let hop = geometry.lines_dt_s * geometry.rate_hz;
    let mut lines = (room as f64 / hop) as u64;
    // The quotient may be off by one, for starts are rounded.
    while geometry.line_start(lines) <= room {
        lines += 1;
    }
    while lines > 0 && geometry.line_start(lines - 1) > room {
        lines -= 1;
    }
    lines
}

fn reopen(piece: &Piece) -> Result<Recording, SourceError> {
    // The index takes no other names.
    Recording::open(piece.path.to_str().unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings/");
    /// 2026-01-01T00:00:00Z, s.
    const T: i64 = 1_767_225_600;

    fn declared(recordings: &str) -> AnalyzerSource {
        serde_json::from_value(serde_json::json!({
            "uri": "synthetic:", "recordings": recordings, "sampleRateHz": 100.0, "channels": 4, "dxMeters": 2.0
        }))
        .unwrap()
    }

    /// Windows of 128 samples, a line each 10 samples.
    fn geometry(nfft: i32) -> Geometry {
        let spec = serde_json::json!({"viewType": "SingleChannel", "channels": {"min": 2, "max": 2},
            "nfftSelection": nfft, "frequencyRange": {"min": 0, "max": 50}, "displayTimeAxisDuration": 10,
            "displayInfo": {"height": 100}});
        Geometry::new(&serde_json::from_value(spec).unwrap(), &declared("")).unwrap()
    }

    fn open(start: i64, end: i64, nfft: i32) -> Result<History, SourceError> {
        History::open(&declared(&format!("file://{FOLDER}")), &geometry(nfft), start, end)
    }

    fn samples(history: &mut History, first: u64, count: usize) -> Vec<f32> {
        let mut data = vec![0.0; count];
        history.read(first, &mut Rows { data: &mut data, stride: count, columns: 0..count }).unwrap();
        data
    }

    /// Channel 2 at sample `n` counted from T.
    fn expected(n: u64) -> f32 {
        7000.0 + n as f32 - 10_000.0
    }

    #[test]
    fn two_files_without_a_gap_are_one_stretch() {
        let mut history = open(T + 3, T + 8, 128).unwrap();
        assert_eq!(history.stretches, [Stretch { first: 0, first_line: 0, lines: 38 }]);
        let read = samples(&mut history, 0, 500);
        for (n, value) in read.iter().enumerate() {
            assert_eq!(*value, expected(300 + n as u64), "sample {n}");
        }
        assert_eq!(
            (history.time_us(0), history.time_us(250)),
            ((T + 3) * 1_000_000, (T + 5) * 1_000_000 + 500_000)
        );
        let starts: Vec<_> = [0, 37, 38].map(|line| history.line_start(line, &geometry(128))).to_vec();
        assert_eq!(starts, [Some(0), Some(370), None]);
    }

    #[test]
    fn after_a_gap_the_view_goes_on_with_later_times() {
        let mut history = open(T + 8, T + 33, 128).unwrap();
        // 2 s before the gap, 3 s after it; no window reaches over it.
        let expected_stretches =
            [Stretch { first: 0, first_line: 0, lines: 8 }, Stretch { first: 200, first_line: 8, lines: 18 }];
        assert_eq!(history.stretches, expected_stretches);
        let geometry = geometry(128);
        let starts: Vec<_> = [7, 8, 25, 26].map(|line| history.line_start(line, &geometry)).to_vec();
        assert_eq!(starts, [Some(70), Some(200), Some(370), None]);
        assert_eq!(
            (history.time_us(199), history.time_us(200)),
            ((T + 10) * 1_000_000 - 10_000, (T + 30) * 1_000_000)
        );
        assert_eq!(samples(&mut history, 199, 2), [expected(999), expected(3000)]);
    }

    #[test]
    fn what_lies_twice_is_played_once() {
        let recorded = |start_s: i64| Recorded {
            path: PathBuf::from(format!("{start_s}")),
            start_us: start_s * 1_000_000,
            rate_hz: 100.0,
            samples: 1000,
            channels: 4,
        };
        let (one, two) = (recorded(0), recorded(4));
        let (pieces, stretches) = arrange(&[&one, &one, &two], &geometry(128), 2_000_000, 12_000_000);
        let placed: Vec<_> = pieces.iter().map(|piece| (piece.first, piece.from, piece.len)).collect();
        assert_eq!((placed, stretches.len()), (vec![(0, 200, 800), (800, 600, 200)], 1));
    }

    #[test]
    fn a_time_that_cannot_be_played_is_refused() {
        let cases = [
            (T + 100, T + 110, 128, "NoRecording", "no recording of the time from 1767225700 to 1767225710"),
            (T + 60, T + 65, 128, "ChannelCountMismatch", "2 channels and the AnalyzerPool declares 4"),
            (T, T + 1, 128, "RecordingTooShort", "100 samples"),
        ];
        for (start, end, nfft, reason, words) in cases {
            let error = open(start, end, nfft).map(|_| ()).unwrap_err();
            assert_eq!(error.reason(), reason);
            assert!(error.to_string().contains(words), "{error}");
        }
        for uri in ["file:///nonexistent/", "file:///x.h5", "file:///x/?speed=0", "file:///x/?speed=1e9"] {
            let error = History::open(&declared(uri), &geometry(128), T, T + 5).map(|_| ()).unwrap_err();
            let reason = if uri.contains("nonexistent") { "SourceUnreadable" } else { "SourceUriInvalid" };
            assert_eq!(error.reason(), reason, "{error}");
        }
        assert_eq!(parse("file:///x/?speed=2.5").unwrap(), ("/x/", 2.5));
    }
}
