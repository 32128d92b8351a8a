//! Follows the broker's events: snapshot, events, resync; polling without them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use lapin::Consumer;
use lapin::message::Delivery;
use rand::RngExt;
use tokio::sync::mpsc;

use super::book::{BrokerState, Followup};
use super::handle::{BrokerHandle, Link};
use super::look::Looker;
use super::metrics::Operation;
use crate::backoff::jittered;
use crate::broker::connection::LiveConnection;
use crate::broker::events;
use crate::broker::keep::Session;

/// Without events: between two looks while a job waits, and while none does.
const POLL_WAITING: Duration = Duration::from_millis(100);
const POLL_QUIET: Duration = Duration::from_secs(5);

/// The session behind a [`super::Broker`].
pub(super) struct Watch<O> {
    pub(super) handle: BrokerHandle<O>,
    pub(super) news: mpsc::Sender<O>,
}

impl<O: Clone + Send + Sync + 'static> Session for Watch<O> {
    async fn hold(&mut self, connection: Arc<LiveConnection>) -> String {
        let vhost = connection.status().vhost().to_string();
        let events = events::subscribe(&connection, &events::KEYS).await;
        self.show_mode(events.as_ref().err());
        self.connected(connection.clone()).await;
        match events {
            // Looks take their time; the events must not wait for them.
            Ok(consumer) => tokio::select! {
                why = self.follow(consumer, &vhost) => why,
                why = self.verify_and_resync(&connection) => why,
            },
            Err(_) => self.poll(&connection).await,
        }
    }

    async fn lost(&mut self, why: String) {
        self.handle.book().forget_all();
        let state = BrokerState::Disconnected(why);
        self.handle.shared.link.send_replace(Link { state, connection: None, channel: None });
        let was = self.handle.shared.metrics.connected.get();
        self.handle.shared.metrics.connected.set(0);
        if was == 1 {
            self.tell_all().await;
        }
    }
}

impl<O: Clone + Send + Sync + 'static> Watch<O> {
    fn show_mode(&self, without_events: Option<&String>) {
        let mode = if without_events.is_none() { "events" } else { "polling" };
        self.handle.shared.metrics.show_mode(mode);
        match without_events {
            None => tracing::info!(mode, "connected to the broker; consumers are seen by its events"),
            Some(why) => {
                tracing::warn!(mode, %why, "connected to the broker, but without its events: queues are polled; enable the plugin rabbitmq_event_exchange and allow reading amq.rabbitmq.event")
            }
        }
    }

    /// Takes in the events of `consumer` until there are no more.
    async fn follow(&self, mut consumer: Consumer, vhost: &str) -> String {
        loop {
            match consumer.next().await {
                Some(Ok(delivery)) => self.take(&delivery, vhost).await,
                Some(Err(error)) => return error.to_string(),
                None => return "the broker ended the event subscription".to_owned(),
            }
        }
    }

    /// Looks at the queues that events have put in doubt, and at all of them now and then.
    async fn verify_and_resync(&self, connection: &LiveConnection) -> String {
        let mut looker = Looker::new(connection);
        let mut resync = Box::pin(tokio::time::sleep(resync_pause()));
        loop {
            let queues = tokio::select! {
                () = self.handle.shared.doubts.notified() => self.handle.book().take_doubts(),
                () = &mut resync => {
                    resync.set(tokio::time::sleep(resync_pause()));
                    self.handle.book().tracked()
                }
            };
            if let Err(why) = self.look_at(&mut looker, queues).await {
                return why;
            }
        }
    }

    /// Looks at every queue, often while one waits for a consumer.
    async fn poll(&self, connection: &LiveConnection) -> String {
        let mut looker = Looker::new(connection);
        loop {
            let tracked = self.handle.book().tracked();
            if let Err(why) = self.look_at(&mut looker, tracked).await {
                return why;
            }
            let waiting = self.handle.book().any_waiting();
            tokio::time::sleep(jittered(if waiting { POLL_WAITING } else { POLL_QUIET })).await;
        }
    }

    async fn take(&self, delivery: &Delivery, vhost: &str) {
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
                Followup::Verify => self.handle.shared.doubts.notify_one(),
            }
        }
    }

    async fn look_at(&self, looker: &mut Looker<'_>, queues: Vec<String>) -> Result<(), String> {
        for queue in queues {
            let Some(before) = self.handle.book().revision(&queue) else { continue };
            let begun = Instant::now();
            let found = looker.look(&queue).await;
            self.handle.shared.metrics.answered(Operation::Look, begun, &found);
            let found = found.map_err(|error| error.to_string())?;
            let news = self.handle.book().looked(&queue, before, found, Timestamp::now());
            match news {
                None => self.handle.shared.doubts.notify_one(),
                Some(true) => self.tell(&queue).await,
                Some(false) => {}
            }
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

    async fn connected(&self, connection: Arc<LiveConnection>) {
        let channel = connection.open_channel().await.ok();
        self.handle.shared.link.send_replace(Link {
            state: BrokerState::Connected,
            connection: Some(connection),
            channel,
        });
        self.handle.shared.metrics.connected.set(1);
        self.tell_all().await;
    }

    async fn tell_all(&self) {
        let tracked = self.handle.book().tracked();
        for queue in tracked {
            self.tell(&queue).await;
        }
    }
}

fn resync_pause() -> Duration {
    Duration::from_secs_f64(rand::rng().random_range(10.0..30.0))
}
