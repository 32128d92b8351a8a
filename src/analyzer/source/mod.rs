//! Where the samples come from: computed, or read from a recording.

mod hdf5;
mod history;
mod replay;
mod synthetic;

use std::ops::Range;

pub use hdf5::Recording;
pub use history::History;
pub use replay::Replay;
pub use synthetic::Synthetic;

use super::geometry::Geometry;
use crate::api::AnalyzerSource;

/// How far a recording's sample rate may be from the declared one, as a part of it.
const RATE_TOLERANCE: f64 = 1e-3;

/// Why a source cannot be used. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No source has such an address.
    #[error(
        "opening source {uri}: {why}; set source.uri of the AnalyzerPool to synthetic: or file:///path/recording.h5, with ?loop=true or ?loop=false if wanted"
    )]
    BadUri {
        /// The address.
        uri: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file is absent, damaged, or cannot be read.
    #[error("{doing} {path}: {why}; check that the volume is mounted and that the file is whole")]
    Unreadable {
        /// The step.
        doing: &'static str,
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// An HDF5 file of a kind that is not known here.
    #[error(
        "opening recording {path}: {why}; PRODML 2.0 and 2.1, iDAS (DAS-RCN) and OptoDAS files can be read"
    )]
    UnknownFormat {
        /// The file.
        path: String,
        /// What was looked for.
        why: String,
    },
    /// Not one window fits.
    #[error(
        "opening recording {path}: it has {samples} samples per channel and a window needs {nfft}; create a FocusJob with a smaller nfftSelection, or use a longer recording"
    )]
    RecordingTooShort {
        /// The file.
        path: String,
        /// Its length, samples.
        samples: u64,
        /// Length of a window, samples.
        nfft: usize,
    },
    /// The declared sample rate is not the file's.
    #[error(
        "opening recording {path}: it was sampled at {found} Hz and the AnalyzerPool declares {declared} Hz; set source.sampleRateHz to {found}"
    )]
    SampleRateMismatch {
        /// The file.
        path: String,
        /// The file's rate, Hz.
        found: f64,
        /// The declared rate, Hz.
        declared: f64,
    },
    /// Nothing was recorded then.
    #[error(
        "opening recordings: {folder} has no recording of the time from {start} to {end} s since the Unix epoch; create a FocusJob for a time of which there is one"
    )]
    NoRecording {
        /// The folder.
        folder: String,
        /// First second that was asked for.
        start: i64,
        /// End of the last second that was asked for.
        end: i64,
    },
    /// The declared number of channels is not the file's.
    #[error(
        "opening recording {path}: it has {found} channels and the AnalyzerPool declares {declared}; set source.channels to {found}"
    )]
    ChannelCountMismatch {
        /// The file.
        path: String,
        /// Channels in the file.
        found: usize,
        /// Channels declared.
        declared: i32,
    },
}

impl SourceError {
    /// One CamelCase word for the cause.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadUri { .. } => "SourceUriInvalid",
            Self::Unreadable { .. } => "SourceUnreadable",
            Self::UnknownFormat { .. } => "SourceFormatUnknown",
            Self::RecordingTooShort { .. } => "RecordingTooShort",
            Self::SampleRateMismatch { .. } => "SampleRateMismatch",
            Self::NoRecording { .. } => "NoRecording",
            Self::ChannelCountMismatch { .. } => "ChannelCountMismatch",
        }
    }
}

/// Whether a recording's sample rate is the declared one, but for rounding.
pub fn same_rate(found_hz: f64, declared_hz: f64) -> bool {
    (found_hz / declared_hz - 1.0).abs() <= RATE_TOLERANCE
}

/// Rows of samples, one for each channel, into which a source writes a stretch of time.
pub struct Rows<'a> {
    /// All rows, one after another.
    pub data: &'a mut [f32],
    /// Distance between the starts of two rows, samples.
    pub stride: usize,
    /// Where in each row the stretch goes.
    pub columns: Range<usize>,
}

impl Rows<'_> {
    /// The stretch of each row in turn.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let columns = self.columns.clone();
        self.data.chunks_exact_mut(self.stride).map(move |row| &mut row[columns.clone()])
    }

    /// The stretch of each row between `from` and `to`, counted from the stretch's start.
    pub fn part(&mut self, from: usize, to: usize) -> Rows<'_> {
        let start = self.columns.start;
        Rows { data: self.data, stride: self.stride, columns: start + from..start + to }
    }
}

/// What the source says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Sample type as stored, such as `int16`.
    pub dtype: String,
    /// For people.
    pub text: String,
}

/// An open source for the channels of one view.
pub enum Source {
    /// Computed.
    Synthetic(Box<Synthetic>),
    /// Read from a recording.
    Replay(Box<Replay>),
    /// Past stretches of time, read from recordings.
    History(Box<History>),
}

