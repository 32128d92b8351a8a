//! What the analyzer has sent: header, lines and farewell, as they are taken in.

use std::sync::Arc;

use prost::Message;
use tracing::{info, warn};

use super::{JobConsumer, Mismatch};
use crate::api::AnalyzerSource;
use crate::server::header;
use crate::server::lines::Pushed;
use crate::server::metrics::Dropped;
use crate::wire::{self, frame::Kind};

impl JobConsumer {
    /// Takes in one message.
    pub(super) fn take(
        &self,
        body: &[u8],
        redelivered: bool,
        source: &AnalyzerSource,
    ) -> Result<(), Mismatch> {
        match wire::Frame::decode(body).ok().and_then(|frame| frame.kind) {
            Some(Kind::Header(header)) => self.take_header(header, source),
            Some(Kind::Line(line)) => {
                self.take_line(line, redelivered);
                Ok(())
            }
            Some(Kind::End(end)) => {
                info!(reason = end.reason, "the analyzer has ended");
                self.job.with_feed(|feed| feed.ended = Some(end));
                Ok(())
            }
            None => {
                self.shared.metrics.drop_lines(Dropped::Malformed, 1);
                Ok(())
            }
        }
    }

    fn take_header(&self, header: wire::Header, source: &AnalyzerSource) -> Result<(), Mismatch> {
        if self.job.with_feed(|feed| feed.header.as_ref() == Some(&header)).unwrap_or(true) {
            return Ok(());
        }
        if let Some(words) = header::disagreement(&header, &self.job.uid, &self.job.spec, source) {
            self.job.step_of_consumer("first header", Some("HeaderMismatch"));
            return Err(Mismatch(words));
        }
        self.job.with_feed(|feed| feed.header = Some(header));
        self.job.step_of_consumer("first header", None);
        self.note_source(source);
        Ok(())
    }

    /// Notes `source`, by which the analyzer's header was found right, on a job that the server did not make: whoever
    /// takes it over reads it by that, whatever has become of the pool since.
    fn note_source(&self, source: &AnalyzerSource) {
        let Some(told) = source.told().filter(|_| !self.job.tells_source()) else { return };
        let (shared, job) = (Arc::clone(&self.shared), Arc::clone(&self.job));
        tokio::spawn(async move {
            if let Err(error) = shared.cluster.note_source(&job.name, &job.uid, &told).await {
                // The next header tries again.
                warn!(job = job.name, %error, "noting the job's source on it failed");
            }
        });
    }

    fn take_line(&self, line: wire::Line, redelivered: bool) {
        let metrics = &self.shared.metrics;
        metrics.lines.inc();
        match self.job.push(line, redelivered) {
            Some((Pushed::Kept { missing, evicted }, first)) => {
                metrics.drop_lines(Dropped::Gap, missing);
                metrics.drop_lines(Dropped::Memory, evicted);
                if first {
                    self.job.step_of_consumer("first line", None);
                }
                if let Some(received) = self.job.received.filter(|_| first) {
                    metrics.to_first_line.observe(received.elapsed().as_secs_f64());
                }
            }
            Some((Pushed::Malformed, _)) => metrics.drop_lines(Dropped::Malformed, 1),
            Some((Pushed::Repeated, _)) => metrics.repeated_lines.inc(),
            None => {}
        }
    }
}
