//! Keeps the connection alive and follows the broker's events: snapshot, events, resync; polling without them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, Consumer};
use rand::RngExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::book::{BrokerState, Followup};
use super::connection::{BrokerHandle, Link};
use super::tls::BrokerTls;
use super::{events, queues};

/// How long one attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The broker's events that may wait for us; more are dropped, and the resync makes up for them.
const EVENT_BACKLOG: i32 = 100_000;
/// Without events: between two looks while a job waits, and while none does.
const POLL_WAITING: Duration = Duration::from_millis(100);
const POLL_QUIET: Duration = Duration::from_secs(5);

/// The task behind a [`super::Broker`].
pub(super) struct Watch<O> {
    handle: BrokerHandle<O>,
    url: String,
    tls: BrokerTls,
    news: mpsc::Sender<O>,
}

/// Why a connection was left.
enum Left {
    Stopped,
    Lost(String),
}

impl<O: Clone + Send + Sync + 'static> Watch<O> {
    pub(super) fn new(handle: BrokerHandle<O>, url: String, tls: BrokerTls, news: mpsc::Sender<O>) -> Self {
        Self { handle, url, tls, news }
    }

    /// Connects, follows, and connects again, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let started = tokio::time::Instant::now();
            let left = tokio::select! {
                left = self.session(&stop) => left,
                () = stop.cancelled() => Left::Stopped,
            };
            let Left::Lost(why) = left else { break };
            tracing::warn!(%why, "the broker cannot be reached; trying again");
            self.disconnected(why).await;
            failures = if started.elapsed() > LONGEST_PAUSE { 0 } else { failures + 1 };
            let pause = pause_after(failures);
            tokio::select! { () = tokio::time::sleep(pause) => {}, () = stop.cancelled() => break }
        }
        let connection = self.handle.shared.link.borrow().connection.clone();
        if let Some(connection) = connection {
            let _ =
                tokio::time::timeout(Duration::from_secs(1), connection.close(200, "shutting down".into()))
                    .await;
        }
    }

    async fn session(&self, stop: &CancellationToken) -> Left {
        let connection = match self.connect().await {
            Ok(connection) => Arc::new(connection),
            Err(why) => return Left::Lost(why),
        };
        let vhost = connection.status().vhost().to_string();
        let events = subscribe(&connection).await;
        let mode = if events.is_ok() { "events" } else { "polling" };
        for name in ["events", "polling"] {
            self.handle.shared.metrics.mode.with_label_values(&[name]).set(i64::from(name == mode));
        }
        match &events {
            Ok(_) => tracing::info!(mode, "connected to the broker; consumers are seen by its events"),
            Err(why) => {
                tracing::warn!(mode, %why, "connected to the broker, but without its events: queues are polled; enable the plugin rabbitmq_event_exchange and allow reading amq.rabbitmq.event")
            }
        }
        self.connected(connection.clone()).await;
        match events {
            Ok(consumer) => self.follow(&connection, consumer, &vhost, stop).await,
            Err(_) => self.poll(&connection, stop).await,
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let properties = ConnectionProperties::default().with_connection_name("focus-operator".into());
        // The parser's own words may repeat the address.
        let uri = self.url.parse().map_err(|_| "the broker's URL is no AMQP URL".to_owned())?;
        match tokio::time::timeout(CONNECT_WITHIN, self.tls.connect(uri, properties)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", CONNECT_WITHIN.as_secs())),
        }
    }

    /// Follows the events of `consumer`, with a resync now and then, until the connection is lost.
    async fn follow(
        &self,
        connection: &Connection,
        mut consumer: Consumer,
        vhost: &str,
        stop: &CancellationToken,
    ) -> Left {
        let mut resync = Box::pin(tokio::time::sleep(resync_pause()));
        loop {
            tokio::select! {
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => self.take(connection, &delivery, vhost).await,
                    Some(Err(error)) => return Left::Lost(error.to_string()),
                    None => return Left::Lost("the broker ended the event subscription".to_owned()),
                },
                () = &mut resync => {
                    if let Err(why) = self.look_at_all(connection).await {
                        return Left::Lost(why);
                    }
                    resync.set(tokio::time::sleep(resync_pause()));
                }
                () = stop.cancelled() => return Left::Stopped,
            }
        }
    }

    /// Looks at every queue, often while one waits for a consumer, until the connection is lost.
    async fn poll(&self, connection: &Connection, stop: &CancellationToken) -> Left {
        loop {
            if let Err(why) = self.look_at_all(connection).await {
                return Left::Lost(why);
            }
            let waiting = self.handle.book().any_waiting();
            let pause = jittered(if waiting { POLL_WAITING } else { POLL_QUIET });
            tokio::select! { () = tokio::time::sleep(pause) => {}, () = stop.cancelled() => return Left::Stopped }
        }
    }

    async fn take(&self, connection: &Connection, delivery: &Delivery, vhost: &str) {
        let Some(headers) = delivery.properties.headers() else { return };
        let Some(event) = events::parse(delivery.routing_key.as_str(), headers, vhost) else { return };
        let now = Timestamp::now();
        let followups = self.handle.book().apply(&event, now);
        if followups.is_empty() {
            return;
        }
        if let Some(at) = events::timestamp_ms(headers) {
            let lag = (now.as_millisecond() - at).max(0) as f64 / 1e3;
            self.handle.shared.metrics.lag.observe(lag);
        }
        for followup in followups {
            match followup {
                Followup::Tell(queue) => self.tell(&queue).await,
                Followup::Verify(queue) => {
                    // A failed look says nothing of the queue; a lost connection ends the event stream as well.
                    if let Err(why) = self.look_at(connection, &queue).await {
                        tracing::debug!(%why, "verifying a queue");
                    }
                }
            }
        }
    }

    async fn look_at_all(&self, connection: &Connection) -> Result<(), String> {
        let tracked = self.handle.book().tracked();
        for queue in tracked {
            self.look_at(connection, &queue).await?;
        }
        Ok(())
    }

    /// Asks for the true count of `queue` on a channel that a missing queue may close. A first zero proves
    /// nothing (a quorum queue without a leader answers it too), so it is read twice.
    async fn look_at(&self, connection: &Connection, queue: &str) -> Result<(), String> {
        let opened = tokio::time::timeout(queues::ANSWER_WITHIN, connection.create_channel()).await;
        let channel =
            opened.map_err(|_| "no channel in time".to_owned())?.map_err(|error| error.to_string())?;
        let mut found = queues::look(&channel, queue).await.map_err(|error| error.to_string())?;
        if found == Some(0) {
            found = queues::look(&channel, queue).await.map_err(|error| error.to_string())?;
        }
        if found.is_some() {
            let _ = channel.close(200, "looked".into()).await;
        }
        let news = match found {
            Some(consumers) => self.handle.book().found(queue, consumers, Timestamp::now()),
            None => self.handle.book().missing(queue),
        };
        if news {
            self.tell(queue).await;
        }
        Ok(())
    }

    async fn tell(&self, queue: &str) {
        let owner = self.handle.book().owner(queue);
        if let Some(owner) = owner {
            // The reader ends only when the whole role does.
            let _ = self.news.send(owner).await;
        }
    }

    async fn connected(&self, connection: Arc<Connection>) {
        let channel = connection.create_channel().await.ok();
        self.handle.shared.link.send_replace(Link {
            state: BrokerState::Connected,
            connection: Some(connection),
            channel,
        });
        self.handle.shared.metrics.connected.set(1);
        self.tell_all().await;
    }

    async fn disconnected(&self, why: String) {
        self.handle.book().forget_all();
        self.handle.shared.link.send_replace(Link {
            state: BrokerState::Disconnected(why),
            connection: None,
            channel: None,
        });
        let was = self.handle.shared.metrics.connected.get();
        self.handle.shared.metrics.connected.set(0);
        if was == 1 {
            self.tell_all().await;
        }
    }

    async fn tell_all(&self) {
        let tracked = self.handle.book().tracked();
        for queue in tracked {
            self.tell(&queue).await;
        }
    }
}

/// Subscribes to the broker's events with a queue of our own.
async fn subscribe(connection: &Connection) -> Result<Consumer, String> {
    let subscribed = async {
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(EVENT_BACKLOG));
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, arguments).await?.name().clone();
        for key in events::KEYS {
            let bind = channel.queue_bind(
                queue.clone(),
                events::EXCHANGE.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            bind.await?;
        }
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(queue, "focus-operator-events".into(), options, FieldTable::default()).await
    };
    match tokio::time::timeout(CONNECT_WITHIN, subscribed).await {
        Ok(Ok(consumer)) => Ok(consumer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn pause_after(failures: u32) -> Duration {
    jittered((Duration::from_millis(100) * 2_u32.saturating_pow(failures.min(8))).min(LONGEST_PAUSE))
}

fn resync_pause() -> Duration {
    Duration::from_secs_f64(rand::rng().random_range(10.0..30.0))
}

/// Between half of `pause` and the whole.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}
