//! A recording played as if it happened now, once or over and over.

use std::ops::Range;

use super::hdf5::Recording;
use super::{Description, Rows, SourceError};
use crate::api::AnalyzerSource;

/// Samples that are read from the file at once: 8 MiB as f32.
const BLOCK_SAMPLES: usize = 2 * 1024 * 1024;

/// A recording, with a block of it in memory.
pub struct Replay {
    recording: Recording,
    channels: Range<usize>,
    looped: bool,
    /// Most samples per channel that a block holds.
    block_len: usize,
    /// First sample of the block in memory, and its samples, time by time.
    block_first: u64,
    block: Vec<f32>,
}

impl Replay {
    /// Opens a recording for `channels`, counted from 0, and windows of `nfft` samples.
    ///
    /// # Errors
    /// When it cannot be read, is otherwise than declared, or is shorter than a window.
    pub fn open(
        path: &str,
        declared: &AnalyzerSource,
        channels: Range<usize>,
        nfft: usize,
        looped: bool,
    ) -> Result<Self, SourceError> {
        let recording = Recording::open(path)?;
        check(&recording, declared, nfft)?;
        if (recording.dx_m.unwrap_or(declared.dx_meters) / declared.dx_meters - 1.0).abs() > 0.01 {
            tracing::warn!(
                recording = path,
                found_m = recording.dx_m,
                declared_m = declared.dx_meters,
                "the recording's channel distance is not the declared one; the declared one is used"
            );
        }
        let block_len = (BLOCK_SAMPLES / channels.len().max(1)).max(64);
        Ok(Self { recording, channels, looped, block_len, block_first: 0, block: Vec::new() })
    }

    /// What the recording says of itself.
    pub fn description(&self) -> Description {
        Description { dtype: self.recording.dtype.clone(), text: self.recording.text.clone() }
    }

    /// The index after the last sample; None when it is played over and over.
    pub fn end(&self) -> Option<u64> {
        (!self.looped).then_some(self.recording.samples)
    }

    /// Writes the samples from `first` on; after the recording's last sample comes its first.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn read(&mut self, first: u64, rows: &mut Rows<'_>) -> Result<(), SourceError> {
        let (mut done, count) = (0, rows.columns.len());
        while done < count {
            let at = (first + done as u64) % self.recording.samples;
            let held = self.hold(at)?;
            let take = held.min(count - done);
            let width = self.channels.len();
            let from = (at - self.block_first) as usize * width;
            spread(&self.block[from..from + take * width], width, &mut rows.part(done, done + take));
            done += take;
        }
        Ok(())
    }

    /// Has sample `at` in memory, and says how many are there from it on.
    fn hold(&mut self, at: u64) -> Result<usize, SourceError> {
        let held = (self.block.len() / self.channels.len()) as u64;
        if at < self.block_first || at >= self.block_first + held {
            let end = (at + self.block_len as u64).min(self.recording.samples);
            self.block = self.recording.read(at..end, self.channels.clone())?;
            self.block_first = at;
        }
        let held = (self.block.len() / self.channels.len()) as u64;
        Ok((self.block_first + held - at) as usize)
    }
}

/// Writes `block`, which is in the order of time, `width` channels at a time, into rows of one channel each.
pub(super) fn spread(block: &[f32], width: usize, rows: &mut Rows<'_>) {
    for (channel, row) in rows.iter_mut().enumerate() {
        for (sample, moment) in row.iter_mut().zip(block.chunks_exact(width)) {
            *sample = moment[channel];
        }
    }
}

/// Refuses a recording whose sample rate or number of channels is not the declared one.
pub(super) fn as_declared(
    path: &str,
    rate_hz: f64,
    channels: usize,
    declared: &AnalyzerSource,
) -> Result<(), SourceError> {
    let path = path.to_owned();
    if !super::same_rate(rate_hz, declared.sample_rate_hz) {
        return Err(SourceError::SampleRateMismatch {
            path,
            found: rate_hz,
            declared: declared.sample_rate_hz,
        });
    }
    if usize::try_from(declared.channels) != Ok(channels) {
        return Err(SourceError::ChannelCountMismatch { path, found: channels, declared: declared.channels });
    }
    Ok(())
}

fn check(recording: &Recording, declared: &AnalyzerSource, nfft: usize) -> Result<(), SourceError> {
    as_declared(&recording.path, recording.rate_hz, recording.channels, declared)?;
    if recording.samples < nfft as u64 {
        let path = recording.path.clone();
        return Err(SourceError::RecordingTooShort { path, samples: recording.samples, nfft });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/prodml_channels_first.h5");

    fn declared(rate: f64, channels: i32) -> AnalyzerSource {
        let source =
            serde_json::json!({"uri":"file:///x","sampleRateHz":rate,"channels":channels,"dxMeters":2.0});
        serde_json::from_value(source).unwrap()
    }

    fn open(channels: Range<usize>, looped: bool) -> Replay {
        Replay::open(PATH, &declared(100.0, 4), channels, 128, looped).unwrap()
    }

    #[test]
    fn a_loop_begins_again_after_the_last_sample() {
        let mut replay = open(1..3, true);
        replay.block_len = 70; // so that blocks end within the stretch
        let mut data = vec![-1.0; 2 * 500];
        // The stretch starts 20 samples before the recording's end for the fifth time.
        replay.read(5 * 300 - 20, &mut Rows { data: &mut data, stride: 500, columns: 10..410 }).unwrap();
        let expected = |channel: usize, n: usize| (1000 * channel + (280 + n) % 300) as f32;
        for channel in 0..2 {
            let row = &data[channel * 500..][..500];
            assert_eq!((row[9], row[410]), (-1.0, -1.0));
            for n in 0..400 {
                assert_eq!(row[10 + n], expected(channel + 1, n), "channel {channel}, sample {n}");
            }
        }
        assert_eq!(replay.end(), None);
    }

    #[test]
    fn a_recording_tells_what_it_is() {
        let replay = open(0..4, false);
        assert_eq!(replay.description(), Description { dtype: "int16".into(), text: "PRODML 2.0".into() });
        assert_eq!(replay.end(), Some(300));
    }

    #[test]
    fn a_recording_that_is_not_as_declared_is_refused() {
        let cases = [
            (100.0, 4, 512, "RecordingTooShort", "300 samples per channel and a window needs 512"),
            (1000.0, 4, 128, "SampleRateMismatch", "at 100 Hz and the AnalyzerPool declares 1000 Hz"),
            (100.0, 5, 128, "ChannelCountMismatch", "4 channels and the AnalyzerPool declares 5"),
        ];
        for (rate, channels, nfft, reason, words) in cases {
            let error =
                Replay::open(PATH, &declared(rate, channels), 0..4, nfft, true).map(|_| ()).unwrap_err();
            assert_eq!(error.reason(), reason);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_file_cut_short_is_refused() {
        let whole = std::fs::read(PATH).unwrap();
        for part in [0, 100, whole.len() / 2] {
            let path = std::env::temp_dir().join(format!("focus-cut-{part}-{}.h5", std::process::id()));
            std::fs::write(&path, &whole[..part]).unwrap();
            let opened = Replay::open(path.to_str().unwrap(), &declared(100.0, 4), 0..4, 128, true);
            let outcome = opened.and_then(|mut replay| {
                let mut data = vec![0.0; 4 * 300];
                replay.read(0, &mut Rows { data: &mut data, stride: 300, columns: 0..300 })
            });
            std::fs::remove_file(&path).unwrap();
            assert_eq!(outcome.unwrap_err().reason(), "SourceUnreadable", "{part} bytes");
        }
    }
}
