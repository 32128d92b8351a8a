//! The broker's own events (plugin `rabbitmq_event_exchange`): the subscription to them, and what they say.

use std::time::Duration;

use lapin::Consumer;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::connection::LiveConnection;

/// The exchange on which the plugin publishes.
const EXCHANGE: &str = "amq.rabbitmq.event";
/// The routing keys of everything that [`parse`] understands.
pub const KEYS: [&str; 5] =
    [CONSUMER_CREATED, "consumer.deleted", "channel.closed", QUEUE_CREATED, "queue.deleted"];
/// The routing key of new consumers.
pub const CONSUMER_CREATED: &str = "consumer.created";
/// The routing key of new queues.
pub const QUEUE_CREATED: &str = "queue.created";
/// Events that may wait for us; more are dropped, and a resync makes up for them.
const BACKLOG: i32 = 100_000;
/// How long the subscription may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Subscribes to the events with `keys`, through a queue of our own.
///
/// # Errors
/// In the broker's words, when it has no such plugin, permits no reading of it, or does not answer in time.
pub async fn subscribe(connection: &LiveConnection, keys: &[&str]) -> Result<Consumer, String> {
    let subscribed = async {
        let channel = connection.open_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(BACKLOG));
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, arguments).await?.name().clone();
        for key in keys {
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(queue.clone(), EXCHANGE.into(), (*key).into(), options, none).await?;
        }
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(queue, "".into(), options, FieldTable::default()).await
    };
    match tokio::time::timeout(WITHIN, subscribed).await {
        Ok(Ok(consumer)) => Ok(consumer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

/// An event that tells something of a queue or of its consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerEvent {
    /// A consumer was attached to `queue` on `channel` (a process id of the broker).
    ConsumerCreated {
        /// Its queue.
        queue: String,
        /// Its channel, by which its end may be told.
        channel: Option<String>,
    },
    /// A consumer of `queue` was cancelled.
    ConsumerDeleted {
        /// Its queue.
        queue: String,
    },
    /// A channel ended, and with it its consumers; from RabbitMQ 3.12.5 only this tells of them.
    ChannelClosed {
        /// The channel's process id.
        channel: String,
    },
    /// A queue was made.
    QueueCreated {
        /// Its name.
        queue: String,
    },
    /// A queue was deleted.
    QueueDeleted {
        /// Its name.
        queue: String,
    },
}

/// The event with `key` and `headers`, if it is one of those followed and concerns `vhost`.
pub fn parse(key: &str, headers: &FieldTable, vhost: &str) -> Option<BrokerEvent> {
    if text(headers, "vhost").is_some_and(|at| at != vhost) {
        return None;
    }
    Some(match key {
        CONSUMER_CREATED => {
            BrokerEvent::ConsumerCreated { queue: text(headers, "queue")?, channel: text(headers, "channel") }
        }
        "consumer.deleted" => BrokerEvent::ConsumerDeleted { queue: text(headers, "queue")? },
        "channel.closed" => BrokerEvent::ChannelClosed { channel: text(headers, "pid")? },
        QUEUE_CREATED => BrokerEvent::QueueCreated { queue: text(headers, "name")? },
        "queue.deleted" => BrokerEvent::QueueDeleted { queue: text(headers, "name")? },
        _ => return None,
    })
}

/// When the broker says it happened, ms since the Unix epoch.
pub fn timestamp_ms(headers: &FieldTable) -> Option<i64> {
    match headers.inner().get("timestamp_in_ms")? {
        AMQPValue::LongLongInt(ms) => Some(*ms),
        _ => None,
    }
}

fn text(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(value) => Some(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        AMQPValue::ShortString(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in pairs {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        table
    }

    #[test]
    fn reads_the_events_that_are_followed() {
        let q = || "q".to_owned();
        let table = [
            (
                "consumer.created",
                vec![("queue", "q"), ("channel", "<1>"), ("vhost", "/")],
                Some(BrokerEvent::ConsumerCreated { queue: q(), channel: Some("<1>".into()) }),
            ),
            (
                "consumer.deleted",
                vec![("queue", "q"), ("vhost", "/")],
                Some(BrokerEvent::ConsumerDeleted { queue: q() }),
            ),
            (
                "channel.closed",
                vec![("pid", "<1>")],
                Some(BrokerEvent::ChannelClosed { channel: "<1>".into() }),
            ),
            (
                "queue.created",
                vec![("name", "q"), ("vhost", "/")],
                Some(BrokerEvent::QueueCreated { queue: q() }),
            ),
            (
                "queue.deleted",
                vec![("name", "q"), ("vhost", "/")],
                Some(BrokerEvent::QueueDeleted { queue: q() }),
            ),
            ("queue.deleted", vec![("name", "q"), ("vhost", "other")], None),
            ("queue.created", vec![("vhost", "/")], None),
            ("user.created", vec![("name", "q")], None),
        ];
        for (key, pairs, expected) in table {
            assert_eq!(parse(key, &headers(&pairs), "/"), expected, "{key} {pairs:?}");
        }
    }
}
