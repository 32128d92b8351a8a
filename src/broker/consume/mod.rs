//! Subscriptions to queues over one connection, the news of new queues on it, and looks at queues over another.

mod look;
mod subscription;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::Consumer;
use prometheus::IntGauge;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use look::Look;
pub use subscription::{Subscriber, Subscription};

use super::address::Address;
use super::connection::LiveConnection;
use super::events::{self, BrokerEvent};
use super::keep::{Session, keep};

/// Longest wait for one answer of the broker.
const CALL: Duration = Duration::from_secs(5);
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
    /// The broker could not be asked whether the queue exists.
    #[error("the broker cannot be asked whether the queue exists; it is asked again")]
    Unseen,
    /// Another consumer has the queue to itself.
    #[error("another consumer has the queue; this one waits until it is gone")]
    Taken,
    /// No answer in time.
    #[error("{0}: no answer from the broker within 5 s")]
    Timeout(&'static str),
    /// Refused or lost.
    #[error("{0}: {1}")]
    Amqp(&'static str, lapin::Error),
    /// The connection was lost.
    #[error("the connection to the broker was lost")]
    Lost,
    /// AMQP allows no such name.
    #[error("the name {0} is longer than 255 bytes")]
    NameTooLong(String),
}

/// A live connection.
#[derive(Clone)]
pub struct Link {
    connection: Arc<LiveConnection>,
    events: Arc<AtomicBool>,
}

/// What the connection tells the metrics.
#[derive(Clone)]
pub struct ConsumeMetrics {
    /// 1 while connected.
    pub connected: IntGauge,
    /// 1 while the broker tells of new queues.
    pub events: IntGauge,
}

/// Handle of the connection; cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    link: watch::Sender<Option<Link>>,
    looks: look::Looks,
    problem: Mutex<String>,
    news: Mutex<News>,
    metrics: ConsumeMetrics,
}

#[derive(Default)]
struct News {
    waiters: HashMap<String, Arc<Waiter>>,
    recent: VecDeque<String>,
}

/// What one who waits for a queue is told.
#[derive(Default)]
struct Waiter {
    created: Notify,
    unheard: Notify,
}

/// Tells of the creation of one queue, from the moment it is made until it is dropped.
pub struct Notice {
    inner: Arc<Inner>,
    queue: String,
    waiter: Arc<Waiter>,
}

impl Link {
    /// Whether the broker tells of new queues.
    pub fn has_events(&self) -> bool {
        self.events.load(Ordering::Relaxed)
    }
}

impl Broker {
    /// A handle without a connection; [`Broker::run`] makes it.
    pub fn new(metrics: ConsumeMetrics) -> Self {
        let (link, looks) = (watch::Sender::new(None), watch::Sender::new(None));
        let problem = Mutex::new("the server has not yet connected to the broker".to_owned());
        Self { inner: Arc::new(Inner { link, looks, problem, news: Mutex::default(), metrics }) }
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
        let waiter = Arc::new(Waiter::default());
        let mut news = lock(&self.inner.news);
        if news.recent.iter().any(|name| name == queue) {
            waiter.created.notify_one();
        }
        news.waiters.insert(queue.to_owned(), Arc::clone(&waiter));
        Notice { inner: Arc::clone(&self.inner), queue: queue.to_owned(), waiter }
    }

    /// Keeps two connections to `address`, under `name`, until `stop`.
    pub async fn run(self, address: Address, name: String, stop: CancellationToken) {
        let lending = look::Lending(self.clone());
        let looks = keep(address.clone(), format!("{name} (looks)"), lending, stop.clone());
        tokio::join!(keep(address, name, self, stop), looks);
    }

    /// Subscribes to the news of queues. Without the plugin, or the right to it, there are none.
    async fn listen(&self, connection: &LiveConnection, events: &AtomicBool) -> Option<Consumer> {
        match events::subscribe(connection, &[events::QUEUE_CREATED]).await {
            Ok(consumer) => {
                self.events(events, true);
                lock(&self.inner.news).waiters.values().for_each(|waiter| waiter.unheard.notify_one());
                Some(consumer)
            }
            Err(why) => {
                warn!(%why, "no news of queues from the broker: asking again and again. Enable the plugin \
                    rabbitmq_event_exchange and permit reading of amq.rabbitmq.event for less delay");
                None
            }
        }
    }

    fn events(&self, events: &AtomicBool, on: bool) {
        events.store(on, Ordering::Relaxed);
        self.inner.metrics.events.set(i64::from(on));
    }
}

impl Session for Broker {
    async fn hold(&mut self, connection: Arc<LiveConnection>) -> String {
        let vhost = connection.status().vhost().to_string();
        let events = Arc::new(AtomicBool::new(false));
        let mut news = self.listen(&connection, &events).await;
        self.inner.metrics.connected.set(1);
        info!(events = events.load(Ordering::Relaxed), "the broker is connected");
        let link = Link { connection: Arc::clone(&connection), events: Arc::clone(&events) };
        self.inner.link.send_replace(Some(link));
        let mut listen_again = tokio::time::interval(EVENTS_AGAIN);
        listen_again.reset();
        loop {
            tokio::select! {
                created = next_created(&mut news, &vhost) => match created {
                    Some(queue) => self.inner.tell(queue),
                    None => {
                        news = None;
                        self.events(&events, false);
                        warn!("the broker no longer tells of new queues: asking again and again");
                    }
                },
                _ = listen_again.tick(), if news.is_none() => news = self.listen(&connection, &events).await,
            }
        }
    }

    async fn lost(&mut self, why: String) {
        if let Some(link) = self.inner.link.send_replace(None) {
            self.events(&link.events, false);
        }
        self.inner.metrics.connected.set(0);
        *lock(&self.inner.problem) = why;
    }
}

impl Inner {
    fn tell(&self, queue: String) {
        let mut news = lock(&self.news);
        if let Some(waiter) = news.waiters.get(&queue) {
            waiter.created.notify_one();
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
        self.waiter.created.notified().await;
    }

    /// Returns when the queue may have been created unheard since the last call.
    pub async fn unheard(&self) {
        self.waiter.unheard.notified().await;
    }

    /// Forgets what it has told.
    pub fn clear(&self) {
        self.created().now_or_never();
        self.unheard().now_or_never();
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        let mut news = lock(&self.inner.news);
        // A successor for the same queue may have taken the place.
        if news.waiters.get(&self.queue).is_some_and(|waiter| Arc::ptr_eq(waiter, &self.waiter)) {
            news.waiters.remove(&self.queue);
        }
    }
}

/// The name of the next queue that is created; None when there will be no more news.
async fn next_created(news: &mut Option<Consumer>, vhost: &str) -> Option<String> {
    let Some(consumer) = news else { return std::future::pending().await };
    loop {
        let delivery = consumer.next().await?.ok()?;
        let headers = delivery.properties.headers().as_ref();
        let event = headers.and_then(|headers| events::parse(delivery.routing_key.as_str(), headers, vhost));
        if let Some(BrokerEvent::QueueCreated { queue }) = event {
            return Some(queue);
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
