//! The view that the jobs of a stream benchmark show, and what an analyzer would send of it. Pure.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::args::Streams;
use crate::api::{AnalyzerSource, FocusJob, view};
use crate::server::line_bytes;
use crate::wire::{Frame, Header, Line, frame::Kind};

/// The body of a configure request.
pub fn request(options: &Streams) -> Value {
    json!({
        "displayTimeAxisDuration": options.display,
        "displayInfo": {"height": options.display * options.lines_per_second},
        "nfftSelection": options.nfft,
        "channels": {"min": 1, "max": options.channels},
        "frequencyRange": {"min": 0, "max": 500},
        "view_type": "MULTICHANNEL"
    })
}

/// The header of the analyzer of `job`.
pub fn header(job: &FocusJob, source: &AnalyzerSource) -> Frame {
    let header = Header::of(&job.uid().unwrap_or_default(), &job.spec, source);
    Frame { kind: Some(Kind::Header(header)) }
}

/// The lines of one job, in a frame whose memory is used again for each.
pub struct Lines {
    frame: Frame,
    first_us: i64,
    dt_us: f64,
}

impl Lines {
    /// Lines of `job`, the first at `first_us`, µs since the Unix epoch.
    pub fn new(job: &FocusJob, source: &AnalyzerSource, first_us: i64) -> Self {
        let intensities = vec![0; line_bytes(&job.spec, source)];
        let line = Line { db_min: -100.0, db_max: 0.0, intensities, ..Line::default() };
        let dt_us = view::lines_dt(&job.spec, source.sample_rate_hz) * 1e6;
        Self { frame: Frame { kind: Some(Kind::Line(line)) }, first_us, dt_us }
    }

    /// Line `index`; each intensity is the lowest byte of it.
    pub fn frame(&mut self, index: u64) -> &Frame {
        if let Some(Kind::Line(line)) = &mut self.frame.kind {
            line.index = index;
            line.start_us = self.first_us + (index as f64 * self.dt_us) as i64;
            line.end_us = line.start_us + self.dt_us as i64;
            line.intensities.fill(content(index));
        }
        &self.frame
    }
}

/// Whether `bytes`, of which there must be `length`, are of line `index`: the first, the middle one and the last.
pub fn is_whole(bytes: &[u8], length: usize, index: u64) -> bool {
    let right = |at: usize| bytes.get(at) == Some(&content(index));
    bytes.len() == length && (length == 0 || (right(0) && right(length / 2) && right(length - 1)))
}

fn content(index: u64) -> u8 {
    index.to_le_bytes()[0]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::server::answer::tests::source;
    use crate::server::header::disagreement;
    use crate::server::validate::validate;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Streams,
    }

    #[test]
    fn the_server_takes_request_header_and_lines() {
        for (arguments, bytes, dt) in [
            (&["b"][..], 50 * 513, 0.01),
            (&["b", "--channels", "8", "--nfft", "256", "--lines-per-second", "7"], 8 * 129, 1.0 / 7.0),
        ] {
            let options = Cli::parse_from(arguments).options;
            let mut job = FocusJob::new("0-1", validate(&request(&options), "default").unwrap());
            job.metadata.uid = Some("u".to_owned());
            let Some(Kind::Header(header)) = header(&job, &source()).kind else { panic!("no header") };
            assert_eq!(disagreement(&header, "u", &job.spec, &source()), None);
            assert!((header.lines_dt_s - dt).abs() < 1e-9);
            let mut lines = Lines::new(&job, &source(), 1_000_000);
            let Some(Kind::Line(line)) = &lines.frame(300).kind else { panic!("no line") };
            assert_eq!((line.index, line.intensities.len()), (300, bytes));
            assert!(is_whole(&line.intensities, bytes, 300) && line.end_us > line.start_us);
            assert!((line.start_us - 1_000_000 - (300.0 * dt * 1e6) as i64).abs() <= 1);
        }
    }

    #[test]
    fn wrong_content_is_seen() {
        for (bytes, length, index, whole) in [
            (vec![7, 7, 7], 3, 7, true),
            (vec![7, 7, 7], 3, 263, true),
            (vec![7, 7], 3, 7, false),
            (vec![7, 7, 8], 3, 7, false),
            (vec![7, 8, 7], 3, 7, false),
            (vec![], 0, 7, true),
        ] {
            assert_eq!(is_whole(&bytes, length, index), whole, "{bytes:?}");
        }
    }
}
