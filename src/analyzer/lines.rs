//! From a source to the lines of a view.

use super::geometry::{Geometry, Values};
use super::source::{Rows, Source, SourceError};
use super::spectrogram::{Spectrogram, mean_square_db, quantise};

/// Samples that a waterfall reads at once; its windows may be too long to hold for every channel.
const LEVEL_STRETCH: usize = 1024;

/// Makes lines, with buffers that are used again for each line.
pub struct LineMaker {
    source: Source,
    geometry: Geometry,
    /// Index, within the source, of the view's first sample.
    origin: u64,
    levels: Vec<f32>,
    work: Work,
}

enum Work {
    Spectrum { windows: Windows, spectrogram: Spectrogram },
    Level { stretch: Vec<f32>, squares: Vec<f64> },
}

impl LineMaker {
    /// For a view whose first sample is sample `origin` of the source.
    pub fn new(source: Source, geometry: Geometry, origin: u64) -> Self {
        let channels = geometry.channels.len();
        let work = match &geometry.values {
            Values::Spectrum(bins) => Work::Spectrum {
                windows: Windows::new(channels, geometry.nfft),
                spectrogram: Spectrogram::new(geometry.nfft, bins.clone()),
            },
            Values::Level => Work::Level {
                stretch: vec![0.0; channels * LEVEL_STRETCH.min(geometry.nfft)],
                squares: vec![0.0; channels],
            },
        };
        let levels = vec![0.0; channels * geometry.values_per_channel()];
        Self { source, geometry, origin, levels, work }
    }

    /// Bytes of a line's intensities.
    pub fn line_len(&self) -> usize {
        self.levels.len()
    }

    /// First and end sample of line `index`, within the source; None when the recording is over before its end.
    pub fn span(&self, index: u64) -> Option<(u64, u64)> {
        let start = self.source.line_start(index, self.origin, &self.geometry)?;
        Some((start, start + self.geometry.nfft as u64))
    }

    /// Where the samples come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Writes the intensities of the line whose first sample is `start`, channel by channel, and returns the
    /// levels, dB, of intensities 0 and 255.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn line(&mut self, start: u64, intensities: &mut [u8]) -> Result<(f32, f32), SourceError> {
        match &mut self.work {
            Work::Spectrum { windows, spectrogram } => {
                windows.advance(&mut self.source, start)?;
                let bins = self.geometry.values_per_channel();
                let mut windows = windows.iter();
                for levels in self.levels.chunks_mut(2 * bins) {
                    let (first, second) = levels.split_at_mut(bins);
                    match (windows.next(), windows.next()) {
                        (Some(a), Some(b)) => spectrogram.levels_of_two([a, b], [first, second]),
                        (Some(a), None) => spectrogram.levels(a, first),
                        (None, _) => {}
                    }
                }
            }
            Work::Level { stretch, squares } => {
                sum_squares(&mut self.source, start, self.geometry.nfft, stretch, squares)?;
                for (level, sum) in self.levels.iter_mut().zip(squares) {
                    *level = mean_square_db(*sum / self.geometry.nfft as f64);
                }
            }
        }
        Ok(quantise(&self.levels, intensities))
    }
}

/// Adds up each channel's squares over `nfft` samples from `start` on, a stretch at a time.
fn sum_squares(
    source: &mut Source,
    start: u64,
    nfft: usize,
    stretch: &mut [f32],
    squares: &mut [f64],
) -> Result<(), SourceError> {
    squares.fill(0.0);
    let stride = stretch.len() / squares.len();
    for done in (0..nfft).step_by(stride) {
        let mut rows = Rows { data: stretch, stride, columns: 0..stride.min(nfft - done) };
        source.read(start + done as u64, &mut rows)?;
        for (row, sum) in rows.iter_mut().zip(squares.iter_mut()) {
            *sum += row.iter().map(|x| f64::from(x * x)).sum::<f64>();
        }
    }
    Ok(())
}

/// The current window of every channel. It slides through rows that are longer than a window, so that samples
/// are read once and moved seldom.
struct Windows {
    data: Vec<f32>,
    nfft: usize,
    /// Length of a row: samples.
    stride: usize,
    /// Index, within the source, of the first column; columns up to `filled` hold samples.
    first: u64,
    filled: usize,
    /// Column at which the current window starts.
    at: usize,
}

impl Windows {
    fn new(channels: usize, nfft: usize) -> Self {
        // Rows at a distance that is a power of two would all compete for the same lines of the cache.
        let stride = 2 * nfft + 16;
        Self { data: vec![0.0; channels * stride], nfft, stride, first: 0, filled: 0, at: 0 }
    }

    /// Moves to the window that starts at sample `start`, reading what is missing.
    fn advance(&mut self, source: &mut Source, start: u64) -> Result<(), SourceError> {
        let ahead = start.checked_sub(self.first).filter(|ahead| *ahead <= self.filled as u64);
        let Some(ahead) = ahead else {
            (self.first, self.filled) = (start, 0);
            return self.fill(source, 0);
        };
        let mut at = ahead as usize;
        if at + self.nfft > self.stride {
            for row in self.data.chunks_exact_mut(self.stride) {
                row.copy_within(at..self.filled, 0);
            }
            (self.first, self.filled, at) = (start, self.filled - at, 0);
        }
        self.fill(source, at)
    }

