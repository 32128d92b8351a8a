//! The thread that reads the source and computes lines, each at its time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};

use super::error::AnalyzerError;
use super::geometry::Geometry;
use super::lines::LineMaker;
use super::metrics::Metrics;
use super::outbox::Outbox;
use super::readiness::Readiness;
use super::settings::Settings;
use super::source::{Description, Source};
use crate::telemetry::traces::Steps;
use crate::wire::{Header, Line};

/// A view that is so late is brought up to now by leaving lines out.
const LATE_LIMIT: Duration = Duration::from_secs(2);

/// What the thread works with.
pub struct Engine {
    /// The view.
    pub settings: Arc<Settings>,
    /// Where lines go.
    pub outbox: Arc<Outbox>,
    /// Where the header goes once the source is open.
    pub header: watch::Sender<Option<Header>>,
    /// Told when the source is open.
    pub readiness: Arc<Readiness>,
    /// Counts.
    pub metrics: Metrics,
    /// Told when the source is open, or cannot be.
    pub steps: Arc<Steps>,
    /// The thread ends when the other side is dropped.
    pub stop: Receiver<()>,
}

impl Engine {
    /// Starts the thread. The answer comes when a recording played once is over (Ok), or when the source
    /// cannot be used; it is dropped without a word when the thread was stopped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self) -> Result<oneshot::Receiver<Result<(), AnalyzerError>>, AnalyzerError> {
        let (done, answer) = oneshot::channel();
        let log = tracing::Span::current();
        // A thread of its own and no task: the runtime would wait for it at the end.
        std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || {
                let _ = done.send(log.in_scope(|| self.run()));
            })
            .map_err(|source| AnalyzerError::Start { what: "starting a thread", source })?;
        Ok(answer)
    }

    fn run(self) -> Result<(), AnalyzerError> {
        let geometry = &self.settings.geometry;
        let began = SystemTime::now();
        let opened = open(&self.settings);
        self.steps.once("open source", began, opened.as_ref().err().map(AnalyzerError::reason));
        let source = opened?;
        self.header.send_replace(Some(header(&self.settings, &source.description())));
        self.readiness.source_open();
        let clock = Clock::start(&source, geometry);
        let mut maker = LineMaker::new(source, geometry.clone(), clock.origin);
        let mut index = 0;
        while let Some((start, end)) = maker.span(index) {
            let due = clock.due(geometry, index);
            match self.stop.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            // The past waits: what is played late is whole all the same.
            if due.elapsed() > LATE_LIMIT && maker.source().history().is_none() {
                let current = clock.current(geometry).max(index + 1);
                tracing::warn!(lines = current - index, "too slow for real time: lines left out");
                self.metrics.skipped.inc_by(current - index);
                self.metrics.dropped.inc_by(current - index);
                index = current;
                continue;
            }
            let begun = Instant::now();
            let mut intensities = self.outbox.buffer(maker.line_len());
            let (db_min, db_max) = maker.line(start, &mut intensities)?;
            self.metrics.compute.observe(begun.elapsed().as_secs_f64());
            let (start_us, end_us) = clock.times(maker.source(), start, end);
            // The publisher fills dropped_total in: it is to be true when the line leaves.
            self.outbox.push(Line { index, start_us, end_us, db_min, db_max, intensities, dropped_total: 0 });
            index += 1;
        }
        Ok(())
    }
}

fn open(settings: &Settings) -> Result<Source, AnalyzerError> {
    let Settings { spec, source, geometry, .. } = settings;
    Ok(match (spec.start_time, spec.end_time) {
        (Some(start), Some(end)) => Source::open_past(source, geometry, start, end)?,
        _ => Source::open(source, geometry.channels.clone(), geometry.nfft)?,
    })
}

/// Which sample belongs to which moment.
struct Clock {
    rate_hz: f64,
    /// How many times as fast as it happened the source is played.
    speed: f64,
    /// Index, within the source, of the view's first sample.
    origin: u64,
    /// Time of that sample, µs since the Unix epoch.
    origin_us: f64,
    /// When the first window was complete: a view begins with it, instead of waiting for it.
    begun: Instant,
}

impl Clock {
    fn start(source: &Source, geometry: &Geometry) -> Self {
        let rate_hz = geometry.rate_hz;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let first = (now - geometry.nfft as f64 / rate_hz) * rate_hz;
        Self {
            rate_hz,
            speed: source.history().map_or(1.0, |history| history.speed),
            origin: source.first_sample(first.round() as u64),
            origin_us: first.round() / rate_hz * 1e6,
            begun: Instant::now(),
        }
    }

    /// When a line can be computed: when the last sample of its window is there.
    fn due(&self, geometry: &Geometry, index: u64) -> Instant {
        self.begun + Duration::from_secs_f64(geometry.line_start(index) as f64 / self.rate_hz / self.speed)
    }

    /// The newest line that can be computed now.
    fn current(&self, geometry: &Geometry) -> u64 {
        (self.begun.elapsed().as_secs_f64() / geometry.lines_dt_s) as u64
    }

    /// The times of a window's first sample and of its end, µs since the Unix epoch.
    fn times(&self, source: &Source, start: u64, end: u64) -> (i64, i64) {
        match source.history() {
            Some(history) => {
                let start_us = history.time_us(start);
                (start_us, start_us + ((end - start) as f64 / self.rate_hz * 1e6).round() as i64)
            }
            None => (self.micros(start), self.micros(end)),
        }
    }

    /// The time of a live source's sample, µs since the Unix epoch.
    fn micros(&self, sample: u64) -> i64 {
        (self.origin_us + (sample - self.origin) as f64 / self.rate_hz * 1e6).round() as i64
    }
}

fn header(settings: &Settings, described: &Description) -> Header {
    Header {
        dtype: described.dtype.clone(),
        source_description: described.text.clone(),
        ..Header::of(&settings.job_uid, &settings.spec, &settings.source)
    }
}
