//! The broker, as the floor and the load generator use it: with a deadline on every call. The URL holds a
//! password and is in no message.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::time::{Instant, timeout};

use crate::broker::Address;

/// How long one call to the broker may take.
const CALL: Duration = Duration::from_secs(10);

/// `call` with a deadline; errors say `what` was tried.
///
/// # Errors
/// When the call fails, or takes longer than 10 s.
pub async fn bounded<T>(what: &str, call: impl Future<Output = lapin::Result<T>>) -> anyhow::Result<T> {
    match timeout(CALL, call).await {
        Ok(answer) => answer.with_context(|| what.to_owned()),
        Err(_) => bail!("{what}: the broker gave no answer within {} s", CALL.as_secs()),
    }
}

/// What bare queues cost, s.
#[derive(Default)]
pub struct QueueFloor {
    /// queue.declare of a durable classic queue until declare-ok.
    pub declare: Vec<f64>,
    /// basic.consume until consume-ok.
    pub consume: Vec<f64>,
}

/// Declares and consumes `samples` queues one after the other, and deletes them.
///
/// # Errors
/// When the broker refuses or does not answer.
pub async fn queue_floor(broker: &Address, samples: u32) -> anyhow::Result<QueueFloor> {
    let connection = broker.connect(super::NAME).await?;
    let channel = bounded("opening a channel", connection.create_channel()).await?;
    // Should this process be killed, the broker itself takes the queues away.
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(60_000));
    let (run, mut floor) = (rand::random::<u32>(), QueueFloor::default());
    for i in 0..samples {
        let queue: ShortString = format!("focus.probe.{run:08x}.{i}").into();
        let start = Instant::now();
        let declare = channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments.clone());
        bounded("declaring a bare queue", declare).await?;
        let declared = Instant::now();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consume = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
        let consumer = bounded("consuming a bare queue", consume).await?;
        let consuming = Instant::now();
        bounded("deleting a bare queue", channel.queue_delete(queue, QueueDeleteOptions::default())).await?;
        drop(consumer);
        floor.declare.push((declared - start).as_secs_f64());
        floor.consume.push((consuming - declared).as_secs_f64());
    }
    bounded("closing the connection", connection.close(200, "OK".into())).await?;
    Ok(floor)
}
