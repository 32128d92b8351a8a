//! What follows from a view and its source: line spacing, frequencies, streams. Pure.

use super::AnalyzerSource;
use super::focusjob::{FocusJobSpec, ViewType};

/// Most streams that the channels of one view are divided into.
pub const MAX_STREAMS: usize = 3;

/// Time between the starts of two lines, s: `displayTimeAxisDuration / displayInfo.height`;
/// for a waterfall, whose request has no duration, one window: `nfft / sample rate`.
pub fn lines_dt(spec: &FocusJobSpec, sample_rate_hz: f64) -> f64 {
    match spec.display_time_axis_duration {
        Some(duration) => f64::from(duration) / f64::from(spec.display_info.height.max(1)),
        None => f64::from(spec.nfft_selection) / sample_rate_hz,
    }
}

/// Length of the display's time axis, s.
pub fn display_seconds(spec: &FocusJobSpec, sample_rate_hz: f64) -> f64 {
    lines_dt(spec, sample_rate_hz) * f64::from(spec.display_info.height.max(1))
}

/// The frequencies of a line, Hz: `k * rate / nfft` for each k that lies within `frequencyRange`, both ends
/// included. Empty for a waterfall.
pub fn frequencies(spec: &FocusJobSpec, sample_rate_hz: f64) -> Vec<f64> {
    let (Some(range), false) = (spec.frequency_range, spec.view_type == ViewType::Waterfall) else {
        return Vec::new();
    };
    let step = sample_rate_hz / f64::from(spec.nfft_selection);
    (0..=spec.nfft_selection / 2)
        .map(|k| f64::from(k) * step)
        .filter(|f| *f >= f64::from(range.min) && *f <= f64::from(range.max))
        .collect()
}

/// How many channels each stream has: as even as can be, the larger first (8 channels: 3, 3, 2).
pub fn stream_sizes(channels: usize) -> Vec<usize> {
    let streams = channels.clamp(1, MAX_STREAMS);
    (0..streams).map(|i| channels / streams + usize::from(i < channels % streams)).collect()
}

/// The rules that need the pool's source: what of `spec` the source cannot give, in words, or None.
pub fn refusal(spec: &FocusJobSpec, source: &AnalyzerSource) -> Option<String> {
    let nyquist = source.sample_rate_hz / 2.0;
    if let Some(range) = spec.frequency_range
        && f64::from(range.max) > nyquist
    {
        return Some(format!(
            "Frequency {} Hz exceeds Nyquist limit ({nyquist} Hz) of a source sampled at {} Hz",
            range.max, source.sample_rate_hz
        ));
    }
    if spec.channels.max > source.channels {
        return Some(format!(
            "Channel {} is outside the source, which has channels 1 to {}",
            spec.channels.max, source.channels
        ));
    }
    None
}