impl Source {
    /// Opens the declared source for `channels` (counted from 0) and windows of `nfft` samples. Blocks on files.
    ///
    /// # Errors
    /// When the source cannot be read, or is otherwise than declared.
    pub fn open(declared: &AnalyzerSource, channels: Range<usize>, nfft: usize) -> Result<Self, SourceError> {
        let bad_uri = |why: String| SourceError::BadUri { uri: declared.uri.clone(), why };
        let (address, query) = declared.uri.split_once('?').unwrap_or((&declared.uri, ""));
        let mut looped = true;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            looped = match pair {
                "loop=true" => true,
                "loop=false" => false,
                _ => return Err(bad_uri(format!("{pair:?} is no option"))),
            };
        }
        if address.starts_with("synthetic:") {
            return Ok(Self::Synthetic(Box::new(Synthetic::new(declared, channels))));
        }
        let Some(path) = address.strip_prefix("file://").filter(|path| path.starts_with('/')) else {
            return Err(bad_uri("it starts neither with synthetic: nor with file:///".to_owned()));
        };
        Ok(Self::Replay(Box::new(Replay::open(path, declared, channels, nfft, looped)?)))
    }

    /// Opens the declared recordings from `start_s` to `end_s`, seconds since the Unix epoch. Blocks on files.
    ///
    /// # Errors
    /// When they cannot be read, are otherwise than declared, or there are none of that time.
    pub fn open_past(
        declared: &AnalyzerSource,
        geometry: &Geometry,
        start_s: i64,
        end_s: i64,
    ) -> Result<Self, SourceError> {
        Ok(Self::History(Box::new(History::open(declared, geometry, start_s, end_s)?)))
    }

    /// What the source says of itself.
    pub fn description(&self) -> Description {
        match self {
            Self::Synthetic(_) => {
                Description { dtype: "float32".to_owned(), text: "Synthetic fibre".to_owned() }
            }
            Self::Replay(replay) => replay.description(),
            Self::History(history) => history.description(),
        }
    }

    /// The index of the first sample of a view that begins at sample `now` since the Unix epoch: that very
    /// sample, so that all views of a source show the same at the same moment; 0 for what is played once.
    pub fn first_sample(&self, now: u64) -> u64 {
        match self {
            Self::Synthetic(_) => now,
            Self::Replay(replay) => replay.end().map_or(now, |_| 0),
            Self::History(_) => 0,
        }
    }

    /// First sample of line `index` of a view that begins at sample `origin`; None when the source is over before
    /// the line's end.
    pub fn line_start(&self, index: u64, origin: u64, geometry: &Geometry) -> Option<u64> {
        let start = origin + geometry.line_start(index);
        match self {
            Self::Synthetic(_) => Some(start),
            Self::Replay(replay) => {
                let end = start + geometry.nfft as u64;
                replay.end().is_none_or(|last| end <= last).then_some(start)
            }
            Self::History(history) => history.line_start(index, geometry),
        }
    }

    /// The past stretches of time, if that is what it is.
    pub fn history(&self) -> Option<&History> {
        match self {
            Self::Synthetic(_) | Self::Replay(_) => None,
            Self::History(history) => Some(history),
        }
    }

    /// Writes the view's channels from sample `first` on. Blocks on files.
    ///
    /// # Errors
    /// When the recording cannot be read any more.
    pub fn read(&mut self, first: u64, rows: &mut Rows<'_>) -> Result<(), SourceError> {
        match self {
            Self::Synthetic(synthetic) => {
                synthetic.read(first, rows);
                Ok(())
            }
            Self::Replay(replay) => replay.read(first, rows),
            Self::History(history) => history.read(first, rows),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refusal(uri: &str) -> SourceError {
        let declared = serde_json::json!({"uri":uri,"sampleRateHz":1000.0,"channels":10,"dxMeters":1.0});
        Source::open(&serde_json::from_value(declared).unwrap(), 0..10, 128).map(|_| ()).unwrap_err()
    }

    #[test]
    fn an_address_that_cannot_work_is_refused() {
        let directory = std::env::temp_dir();
        let text = directory.join(format!("focus-no-recording-{}.h5", std::process::id()));
        std::fs::write(&text, "not HDF5").unwrap();
        let cases = [
            ("http://host/x.h5".to_owned(), "SourceUriInvalid"),
            ("file://relative.h5".to_owned(), "SourceUriInvalid"),
            ("synthetic:?speed=9".to_owned(), "SourceUriInvalid"),
            ("file:///nonexistent/recording.h5?loop=false".to_owned(), "SourceUnreadable"),
            (format!("file://{}", text.display()), "SourceUnreadable"),
            (format!("file://{}", directory.display()), "SourceUnreadable"),
        ];
        for (uri, reason) in cases {
            let error = refusal(&uri);
            assert_eq!(error.reason(), reason, "{error}");
        }
        std::fs::remove_file(&text).unwrap();
    }
}
