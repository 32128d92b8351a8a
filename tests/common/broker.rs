//! The real broker, as a test sees it.

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use prost::Message;

use super::{from_env, until};

/// The broker's URL as this machine sees it.
pub fn url() -> String {
    read(&from_env("FOCUS_TEST_BROKER_URL_FILE"))
}

/// The broker's URL as pods see it.
pub fn url_for_pods() -> String {
    read(&from_env("FOCUS_TEST_BROKER_URL_PODS_FILE"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

pub struct TestBroker {
    url: String,
}

/// A consumer that takes what comes; dropping its connection ends it.
pub struct TestConsumer {
    connection: Connection,
    pub channel: Channel,
    pub tag: String,
    pub deliveries: lapin::Consumer,
}

impl TestConsumer {
    /// Cancels the consumer, as a server that shuts down does.
    pub async fn cancel(self) {
        self.channel.basic_cancel(self.tag.as_str().into(), Default::default()).await.unwrap();
        self.connection.close(200, "done".into()).await.unwrap();
    }
}

impl TestBroker {
    pub async fn connect() -> Self {
        Self { url: url() }
    }

    async fn connection(&self) -> Connection {
        Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap()
    }

    /// Consumers of `queue`; None when there is no such queue.
    pub async fn consumers(&self, queue: &str) -> Option<u32> {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        let _ = connection.close(200, "done".into()).await;
        found.ok().map(|queue| queue.consumer_count())
    }

    pub async fn delete(&self, queue: &str) {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.unwrap();
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
        let _ = connection.close(200, "done".into()).await;
    }

    /// Attaches a consumer as soon as the queue is there.
    pub async fn consume(&self, queue: &str) -> TestConsumer {
        until(&format!("queue {queue} exists"), || async { self.consumers(queue).await.map(drop) }).await;
        let connection = self.connection().await;
        let channel = connection.create_channel().await.unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let deliveries =
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
        TestConsumer { tag: deliveries.tag().to_string(), connection, channel, deliveries }
    }

    pub async fn until_no_queue(&self, queue: &str) {
        until(&format!("queue {queue} is gone"), || async {
            self.consumers(queue).await.is_none().then_some(())
        })
        .await;
    }
}

/// An analyzer of the test's own: publishes what it is told to.
pub struct TestAnalyzer {
    channel: Channel,
    queue: String,
    _connection: Connection,
}

impl TestBroker {
    /// An analyzer for `queue`, once the operator has declared it.
    pub async fn analyzer(&self, queue: &str) -> TestAnalyzer {
        until(&format!("queue {queue} exists"), || async { self.consumers(queue).await.map(drop) }).await;
        let connection = self.connection().await;
        let channel = connection.create_channel().await.unwrap();
        TestAnalyzer { channel, queue: queue.to_owned(), _connection: connection }
    }
}

impl TestAnalyzer {
    pub async fn publish(&self, kind: focus_operator::wire::frame::Kind) {
        self.send(&focus_operator::wire::Frame { kind: Some(kind) }.encode_to_vec()).await;
    }

    /// A message that is no frame.
    pub async fn publish_rubbish(&self) {
        self.send(b"rubbish").await;
    }

    async fn send(&self, body: &[u8]) {
        let properties = BasicProperties::default();
        let queue = self.queue.as_str().into();
        self.channel
            .basic_publish("".into(), queue, BasicPublishOptions::default(), body, properties)
            .await
            .unwrap();
    }
}