    fn fill(&mut self, source: &mut Source, at: usize) -> Result<(), SourceError> {
        let (from, to) = (self.filled, at + self.nfft);
        if to > from {
            let mut rows = Rows { data: &mut self.data, stride: self.stride, columns: from..to };
            source.read(self.first + from as u64, &mut rows)?;
            self.filled = to;
        }
        self.at = at;
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.stride).map(|row| &row[self.at..self.at + self.nfft])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::AnalyzerSource;

    fn maker(uri: &str, rate: f64, spec: serde_json::Value, origin: u64) -> (LineMaker, Geometry) {
        let source: AnalyzerSource = serde_json::from_value(
            serde_json::json!({"uri":uri,"sampleRateHz":rate,"channels":4,"dxMeters":2.0}),
        )
        .unwrap();
        let geometry = Geometry::new(&serde_json::from_value(spec).unwrap(), &source).unwrap();
        let opened = Source::open(&source, geometry.channels.clone(), geometry.nfft).unwrap();
        (LineMaker::new(opened, geometry.clone(), origin), geometry)
    }

    fn spec(view: &str, height: i32) -> serde_json::Value {
        serde_json::json!({"viewType":view,"channels":{"min":1,"max":4},"nfftSelection":256,
            "frequencyRange":{"min":0,"max":50},"displayTimeAxisDuration":10,"displayInfo":{"height":height}})
    }

    /// The levels of line `index`, computed from scratch.
    fn expected(geometry: &Geometry, origin: u64, index: u64) -> Vec<f32> {
        let source =
            serde_json::json!({"uri":"synthetic:","sampleRateHz":1000.0,"channels":4,"dxMeters":2.0});
        let mut source = Source::open(&serde_json::from_value(source).unwrap(), 0..4, 256).unwrap();
        let mut data = vec![0.0; 4 * 256];
        let mut rows = Rows { data: &mut data, stride: 256, columns: 0..256 };
        source.read(origin + geometry.line_start(index), &mut rows).unwrap();
        let bins = geometry.values_per_channel();
        let mut levels = vec![0.0; 4 * bins];
        let mut spectrogram = Spectrogram::new(256, 0..bins);
        for (windows, levels) in data.chunks_exact(2 * 256).zip(levels.chunks_exact_mut(2 * bins)) {
            let ((a, b), (first, second)) = (windows.split_at(256), levels.split_at_mut(bins));
            spectrogram.levels_of_two([a, b], [first, second]);
        }
        levels
    }

    #[test]
    fn sliding_gives_what_each_window_alone_gives() {
        // Hops of 10 (overlapping), 10.01 (not whole), 256 (touching), 1000 (with gaps) and 0.5 samples.
        for height in [1000, 999, 39, 10, 20_000] {
            let (mut maker, geometry) =
                maker("synthetic:", 1000.0, spec("MultiChannel", height), 7_000_000_000_000);
            let mut line = vec![0; maker.line_len()];
            // Forward, with a jump ahead.
            for index in (0..120).chain(900..910) {
                let (start, _) = maker.span(index).unwrap();
                let range = maker.line(start, &mut line).unwrap();
                let levels = expected(&geometry, 7_000_000_000_000, index);
                let mut quantised = vec![0; levels.len()];
                assert_eq!(range, quantise(&levels, &mut quantised), "line {index}, height {height}");
                assert_eq!(line, quantised, "line {index}, height {height}");
            }
        }
    }

    #[test]
    fn a_recording_played_once_ends_with_its_last_whole_window() {
        let uri = concat!(
            "file://",
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/prodml_channels_first.h5?loop=false"
        );
        let (mut maker, _) = maker(uri, 100.0, spec("MultiChannel", 100), 0);
        // 300 samples, windows of 256, hop 10: lines 0 to 4.
        assert_eq!((maker.span(4), maker.span(5)), (Some((40, 296)), None));
        let mut line = vec![0; maker.line_len()];
        let (low, high) = maker.line(40, &mut line).unwrap();
        assert!(high > low);
        // The mean of channel 4 is the highest of all levels: 3000 + 168 (±10 for the window's weights).
        assert!((high - 20.0 * 3168.0_f32.log10()).abs() < 0.05, "{high}");
    }

    #[test]
    fn a_waterfall_line_is_the_rms_of_each_channel() {
        let uri = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/tests/golden/prodml_channels_first.h5");
        let view =
            serde_json::json!({"viewType":"Waterfall","channels":{"min":2,"max":4},"nfftSelection":256});
        let (mut maker, _) = maker(uri, 100.0, view, 0);
        let mut line = vec![0; maker.line_len()];
        let (low, high) = maker.line(0, &mut line).unwrap();
        let rms = |channel: u32| {
            let squares = (0..256).map(|s| f64::from(1000 * channel + s).powi(2)).sum::<f64>();
            10.0 * (squares / 256.0).log10()
        };
        assert!((f64::from(low) - rms(1)).abs() < 1e-3 && (f64::from(high) - rms(3)).abs() < 1e-3);
        let middle = (255.0 * (rms(2) - rms(1)) / (rms(3) - rms(1))).round() as u8;
        assert_eq!(line, [0, middle, 255]);
    }
}
