//! A fake consumer: attaches to each job's queue when the broker tells that the queue was created.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::AT_ONCE;
use crate::broker::connection::LiveConnection;
use crate::broker::{Address, events};
use crate::probe::broker::bounded;

/// Most channels over all connections.
const CHANNELS: usize = 1000;
/// How many connections share them; RabbitMQ allows 2047 channels on each.
const CONNECTIONS: usize = 4;

/// What happened to one queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueTimes {
    /// When the event `queue.created` arrived.
    pub created: Instant,
    /// When consume-ok arrived: on our clocks, monotonic and wall.
    pub consuming: Option<(Instant, Timestamp)>,
}

type Times = Arc<Mutex<HashMap<String, QueueTimes>>>;

/// The running fake consumers; end when dropped.
pub struct Consumers {
    times: Times,
    task: AbortHandle,
    // Dropped after the task: a connection closes when its last handle is dropped.
    _connections: Vec<LiveConnection>,
}

impl Drop for Consumers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Consumers {
    /// Connects, opens channels for `jobs` queues and binds to the events; so that no event is missed, this is
    /// done before the first job is created.
    ///
    /// # Errors
    /// When the broker refuses; without the plugin, the exchange is missing.
    pub async fn start(broker: &Address, namespace: &str, jobs: usize) -> anyhow::Result<Self> {
        let mut connections = vec![broker.connect(crate::probe::NAME).await?];
        let events = events::subscribe(&connections[0], &[events::QUEUE_CREATED])
            .await
            .map_err(|why| anyhow!("following the broker's events: {why}; enable rabbitmq_event_exchange"))?;
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS.min(jobs) {
            connections.push(broker.connect(crate::probe::NAME).await?);
        }
        let workers = &connections[1..];
        for i in 0..jobs.min(CHANNELS) {
            channels.push(bounded("opening a channel", workers[i % workers.len()].create_channel()).await?);
        }
        let times = Times::default();
        let prefix = format!("focus.{namespace}.");
        let task = tokio::spawn(follow(events, prefix, channels, times.clone())).abort_handle();
        Ok(Self { times, task, _connections: connections })
    }

    /// What happened to the queue `name`.
    pub fn get(&self, name: &str) -> Option<QueueTimes> {
        locked(&self.times, |times| times.get(name).copied())
    }
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}

async fn follow(mut events: Consumer, prefix: String, channels: Vec<Channel>, times: Times) {
    let (permits, kept) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Mutex::new(Vec::new())));
    let mut next = 0;
    while let Some(event) = events.next().await {
        let created = Instant::now();
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!("the broker's events ended: {error}");
                return;
            }
        };
        let Some(queue) = queue_name(&event).filter(|q| q.starts_with(&prefix)) else { continue };
        locked(&times, |t| t.insert(queue.clone(), QueueTimes { created, consuming: None }));
        let (channel, times) = (channels[next % channels.len()].clone(), times.clone());
        let (permits, kept) = (permits.clone(), kept.clone());
        next += 1;
        tokio::spawn(async move {
            let _permit = permits.acquire_owned().await;
            match bounded(&format!("consuming {queue}"), consume(&channel, &queue)).await {
                Ok(consumer) => {
                    let now = (Instant::now(), Timestamp::now());
                    locked(&times, |t| {
                        t.entry(queue).and_modify(|q| q.consuming = Some(now));
                    });
                    // A dropped consumer would be cancelled.
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(consumer);
                }
                Err(error) => tracing::warn!("{error:#}"),
            }
        });
    }
}

fn queue_name(event: &Delivery) -> Option<String> {
    match event.properties.headers().as_ref()?.inner().get("name")? {
        AMQPValue::LongString(name) => Some(String::from_utf8_lossy(name.as_bytes()).into_owned()),
        AMQPValue::ShortString(name) => Some(name.to_string()),
        _ => None,
    }
}

fn locked<T>(times: &Times, act: impl FnOnce(&mut HashMap<String, QueueTimes>) -> T) -> T {
    act(&mut times.lock().unwrap_or_else(PoisonError::into_inner))
}
