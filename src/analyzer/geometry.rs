//! What is computed for a view: channels, window, hop and frequencies, in samples and bins. Pure.

use std::ops::Range;

use super::error::AnalyzerError;
use crate::api::AnalyzerSource;
use crate::api::focusjob::{FocusJobSpec, ViewType};
use crate::api::view;

/// A view in samples and bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// Samples per second of each channel, Hz.
    pub rate_hz: f64,
    /// Channels of the view, counted from 0.
    pub channels: Range<usize>,
    /// Length of a window, samples.
    pub nfft: usize,
    /// Time between the starts of consecutive lines, s.
    pub lines_dt_s: f64,
    /// What a line holds for each channel.
    pub values: Values,
}

/// What a line holds for each channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// The levels of these bins; bin k is k * rate / nfft Hz.
    Spectrum(Range<usize>),
    /// The level of the whole window.
    Level,
}

impl Geometry {
    /// The geometry of a view.
    ///
    /// # Errors
    /// When no bin lies within the frequency range.
    pub fn new(spec: &FocusJobSpec, source: &AnalyzerSource) -> Result<Self, AnalyzerError> {
        let rate_hz = source.sample_rate_hz;
        let frequencies = view::frequencies(spec, rate_hz);
        let values = match spec.view_type {
            ViewType::Waterfall => Values::Level,
            ViewType::MultiChannel | ViewType::SingleChannel => {
                let Some(lowest) = frequencies.first() else {
                    return Err(no_frequency(spec, rate_hz));
                };
                let first = (lowest * f64::from(spec.nfft_selection) / rate_hz).round() as usize;
                Values::Spectrum(first..first + frequencies.len())
            }
        };
        let first = usize::try_from(spec.channels.min.max(1) - 1).unwrap_or(0);
        Ok(Self {
            rate_hz,
            channels: first..first + spec.channels.count(),
            nfft: usize::try_from(spec.nfft_selection).unwrap_or(0),
            lines_dt_s: view::lines_dt(spec, rate_hz),
            values,
        })
    }

    /// First sample of line `index`, counted from the view's own first sample: `round(index * hop)`, where
    /// the hop, `lines_dt_s * rate_hz` samples, need not be whole.
    pub fn line_start(&self, index: u64) -> u64 {
        (index as f64 * self.lines_dt_s * self.rate_hz).round() as u64
    }

    /// How many values a line holds for each channel.
    pub fn values_per_channel(&self) -> usize {
        match &self.values {
            Values::Spectrum(bins) => bins.len(),
            Values::Level => 1,
        }
    }
}

fn no_frequency(spec: &FocusJobSpec, rate_hz: f64) -> AnalyzerError {
    let (min, max) = spec.frequency_range.map_or((0, 0), |range| (range.min, range.max));
    AnalyzerError::ViewOutsideSource {
        reason: "FrequencyRangeEmpty",
        why: format!(
            "no frequency of a {}-sample window at {rate_hz} Hz, whose spacing is {} Hz, lies from {min} to {max} Hz",
            spec.nfft_selection,
            rate_hz / f64::from(spec.nfft_selection)
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn geometry(spec: &str, rate: f64) -> Result<Geometry, AnalyzerError> {
        let source =
            serde_json::json!({"uri":"synthetic:","sampleRateHz":rate,"channels":100,"dxMeters":1.0});
        Geometry::new(&serde_json::from_str(spec).unwrap(), &serde_json::from_value(source).unwrap())
    }

    #[test]
    fn bins_and_starts_follow_the_view() {
        let view = geometry(
            r#"{"viewType":"MultiChannel","channels":{"min":3,"max":5},"frequencyRange":{"min":10,"max":20},
                "nfftSelection":1024,"displayTimeAxisDuration":10,"displayInfo":{"height":999}}"#,
            1000.0,
        )
        .unwrap();
        assert_eq!(view.channels, 2..5);
        assert_eq!(view.values, Values::Spectrum(11..21)); // 10.74 Hz to 19.53 Hz
        let starts: Vec<u64> = [0, 1, 2, 50, 999].map(|i| view.line_start(i)).to_vec();
        assert_eq!(starts, [0, 10, 20, 501, 10_000]); // hop 10.01 samples
    }

    #[test]
    fn a_waterfall_has_one_window_per_line() {
        let view =
            geometry(r#"{"viewType":"Waterfall","channels":{"min":1,"max":100},"nfftSelection":256}"#, 500.0)
                .unwrap();
        assert_eq!((view.values_per_channel(), view.line_start(7)), (1, 7 * 256));
    }

    #[test]
    fn a_range_between_two_bins_is_refused() {
        let error = geometry(
            r#"{"viewType":"SingleChannel","channels":{"min":1,"max":1},"frequencyRange":{"min":1,"max":2},
                "nfftSelection":128,"displayTimeAxisDuration":10}"#,
            1000.0,
        )
        .unwrap_err();
        assert_eq!((error.reason(), error.exit_code()), ("FrequencyRangeEmpty", 65));
    }
}
