//! The one connection to RabbitMQ, the news of new queues on it, and subscriptions. All AMQP of the server.

mod subscription;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, Consumer, Event};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use subscription::{Subscriber, Subscription};

use super::args::BrokerUrl;
use super::metrics::Metrics;
use super::retry::Retry;
use crate::broker::BrokerTls;
use crate::broker::tls::ConnectError;

/// Longest wait for one answer of the broker.
const CALL: Duration = Duration::from_secs(5);
/// Heartbeat that is asked for unless the address names one, s.
const HEARTBEAT_S: u16 = 10;
/// The exchange of plugin `rabbitmq_event_exchange`.
const EVENTS: &str = crate::broker::events::EXCHANGE;
/// How many names of new queues are remembered for those who ask a moment later.
const RECENT: usize = 512;
/// How often a broker that refused its events is asked for them again.
const EVENTS_AGAIN: Duration = Duration::from_secs(300);

/// Why the broker did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// The queue does not exist.
    #[error("the queue does not exist")]
    NoQueue,
    /// No answer in time.
    #[error("{0}: no answer from the broker within 5 s")]
    Timeout(&'static str),
    /// Refused or lost.
    #[error("{0}: {1}")]
    Amqp(&'static str, lapin::Error),
    /// The connection was lost.
    #[error("the connection to the broker was lost")]
    Lost,
    /// The address cannot be used; it is not shown, for it holds a password.
    #[error("{0}")]
    Address(String),
}

/// A live connection.
#[derive(Clone)]
pub struct Link {
    connection: Arc<Connection>,
    events: Arc<AtomicBool>,
}

/// Handle of the connection; cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    tls: BrokerTls,
    link: watch::Sender<Option<Link>>,
    problem: Mutex<String>,
    news: Mutex<News>,
    metrics: Metrics,
}

#[derive(Default)]
struct News {
    waiters: HashMap<String, Arc<Notify>>,
    recent: VecDeque<String>,
}

/// Tells of the creation of one queue, from the moment it is made until it is dropped.
pub struct Notice {
    inner: Arc<Inner>,
    queue: String,
    created: Arc<Notify>,
}

impl Link {
    /// Whether the broker tells of new queues.
    pub fn has_events(&self) -> bool {
        self.events.load(Ordering::Relaxed)
    }
}

impl Broker {
    /// A handle without a connection; [`Broker::run`] makes it.
    pub fn new(tls: BrokerTls, metrics: Metrics) -> Self {
        let (link, _) = watch::channel(None);
        let problem = Mutex::new("the server has not yet connected to the broker".to_owned());
        Self { inner: Arc::new(Inner { tls, link, problem, news: Mutex::default(), metrics }) }
    }

    /// Whether the broker is connected.
    pub fn connected(&self) -> bool {
        self.inner.link.borrow().is_some()
    }

    /// Why the broker is not connected.
    pub fn problem(&self) -> String {
        lock(&self.inner.problem).clone()
    }

    /// The connection, now and whenever it changes.
    pub fn links(&self) -> watch::Receiver<Option<Link>> {
        self.inner.link.subscribe()
    }

    /// From now on, news of the creation of `queue`; also of one created just before.
    pub fn notice(&self, queue: &str) -> Notice {
        let created = Arc::new(Notify::new());
        let mut news = lock(&self.inner.news);
        if news.recent.iter().any(|name| name == queue) {
            created.notify_one();
        }
        news.waiters.insert(queue.to_owned(), Arc::clone(&created));
        Notice { inner: Arc::clone(&self.inner), queue: queue.to_owned(), created }
    }

