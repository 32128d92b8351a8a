//! Recordings in a folder, found by their own times. What reads files blocks.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::analyzer::source::{Recording, same_rate};
use crate::api::AnalyzerSource;

/// How deep below the folder files are looked for.
const DEPTH: usize = 4;
/// Most files of a folder that are looked at.
const MAX_FILES: usize = 100_000;
/// Recordings that are apart by up to so many samples follow each other without a gap.
const TOLERANCE_SAMPLES: f64 = 1.5;

/// A recording and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The file.
    pub path: PathBuf,
    /// Time of its first sample, µs since the Unix epoch.
    pub start_us: i64,
    /// Samples per second of each channel, Hz.
    pub rate_hz: f64,
    /// Samples of each channel.
    pub samples: u64,
    /// Channels.
    pub channels: usize,
}

impl Recorded {
    /// When the sample after its last would be, µs since the Unix epoch.
    pub fn end_us(&self) -> i64 {
        self.start_us.saturating_add((self.samples as f64 / self.rate_hz * 1e6).round() as i64)
    }

    /// Whether it has the sample rate and the channels that `source` declares.
    pub fn fits(&self, source: &AnalyzerSource) -> bool {
        same_rate(self.rate_hz, source.sample_rate_hz)
            && usize::try_from(source.channels) == Ok(self.channels)
    }

    /// Whether `next`, which starts later, follows without a gap or begins before this one's end.
    pub fn is_followed_by(&self, next: &Recorded) -> bool {
        next.start_us.saturating_sub(self.end_us()) as f64 <= TOLERANCE_SAMPLES / self.rate_hz * 1e6
    }

    /// Whether it has anything between two times, µs since the Unix epoch.
    pub fn overlaps(&self, start_us: i64, end_us: i64) -> bool {
        self.start_us < end_us && self.end_us() > start_us
    }
}

/// Start and end, µs since the Unix epoch, of each stretch without a gap, of what of `recordings` lies between two
/// times. `recordings` are in the order of their starts. Pure.
pub fn stretches<'a>(
    recordings: impl Iterator<Item = &'a Recorded>,
    start_us: i64,
    end_us: i64,
) -> Vec<(i64, i64)> {
    let mut found: Vec<(i64, i64)> = Vec::new();
    let mut last: Option<&Recorded> = None;
    for recording in recordings.filter(|recording| recording.overlaps(start_us, end_us)) {
        match (found.last_mut(), last) {
            (Some(stretch), Some(before)) if before.is_followed_by(recording) => {
                stretch.1 = stretch.1.max(recording.end_us());
            }
            _ => found.push((recording.start_us, recording.end_us())),
        }
        if last.is_none_or(|before| recording.end_us() >= before.end_us()) {
            last = Some(recording);
        }
    }
    found
}

/// The recordings of a folder. A file is opened again only when its size or time of change differs.
pub struct Index {
    folder: PathBuf,
    known: HashMap<PathBuf, Known>,
}

struct Known {
    changed: Option<SystemTime>,
    bytes: u64,
    found: Result<Recorded, String>,
    told: bool,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    /// All recordings, in the order of their starts.
    pub recordings: Vec<Recorded>,
    /// Files that were not unreadable before, and why they are now.
    pub newly_unreadable: Vec<(PathBuf, String)>,
    /// Files that are no recordings with a time, those included.
    pub unreadable: usize,
    /// Whether files were left out because there are too many.
    pub too_many: bool,
}

impl Index {
    /// Of `folder`, which has not been looked at yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), known: HashMap::new() }
    }

    /// Looks at the folder and what is below it: files ending in .h5, .hdf5 or .hdf.
    ///
    /// # Errors
    /// When the folder itself cannot be read. What lies below it and cannot be is only left out.
    pub fn scan(&mut self) -> std::io::Result<Scan> {
        let mut files = Vec::new();
        collect(&self.folder, DEPTH, &mut files)?;
        let mut scan = Scan { too_many: files.len() >= MAX_FILES, ..Scan::default() };
        let mut known = HashMap::with_capacity(files.len());
        for (path, changed, bytes) in files {
            let before = self.known.remove(&path);
            let told = before.as_ref().is_some_and(|known| known.told);
            let entry = match before {
                Some(same) if (same.changed, same.bytes) == (changed, bytes) => same,
                _ => Known { changed, bytes, found: look(&path), told },
            };
            known.insert(path, entry);
        }
        for (path, entry) in &mut known {
            match &entry.found {
                Ok(recorded) => scan.recordings.push(recorded.clone()),
                Err(why) => {
                    scan.unreadable += 1;
                    if !std::mem::replace(&mut entry.told, true) {
                        scan.newly_unreadable.push((path.clone(), why.clone()));
                    }
                }
            }
        }
        self.known = known;
        scan.recordings.sort_by(|a, b| (a.start_us, &a.path).cmp(&(b.start_us, &b.path)));
        Ok(scan)
    }
}

type Seen = (PathBuf, Option<SystemTime>, u64);

fn collect(folder: &Path, depth: usize, files: &mut Vec<Seen>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        // A file that has just gone away is none.
        let Ok(path) = entry.map(|entry| entry.path()) else { continue };
        let Ok(about) = std::fs::metadata(&path) else { continue };
        if files.len() >= MAX_FILES {
            return Ok(());
        }
        if about.is_dir() && depth > 1 {
            let _ = collect(&path, depth - 1, files);
        } else if about.is_file() && is_hdf5(&path) {
            files.push((path, about.modified().ok(), about.len()));
        }
    }
    Ok(())
}

