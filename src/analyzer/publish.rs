//! The task that brings header, lines and end to the job's queue, through every failure of the broker.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use prost::Message;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};

use super::flight::{Flight, Kind};
use super::metrics::Metrics;
use super::outbox::{Next, Outbox};
use super::readiness::Readiness;
use crate::backoff::Backoff;
use crate::broker::Address;
use crate::broker::address::ConnectError;
use crate::broker::connection::LiveConnection;
use crate::telemetry::traces::Steps;
use crate::wire::{End, Frame, Header, Line, frame};

/// A consumer which attaches late waits no longer for the header.
const HEADER_PERIOD: Duration = Duration::from_millis(500);
/// Longest wait for channel and confirm mode together.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for the broker's confirm of the first header.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);
/// A session that lasted so long was a good one: the next attempt comes soon.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// Why a session with the broker ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the broker opened no channel within {} s", OPEN_LIMIT.as_secs())]
    OpenTimeout,
    #[error("the broker confirmed no message for {} s", CONFIRM_LIMIT.as_secs())]
    ConfirmTimeout,
    #[error("{doing}: {source}")]
    Broker { doing: &'static str, source: lapin::Error },
    #[error("the queue is gone")]
    QueueGone,
}

fn broker(doing: &'static str) -> impl Fn(lapin::Error) -> SessionError {
    move |source| SessionError::Broker { doing, source }
}

async fn open(connection: &LiveConnection) -> Result<Channel, SessionError> {
    let channel = connection.open_channel().await.map_err(broker("opening a channel"))?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(broker("asking for confirms"))?;
    Ok(channel)
}

/// What the task works with.
pub struct Publisher {
    /// Where the broker is, with its credentials.
    pub broker: Address,
    /// The queue, which the operator declares.
    pub queue: ShortString,
    /// The job, for the broker's list of connections.
    pub job: String,
    /// Where lines come from.
    pub outbox: Arc<Outbox>,
    /// The header, once the source is open.
    pub header: watch::Receiver<Option<Header>>,
    /// Told whether the queue can be reached.
    pub readiness: Arc<Readiness>,
    /// Counts.
    pub metrics: Metrics,
    /// When the analyzer started.
    pub started: Instant,
    /// Told of the steps to the first line.
    pub steps: Arc<Steps>,
    /// When the analyzer started, by the wall clock.
    pub began: SystemTime,
}

