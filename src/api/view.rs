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

/// The rule that live views need a live source and historic views a folder of recordings: how `spec` and `source`
/// break it, in words, or None.
pub fn time_refusal(spec: &FocusJobSpec, source: &AnalyzerSource) -> Option<String> {
    match (spec.start_time.is_some(), source.is_live(), source.past()) {
        (true, _, None) => Some(
            "the source has no recordings: name their folder in source.recordings of the AnalyzerPool, or ask for a live view, without startTime and endTime".to_owned(),
        ),
        (false, false, _) => Some(format!(
            "the source {} is a folder of recordings and gives no live view: startTime and endTime are required",
            source.uri
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn view(min: i32, max: i32) -> FocusJobSpec {
        serde_json::from_value(json!({
            "viewType": "MultiChannel", "channels": {"min": 1, "max": 8}, "nfftSelection": 1024,
            "frequencyRange": {"min": min, "max": max}, "displayTimeAxisDuration": 10
        }))
        .unwrap()
    }

    fn waterfall() -> FocusJobSpec {
        serde_json::from_value(json!({
            "viewType": "Waterfall", "channels": {"min": 1, "max": 8}, "nfftSelection": 1024,
            "displayInfo": {"height": 200}
        }))
        .unwrap()
    }

    fn source(rate: f64, channels: i32) -> AnalyzerSource {
        serde_json::from_value(json!({
            "uri": "synthetic:", "sampleRateHz": rate, "channels": channels, "dxMeters": 1.0
        }))
        .unwrap()
    }

    #[test]
    fn lines_are_the_display_s_time_divided_by_its_height() {
        assert!((lines_dt(&view(0, 500), 1000.0) - 0.01).abs() < 1e-12);
        assert!((display_seconds(&view(0, 500), 1000.0) - 10.0).abs() < 1e-9);
        assert!((lines_dt(&waterfall(), 1000.0) - 1.024).abs() < 1e-12);
        assert!((display_seconds(&waterfall(), 1000.0) - 204.8).abs() < 1e-9);
    }

    #[test]
    fn a_line_has_the_frequencies_within_the_range_both_ends_included() {
        let cases = [
            (0, 500, 1000.0, 513, 0.0, 500.0),
            (0, 500, 1024.0, 501, 0.0, 500.0),
            (10, 20, 1024.0, 11, 10.0, 20.0),
            (0, 1, 1000.0, 2, 0.0, 0.976_562_5),
        ];
        for (min, max, rate, count, first, last) in cases {
            let found = frequencies(&view(min, max), rate);
            assert_eq!(found.len(), count, "{min} to {max} Hz at {rate} Hz");
            assert!((found[0] - first).abs() < 1e-9 && (found[count - 1] - last).abs() < 1e-9, "{found:?}");
        }
        assert!(frequencies(&waterfall(), 1000.0).is_empty());
    }

    #[test]
    fn streams_are_as_even_as_can_be() {
        let cases: [(usize, &[usize]); 7] = [
            (50, &[17, 17, 16]),
            (8, &[3, 3, 2]),
            (9, &[3, 3, 3]),
            (3, &[1, 1, 1]),
            (2, &[1, 1]),
            (1, &[1]),
            (2500, &[834, 833, 833]),
        ];
        for (channels, sizes) in cases {
            assert_eq!(stream_sizes(channels), sizes, "{channels}");
        }
    }

    #[test]
    fn a_view_beyond_its_source_is_refused() {
        let cases = [
            (view(0, 500), source(1000.0, 8), None),
            (view(0, 501), source(1000.0, 8), Some("Frequency 501 Hz exceeds Nyquist limit (500 Hz)")),
            (view(0, 500), source(1000.0, 7), Some("Channel 8 is outside the source")),
            (waterfall(), source(1.0, 8), None),
        ];
        for (spec, source, expected) in cases {
            let refused = refusal(&spec, &source);
            assert_eq!(refused.is_some(), expected.is_some(), "{refused:?}");
            assert!(refused.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn a_live_view_needs_a_live_source_and_a_historic_one_needs_recordings() {
        let historic = || FocusJobSpec { start_time: Some(1), end_time: Some(2), ..view(0, 500) };
        let of = |uri: &str, recordings: Option<&str>| AnalyzerSource {
            uri: uri.to_owned(),
            recordings: recordings.map(str::to_owned),
            ..source(1000.0, 8)
        };
        let cases = [
            ("synthetic:", None, true, false),
            ("synthetic:", Some("file:///past/?speed=2"), true, true),
            ("file:///x.h5?loop=false", None, true, false),
            ("file:///past/", None, false, true),
            ("file:///past/?speed=2", None, false, true),
        ];
        for (uri, recordings, live, past) in cases {
            let source = of(uri, recordings);
            assert_eq!(time_refusal(&view(0, 500), &source).is_none(), live, "{uri} live");
            assert_eq!(time_refusal(&historic(), &source).is_none(), past, "{uri} historic");
        }
    }
}
