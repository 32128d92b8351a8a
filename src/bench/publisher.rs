//! Publishes the lines of one job when they are due, as the job's analyzer would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::jiff::Timestamp;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use prost::Message;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::arrivals::Arrivals;
use super::spread::Spread;
use super::view::{self, Lines};
use crate::api::{AnalyzerSource, FocusJob, names};

/// How many lines back their times are remembered: far more than the server keeps for a reader.
const REMEMBERED: usize = 1 << 14;
/// How long one message may take to be handed to the broker.
const CALL: Duration = Duration::from_secs(30);

/// When each of a job's newest lines was published.
pub struct Clock {
    origin: Instant,
    micros: Vec<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        let micros = std::iter::repeat_with(AtomicU64::default).take(REMEMBERED).collect();
        Self { origin: Instant::now(), micros }
    }
}

impl Clock {
    /// Line `index` is published at `now`.
    fn note(&self, index: u64, now: Instant) {
        let micros = (now - self.origin).as_micros();
        self.slot(index).store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long before `now` line `index` was published.
    pub fn since(&self, index: u64, now: Instant) -> Duration {
        let then = Duration::from_micros(self.slot(index).load(Ordering::Relaxed));
        (now - self.origin).saturating_sub(then)
    }

    fn slot(&self, index: u64) -> &AtomicU64 {
        &self.micros[index as usize % REMEMBERED]
    }
}

/// A job, its source, and when its lines were published.
pub struct StreamJob {
    /// Its id.
    pub id: String,
    /// As the API server has it.
    pub object: FocusJob,
    /// The source that its pool declares.
    pub source: AnalyzerSource,
    /// When its lines were published.
    pub clock: Clock,
}

/// The analyzer of one job.
pub struct Publisher {
    /// The job.
    pub job: Arc<StreamJob>,
    /// To the broker.
    pub channel: Channel,
    /// How long after they were due lines were published.
    pub lag: Arc<Spread>,
    /// Each line of this number is left out.
    pub leave_out: Option<u64>,
}

/// How many lines a publisher brought to the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Lines that were due.
    pub due: u64,
    /// Those of them that were left out on purpose.
    pub left_out: u64,
}

impl Publisher {
    /// Publishes the header.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn header(&self) -> anyhow::Result<()> {
        self.send(&view::header(&self.job.object, &self.job.source).encode_to_vec()).await
    }

    /// Publishes `count` lines, each when it is due, or fewer when `stop` comes first.
    ///
    /// # Errors
    /// When the broker does not take them.
    pub async fn lines(
        &self,
        arrivals: Arrivals,
        count: u64,
        stop: &CancellationToken,
    ) -> anyhow::Result<Published> {
        let first_us = Timestamp::now().as_microsecond();
        let mut lines = Lines::new(&self.job.object, &self.job.source, first_us);
        let (mut published, mut message) = (Published::default(), Vec::new());
        for index in 0..count {
            let Some(due) = stop.run_until_cancelled(arrivals.wait(index)).await else { break };
            published.due += 1;
            if self.leave_out.is_some_and(|number| (index + 1).is_multiple_of(number)) {
                published.left_out += 1;
                continue;
            }
            message.clear();
            lines.frame(index).encode(&mut message)?;
            let now = Instant::now();
            self.lag.add(index as usize, now - due);
            self.job.clock.note(index, now);
            self.send(&message).await?;
        }
        Ok(published)
    }

    async fn send(&self, message: &[u8]) -> anyhow::Result<()> {
        /// AMQP's delivery mode of messages that are not written to disk.
        const TRANSIENT: u8 = 1;
        let queue = ShortString::from(names::queue_name(&self.job.object));
        let properties = BasicProperties::default().with_delivery_mode(TRANSIENT);
        let options = BasicPublishOptions::default();
        let publish = self.channel.basic_publish(ShortString::default(), queue, options, message, properties);
        let what = || format!("publishing a line of job {}", self.job.id);
        timeout(CALL, publish).await.with_context(what)?.map(drop).with_context(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_tells_how_long_ago() {
        let clock = Clock::default();
        let at = |millis| clock.origin + Duration::from_millis(millis);
        for (index, millis) in [(0, 5), (1, 10), (REMEMBERED as u64, 20)] {
            clock.note(index, at(millis));
            assert_eq!(clock.since(index, at(millis + 3)), Duration::from_millis(3));
        }
        assert_eq!(clock.since(1, at(40)), Duration::from_millis(30));
        // The slot of line 0 has been taken.
        assert_eq!(clock.since(0, at(40)), Duration::from_millis(20));
    }
}
