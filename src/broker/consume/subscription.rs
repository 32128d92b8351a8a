//! The subscription of one job to its queue.

use futures::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer, ErrorKind};

use super::{BrokerError, Link, call};

/// Subscribes one job to its queue; keeps a channel at hand, so that a subscription is one round trip.
pub struct Subscriber {
    queue: ShortString,
    tag: ShortString,
    prefetch: u16,
    spare: Option<Channel>,
}

/// A consumer that the broker has confirmed. Dropping it cancels the consumer and closes its channel.
pub struct Subscription {
    channel: Channel,
    consumer: Consumer,
    ended: Option<BrokerError>,
}

impl Subscriber {
    /// For `queue`; the broker sends at most `prefetch` messages ahead of their acknowledgement.
    ///
    /// # Errors
    /// When a name is longer than AMQP allows.
    pub fn new(queue: &str, tag: &str, prefetch: u16) -> Result<Self, BrokerError> {
        let short =
            |text: &str| ShortString::try_new(text).map_err(|_| BrokerError::NameTooLong(text.to_owned()));
        Ok(Self { queue: short(queue)?, tag: short(tag)?, prefetch, spare: None })
    }

    /// Opens the channel of the next subscription.
    ///
    /// # Errors
    /// When the broker refuses or is lost.
    pub async fn prepare(&mut self, link: &Link) -> Result<(), BrokerError> {
        if self.spare.as_ref().is_some_and(|channel| channel.status().connected()) {
            return Ok(());
        }
        let prefetch = self.prefetch;
        let channel = call("opening a channel", async {
            let channel = link.connection.open_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            Ok(channel)
        })
        .await?;
        self.spare = Some(channel);
        Ok(())
    }

    /// Subscribes, as the queue's only consumer.
    ///
    /// # Errors
    /// [`BrokerError::NoQueue`] while the queue does not exist, [`BrokerError::Taken`] while another consumes.
    pub async fn subscribe(&mut self, link: &Link) -> Result<Subscription, BrokerError> {
        self.prepare(link).await?;
        let Some(channel) = self.spare.take() else { return Err(BrokerError::Timeout("opening a channel")) };
        let (queue, tag) = (self.queue.clone(), self.tag.clone());
        // Two consumers would each get half of the lines.
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consumer = call(
            "subscribing to the queue",
            channel.basic_consume(queue, tag, options, FieldTable::default()),
        )
        .await
        .map_err(refusal)?;
        Ok(Subscription { channel, consumer, ended: None })
    }
}

impl Subscription {
    /// The messages that are there, at least one and at most `most`, each with whether it was delivered before.
    /// They are acknowledged all at once, in one frame. Memory is bounded by the prefetch: what is not
    /// acknowledged stays in the broker, whose queue is bounded and drops the oldest.
    ///
    /// # Errors
    /// When the connection is lost, or `NoQueue` when the broker has cancelled the consumer because its queue
    /// is gone.
    pub async fn next(&mut self, most: usize) -> Result<Vec<(Vec<u8>, bool)>, BrokerError> {
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        let mut messages = Vec::new();
        let delivery = self.consumer.next().await;
        let mut last = self.take(delivery, &mut messages)?;
        while messages.len() < most
            && let Some(delivery) = self.consumer.next().now_or_never()
        {
            match self.take(delivery, &mut messages) {
                Ok(tag) => last = tag,
                Err(error) => {
                    // What came before it is given first.
                    self.ended = Some(error);
                    return Ok(messages);
                }
            }
        }
        call("acknowledging", self.channel.basic_ack(last, BasicAckOptions { multiple: true })).await?;
        Ok(messages)
    }

    fn take(
        &self,
        delivery: Option<lapin::Result<lapin::message::Delivery>>,
        messages: &mut Vec<(Vec<u8>, bool)>,
    ) -> Result<u64, BrokerError> {
        match delivery {
            Some(Ok(delivery)) => {
                messages.push((delivery.data, delivery.redelivered));
                Ok(delivery.delivery_tag)
            }
            Some(Err(error)) => Err(BrokerError::Amqp("consuming", error)),
            None => Err(BrokerError::NoQueue),
        }
    }
}

fn refusal(error: BrokerError) -> BrokerError {
    match &error {
        BrokerError::Amqp(_, amqp) => match amqp.kind() {
            ErrorKind::ProtocolError(protocol) if protocol.get_id() == 404 => BrokerError::NoQueue,
            // Missing permissions have the same code.
            ErrorKind::ProtocolError(protocol) if protocol.to_string().contains("exclusive") => {
                BrokerError::Taken
            }
            _ => error,
        },
        _ => error,
    }
}