fn is_hdf5(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ["h5", "hdf5", "hdf"].iter().any(|known| ending == *known))
}

/// What is in a file. A damaged one must not take its reader down, whatever it makes the library do.
fn look(path: &Path) -> Result<Recorded, String> {
    let name = path.to_str().ok_or("its name is not UTF-8")?;
    let opened = catch_unwind(AssertUnwindSafe(|| Recording::open(name)));
    let found = opened
        .map_err(|_| "reading it made the HDF5 library panic".to_owned())?
        .map_err(|error| error.to_string())?;
    let start_us = found.start_us.ok_or("it does not tell when it was made")?;
    if found.samples == 0 {
        return Err("it has no samples".to_owned());
    }
    Ok(Recorded {
        path: path.to_owned(),
        start_us,
        rate_hz: found.rate_hz,
        samples: found.samples,
        channels: found.channels,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings");
    /// 2026-01-01T00:00:00Z, s.
    const T: i64 = 1_767_225_600;

    fn names(scan: &Scan) -> Vec<String> {
        scan.recordings.iter().map(|r| r.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_time_and_what_is_unreadable_is_told_once() {
        let mut index = Index::new(FOLDER);
        let first = index.scan().unwrap();
        assert_eq!(names(&first), ["a.h5", "b.h5", "c.h5", "two-channels.h5"]);
        let a = &first.recordings[0];
        assert_eq!((a.start_us, a.end_us()), (T * 1_000_000, (T + 5) * 1_000_000));
        assert_eq!((a.rate_hz, a.samples, a.channels), (100.0, 500, 4));
        let mut why: Vec<_> =
            first.newly_unreadable.iter().map(|(path, why)| format!("{path:?} {why}")).collect();
        why.sort();
        assert!(
            why[0].contains("broken.h5") && why[1].contains("timeless.h5\" it does not tell when"),
            "{why:?}"
        );
        let second = index.scan().unwrap();
        assert_eq!((second.newly_unreadable.len(), second.unreadable), (0, 2));
        assert_eq!(second.recordings, first.recordings);
        assert!(Index::new("/nonexistent").scan().is_err());
    }

    #[test]
    fn a_file_is_read_again_when_it_has_changed() {
        let folder = std::env::temp_dir().join(format!("focus-index-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("x.H5");
        std::fs::write(&file, "being written").unwrap();
        std::fs::write(folder.join("notes.txt"), "no recording").unwrap();
        let mut index = Index::new(&folder);
        assert_eq!(index.scan().unwrap().unreadable, 1);
        std::fs::copy(format!("{FOLDER}/a.h5"), &file).unwrap();
        let scan = index.scan().unwrap();
        assert_eq!((scan.recordings.len(), scan.unreadable), (1, 0));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(index.scan().is_err());
    }

    #[test]
    fn stretches_are_joined_where_there_is_no_gap() {
        let at = |start_s: f64, seconds: u64| Recorded {
            path: PathBuf::new(),
            start_us: (start_s * 1e6) as i64,
            rate_hz: 100.0,
            samples: seconds * 100,
            channels: 4,
        };
        let s = |seconds: f64| (seconds * 1e6) as i64;
        let everything = (i64::MIN, i64::MAX);
        let cases = [
            (vec![], everything, vec![]),
            (vec![at(0.0, 5)], everything, vec![(0.0, 5.0)]),
            (vec![at(0.0, 5), at(5.0, 5)], everything, vec![(0.0, 10.0)]),
            (vec![at(0.0, 5), at(5.014, 5)], everything, vec![(0.0, 10.014)]),
            (vec![at(0.0, 5), at(5.016, 5)], everything, vec![(0.0, 5.0), (5.016, 10.016)]),
            // A short one within a long one does not end it.
            (vec![at(0.0, 20), at(2.0, 1), at(20.0, 5)], everything, vec![(0.0, 25.0)]),
            (vec![at(0.0, 5), at(5.0, 5), at(30.0, 5)], (s(9.0), s(30.0)), vec![(5.0, 10.0)]),
            (vec![at(0.0, 5), at(30.0, 5)], (s(5.0), s(30.0)), vec![]),
        ];
        for (recordings, (from, to), expected) in cases {
            let expected: Vec<_> = expected.into_iter().map(|(a, b)| (s(a), s(b))).collect();
            assert_eq!(stretches(recordings.iter(), from, to), expected, "{recordings:?}");
        }
    }

    #[test]
    fn a_recording_fits_its_source_or_not() {
        let source = |rate: f64, channels: i32| -> AnalyzerSource {
            let source = serde_json::json!({"uri":"file:///x/","sampleRateHz":rate,"channels":channels,"dxMeters":2.0});
            serde_json::from_value(source).unwrap()
        };
        let a = Index::new(FOLDER).scan().unwrap().recordings.remove(0);
        let cases = [(100.0, 4, true), (100.05, 4, true), (101.0, 4, false), (100.0, 5, false)];
        for (rate, channels, fits) in cases {
            assert_eq!(a.fits(&source(rate, channels)), fits, "{rate} Hz, {channels} channels");
        }
    }
}
