//! Does the analyzer's header describe the view that was asked for? Pure.

use crate::api::{AnalyzerSource, FocusJobSpec, view};
use crate::wire;

/// Relative difference up to which two numbers count as equal.
const TOLERANCE: f64 = 1e-6;

/// What of `header` disagrees with the request and the pool's source, in words, or None.
pub fn disagreement(
    header: &wire::Header,
    uid: &str,
    spec: &FocusJobSpec,
    source: &AnalyzerSource,
) -> Option<String> {
    let differ = |what: &str, is: &dyn std::fmt::Display, wanted: &dyn std::fmt::Display| {
        Some(format!("the analyzer's {what} is {is}, the job and its pool say {wanted}"))
    };
    if header.job_uid != uid {
        return differ("job uid", &header.job_uid, &uid);
    }
    if !close(header.sample_rate_hz, source.sample_rate_hz) {
        return differ("sample rate in Hz", &header.sample_rate_hz, &source.sample_rate_hz);
    }
    let (min, max) = (spec.channels.min, spec.channels.max);
    if (header.channel_min, header.channel_max) != (min, max) {
        let is = format!("{} to {}", header.channel_min, header.channel_max);
        return differ("channel range", &is, &format!("{min} to {max}"));
    }
    if header.nfft != spec.nfft_selection {
        return differ("nfft", &header.nfft, &spec.nfft_selection);
    }
    // An analyzer advances by whole samples, so that its spacing may be off by less than one.
    let lines_dt = view::lines_dt(spec, source.sample_rate_hz);
    let slack = 1.0 / source.sample_rate_hz + lines_dt * TOLERANCE;
    if (header.lines_dt_s - lines_dt).abs() > slack || !header.lines_dt_s.is_finite() {
        return differ("time between lines in s", &header.lines_dt_s, &lines_dt);
    }
    frequencies(&header.frequencies_hz, &view::frequencies(spec, source.sample_rate_hz))
}

fn frequencies(is: &[f64], wanted: &[f64]) -> Option<String> {
    if is.len() != wanted.len() {
        let (is, wanted) = (is.len(), wanted.len());
        return Some(format!("the analyzer sends {is} frequencies, the job asks for {wanted}"));
    }
    let (i, (a, b)) = is.iter().zip(wanted).enumerate().find(|(_, (a, b))| !close(**a, **b))?;
    Some(format!("the analyzer's frequency number {i} is {a} Hz, the job asks for {b} Hz"))
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::tests::{source, spec};

    fn header() -> wire::Header {
        let spec = spec(50);
        wire::Header {
            job_uid: "u".to_owned(),
            sample_rate_hz: 1000.0,
            channel_min: 1,
            channel_max: 50,
            frequencies_hz: view::frequencies(&spec, 1000.0),
            nfft: 1024,
            lines_dt_s: 0.01,
            ..wire::Header::default()
        }
    }

    #[test]
    fn each_disagreement_is_named() {
        assert_eq!(disagreement(&header(), "u", &spec(50), &source()), None);
        let frequencies = header().frequencies_hz;
        let moved: Vec<f64> = frequencies.iter().map(|f| f + 0.5).collect();
        for (header, word) in [
            (wire::Header { job_uid: "v".to_owned(), ..header() }, "uid"),
            (wire::Header { sample_rate_hz: 999.0, ..header() }, "sample rate"),
            (wire::Header { channel_min: 2, ..header() }, "channel range"),
            (wire::Header { channel_max: 49, ..header() }, "channel range"),
            (wire::Header { nfft: 512, ..header() }, "nfft"),
            (wire::Header { lines_dt_s: 0.02, ..header() }, "time between lines"),
            (wire::Header { lines_dt_s: f64::NAN, ..header() }, "time between lines"),
            (wire::Header { frequencies_hz: vec![], ..header() }, "0 frequencies"),
            (wire::Header { frequencies_hz: moved, ..header() }, "frequency number 0"),
        ] {
            let told = disagreement(&header, "u", &spec(50), &source()).expect("a disagreement");
            assert!(told.contains(word), "{told}");
        }
    }
}