impl Publisher {
    /// Publishes until the end is confirmed, however long the broker is away.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            let begun = Instant::now();
            let Err(error) = self.session().await else { return };
            tracing::warn!(%error, "session with the broker ended");
            self.readiness.broker_awaited(format!("the broker: {error}"));
            self.metrics.reconnects.inc();
            if begun.elapsed() > GOOD_SESSION {
                backoff.reset();
            }
            sleep(backoff.pause()).await;
        }
    }

    async fn session(&mut self) -> Result<(), SessionError> {
        let began = SystemTime::now();
        let connection = self.broker.connect(&format!("focus analyzer {}", self.job)).await?;
        let channel =
            timeout(OPEN_LIMIT, open(&connection)).await.map_err(|_| SessionError::OpenTimeout)??;
        self.steps.once("connect", began, None);
        let connected = SystemTime::now();
        let header = self.encoded_header().await;
        self.await_queue(&channel, &header).await?;
        self.steps.once("first header", connected, None);
        let mut flight = Flight::default();
        let outcome = self.stream(&channel, &header, &mut flight).await;
        // What was not confirmed may or may not have arrived; nobody is told that it did.
        self.metrics.dropped.inc_by(flight.lines());
        outcome?;
        let _ = timeout(HEADER_PERIOD, connection.close(200, "finished".into())).await;
        Ok(())
    }

    async fn encoded_header(&mut self) -> Vec<u8> {
        let header = self.header.wait_for(Option::is_some).await.ok().and_then(|header| header.clone());
        let Some(header) = header else {
            // The source could not be opened: the analyzer is about to exit, and says why itself.
            return std::future::pending().await;
        };
        Frame { kind: Some(frame::Kind::Header(header)) }.encode_to_vec()
    }

    /// Publishes headers until one is not returned: then the queue is there. The operator makes pod and queue
    /// at the same moment, so the first attempts follow each other closely. Unlike a passive declaration, a
    /// returned message leaves the channel open.
    async fn await_queue(&self, channel: &Channel, header: &[u8]) -> Result<(), SessionError> {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(250));
        loop {
            let confirm = self.publish(channel, Kind::Header, header).await?;
            let confirmation = timeout(CONFIRM_LIMIT, confirm)
                .await
                .map_err(|_| SessionError::ConfirmTimeout)?
                .map_err(broker("publishing the header"))?;
            if let Confirmation::Ack(None) = confirmation {
                self.readiness.confirmed();
                return Ok(());
            }
            self.readiness.broker_awaited(format!("queue {}: not declared", self.queue));
            sleep(backoff.pause()).await;
        }
    }

    async fn stream(
        &self,
        channel: &Channel,
        header: &[u8],
        flight: &mut Flight,
    ) -> Result<(), SessionError> {
        let mut encoded = Vec::new();
        let mut ticks = interval_at(tokio::time::Instant::now() + HEADER_PERIOD, HEADER_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = flight.has_room();
            tokio::select! {
                biased;
                Some((kind, outcome)) = flight.next() => self.confirmed(kind, outcome)?,
                _ = ticks.tick(), if room => {
                    flight.add(Kind::Header, header.len(), self.publish(channel, Kind::Header, header).await?);
                }
                next = self.outbox.next(), if room => match next {
                    Next::Line(line) => self.send_line(channel, line, &mut encoded, flight).await?,
                    Next::End(end) => return self.finish(channel, end, flight).await,
                },
            }
        }
    }

    async fn send_line(
        &self,
        channel: &Channel,
        mut line: Line,
        encoded: &mut Vec<u8>,
        flight: &mut Flight,
    ) -> Result<(), SessionError> {
        line.dropped_total = self.metrics.dropped.get();
        let frame = Frame { kind: Some(frame::Kind::Line(line)) };
        encoded.clear();
        frame.encode(encoded).expect("a vector grows as needed");
        if let Some(frame::Kind::Line(line)) = frame.kind {
            self.outbox.give_back(line.intensities);
        }
        match self.publish(channel, Kind::Line, encoded).await {
            Ok(confirm) => flight.add(Kind::Line, encoded.len(), confirm),
            Err(error) => {
                self.metrics.dropped.inc();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sends the end and waits until everything is confirmed.
    async fn finish(&self, channel: &Channel, end: End, flight: &mut Flight) -> Result<(), SessionError> {
        let message = Frame { kind: Some(frame::Kind::End(end)) }.encode_to_vec();
        flight.add(Kind::End, message.len(), self.publish(channel, Kind::End, &message).await?);
        while let Some((kind, outcome)) = flight.next().await {
            self.confirmed(kind, outcome)?;
        }
        Ok(())
    }

    /// Sends a message. Headers and the end come back when there is no queue; lines, which are large, do not.
    async fn publish(
        &self,
        channel: &Channel,
        kind: Kind,
        message: &[u8],
    ) -> Result<lapin::PublisherConfirm, SessionError> {
        /// AMQP's delivery mode of messages that are not written to disk.
        const TRANSIENT: u8 = 1;
        let options = BasicPublishOptions { mandatory: kind != Kind::Line, immediate: false };
        let properties = BasicProperties::default().with_delivery_mode(TRANSIENT);
        channel
            .basic_publish(ShortString::default(), self.queue.clone(), options, message, properties)
            .await
            .map_err(broker("publishing"))
    }

    fn confirmed(&self, kind: Kind, outcome: lapin::Result<Confirmation>) -> Result<(), SessionError> {
        let confirmation = outcome.map_err(broker("awaiting a confirm"))?;
        let acknowledged = matches!(confirmation, Confirmation::Ack(None));
        match kind {
            Kind::Line if acknowledged => {
                if self.metrics.published.get() == 0 {
                    let seconds = self.started.elapsed().as_secs_f64();
                    self.steps.once("first line", self.began, None);
                    tracing::info!(seconds, queue = %self.queue, "first line published");
                }
                self.metrics.published.inc();
            }
            Kind::Line => self.metrics.dropped.inc(),
            Kind::Header if !acknowledged => return Err(SessionError::QueueGone),
            // Nobody is left to hear an end that comes back.
            Kind::Header | Kind::End => {}
        }
        self.readiness.confirmed();
        Ok(())
    }
}
