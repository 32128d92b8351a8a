//! A full-size view without a broker, for `benches/spectrogram.rs`.

use std::hint::black_box;

use super::geometry::{Geometry, Values};
use super::lines::LineMaker;
use super::source::Source;
use crate::api::AnalyzerSource;

/// A view of every channel and frequency of a synthetic source at 1 kHz.
pub struct FullView {
    maker: LineMaker,
    line: Vec<u8>,
}

impl FullView {
    /// With so many channels, samples per window, and lines per second.
    pub fn new(channels: i32, nfft: usize, lines_per_second: f64) -> Self {
        let declared = AnalyzerSource {
            uri: "synthetic:".to_owned(),
            recordings: None,
            sample_rate_hz: 1000.0,
            channels,
            dx_meters: 1.0,
            fiber_start_meters: 0.0,
            pulse_rate_hz: None,
            dtype: "float32".to_owned(),
            description: String::new(),
        };
        let range = 0..usize::try_from(channels).unwrap_or(0);
        let geometry = Geometry {
            rate_hz: declared.sample_rate_hz,
            channels: range.clone(),
            nfft,
            lines_dt_s: 1.0 / lines_per_second,
            values: Values::Spectrum(0..nfft / 2 + 1),
        };
        let source = Source::open(&declared, range, nfft).expect("a synthetic source opens");
        let maker = LineMaker::new(source, geometry, 1_700_000_000_000);
        let line = vec![0; maker.line_len()];
        Self { maker, line }
    }

    /// Computes a line, its samples included.
    pub fn line(&mut self, index: u64) {
        let (start, _) = self.maker.span(index).expect("a synthetic source never ends");
        black_box(self.maker.line(start, &mut self.line).expect("a synthetic source can be read"));
        black_box(&self.line);
    }
}
