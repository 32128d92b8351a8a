//! The broker, as the floor and the load generator use it: with a deadline on every call. The URL holds a
//! password and is in no message.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::time::{Instant, timeout};

use super::args::Options;

/// How long one call to the broker may take.
const CALL: Duration = Duration::from_secs(10);

/// Where the broker is.
#[derive(Clone)]
pub struct BrokerUrl(AMQPUri);

impl BrokerUrl {
    /// The URL from FOCUS_BROKER_URL, or else from `--broker-url-file`; None when there is neither.
    ///
    /// # Errors
    /// When the file cannot be read or holds no amqp URL.
    pub async fn find(args: &Options) -> anyhow::Result<Option<Self>> {
        let (text, from) = match (std::env::var("FOCUS_BROKER_URL"), &args.broker_url_file) {
            (Ok(url), _) if !url.is_empty() => (url, "FOCUS_BROKER_URL".to_owned()),
            (_, Some(file)) => {
                let text = tokio::fs::read_to_string(file).await;
                (text.with_context(|| format!("reading the broker's URL from {}", file.display()))?, {
                    file.display().to_string()
                })
            }
            (_, None) => return Ok(None),
        };
        match text.trim().parse() {
            Ok(uri) => Ok(Some(Self(uri))),
            // The parser's own message may repeat the URL.
            Err(_) => bail!("{from} holds no URL such as amqp://user:password@host:5672/%2f"),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// When the broker refuses or does not answer.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let properties = ConnectionProperties::default().with_connection_name("focus probe".into());
        let authority = &self.0.authority;
        let what = format!("connecting to the broker at {}:{}", authority.host, authority.port);
        bounded(&what, Connection::connect_uri(self.0.clone(), properties)).await
    }
}

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
pub async fn queue_floor(url: &BrokerUrl, samples: u32) -> anyhow::Result<QueueFloor> {
    let connection = url.connect().await?;
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