    /// Keeps a connection until `stop`, with growing and jittered pauses between failures.
    pub async fn run(self, url: BrokerUrl, identity: String, stop: CancellationToken) {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(10));
        while !stop.is_cancelled() {
            let problem = match connect(&url, &self.inner.tls, &identity).await {
                Ok(connection) => {
                    retry.reset();
                    self.hold(Arc::new(connection), &stop).await
                }
                Err(error) => error.to_string(),
            };
            if stop.is_cancelled() {
                return;
            }
            warn!(%problem, "the broker is not connected");
            *lock(&self.inner.problem) = problem;
            stop.run_until_cancelled(tokio::time::sleep(retry.next())).await;
        }
    }

    /// Offers `connection` until it is lost or `stop`; says why it ended.
    async fn hold(&self, connection: Arc<Connection>, stop: &CancellationToken) -> String {
        let mut happenings = Box::pin(connection.events_listener());
        let events = Arc::new(AtomicBool::new(false));
        let mut news = self.listen(&connection, &events).await;
        self.inner.metrics.broker_connected.set(1);
        info!(events = events.load(Ordering::Relaxed), "the broker is connected");
        self.inner
            .link
            .send_replace(Some(Link { connection: Arc::clone(&connection), events: Arc::clone(&events) }));
        let mut alive = tokio::time::interval(Duration::from_secs(1));
        let mut listen_again = tokio::time::interval(EVENTS_AGAIN);
        listen_again.reset();
        let problem = loop {
            tokio::select! {
                () = stop.cancelled() => {
                    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "OK".into())).await;
                    break "the server is shutting down".to_owned();
                }
                happening = happenings.next() => match happening {
                    Some(Event::Error(error)) if !connection.status().connected() => break error.to_string(),
                    Some(Event::ConnectionBlocked(reason)) => warn!(%reason, "the broker blocks publishers"),
                    Some(_) => {}
                    None => break "the connection has ended".to_owned(),
                },
                created = next_created(&mut news) => match created {
                    Some(queue) => self.inner.tell(queue),
                    None => {
                        news = None;
                        self.events(&events, false);
                        warn!("the broker no longer tells of new queues: asking again and again");
                    }
                },
                _ = listen_again.tick(), if news.is_none() => news = self.listen(&connection, &events).await,
                _ = alive.tick() => if !connection.status().connected() {
                    break "the connection was lost".to_owned();
                }
            }
        };
        self.events(&events, false);
        self.inner.metrics.broker_connected.set(0);
        self.inner.link.send_replace(None);
        problem
    }

    /// Binds to the broker's events. Without the plugin, or the right to it, there are none.
    async fn listen(&self, connection: &Connection, events: &AtomicBool) -> Option<Consumer> {
        match call("binding to the broker's events", bind(connection)).await {
            Ok(consumer) => {
                self.events(events, true);
                lock(&self.inner.news).waiters.values().for_each(|waiter| waiter.notify_one());
                Some(consumer)
            }
            Err(error) => {
                warn!(%error, "no news of queues from the broker: asking again and again. Enable the plugin \
                    rabbitmq_event_exchange and permit reading of amq.rabbitmq.event for less delay");
                None
            }
        }
    }

    fn events(&self, events: &AtomicBool, on: bool) {
        events.store(on, Ordering::Relaxed);
        self.inner.metrics.broker_events.set(i64::from(on));
    }
}

impl Inner {
    fn tell(&self, queue: String) {
        let mut news = lock(&self.news);
        if let Some(waiter) = news.waiters.get(&queue) {
            waiter.notify_one();
        }
        if news.recent.len() >= RECENT {
            news.recent.pop_front();
        }
        news.recent.push_back(queue);
    }
}

impl Notice {
    /// Returns when the queue has been created since the last call.
    pub async fn created(&self) {
        self.created.notified().await;
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        let mut news = lock(&self.inner.news);
        // A successor for the same queue may have taken the place.
        if news.waiters.get(&self.queue).is_some_and(|waiter| Arc::ptr_eq(waiter, &self.created)) {
            news.waiters.remove(&self.queue);
        }
    }
}

async fn connect(url: &BrokerUrl, tls: &BrokerTls, identity: &str) -> Result<Connection, BrokerError> {
    let address = url.read().await.map_err(|error| BrokerError::Address(format!("{error:#}")))?;
    // The parser's own words may repeat the address.
    let mut uri: AMQPUri = address.parse().map_err(|_| {
        BrokerError::Address(
            "the broker's address is not of the form amqp://user:password@host:port/vhost".to_owned(),
        )
    })?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    let properties = ConnectionProperties::default().with_connection_name(identity.into());
    let what = "connecting to the broker";
    match tokio::time::timeout(CALL, tls.connect(uri, properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(ConnectError::Amqp(error))) => Err(BrokerError::Amqp(what, error)),
        Ok(Err(ConnectError::Files(error))) => Err(BrokerError::Address(error.to_string())),
        Err(_) => Err(BrokerError::Timeout(what)),
    }
}

async fn bind(connection: &Connection) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let queue = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive().auto_delete(), FieldTable::default())
        .await?;
    let (name, options) = (queue.name().clone(), QueueBindOptions::default());
    channel
        .queue_bind(name.clone(), EVENTS.into(), "queue.created".into(), options, FieldTable::default())
        .await?;
    let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(name, "".into(), consume, FieldTable::default()).await
}

/// The name of the next queue that is created; None when there will be no more news.
async fn next_created(news: &mut Option<Consumer>) -> Option<String> {
    let Some(consumer) = news else { return std::future::pending().await };
    loop {
        let delivery = consumer.next().await?.ok()?;
        if let Some(name) = delivery.properties.headers().as_ref().and_then(|h| h.inner().get("name")) {
            let long = name.as_long_string().map(|s| String::from_utf8_lossy(s.as_bytes()).into_owned());
            if let Some(name) = long.or_else(|| name.as_short_string().map(|s| s.as_str().to_owned())) {
                return Some(name);
            }
        }
    }
}

async fn call<T>(
    what: &'static str,
    future: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(CALL, future).await {
        Ok(result) => result.map_err(|error| BrokerError::Amqp(what, error)),
        Err(_) => Err(BrokerError::Timeout(what)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
