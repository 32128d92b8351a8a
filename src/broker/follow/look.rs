//! Asks the broker for the true state of a queue. Events tell of it sooner, but they can be missed, and they
//! cannot prove absence.

use lapin::Channel;

use crate::broker::connection::LiveConnection;
use crate::broker::queues::{self, QueueError};

/// Looks at queues, one after another, over one channel; a missing queue closes it, and the next look opens
/// another.
pub struct Looker<'a> {
    connection: &'a LiveConnection,
    channel: Option<Channel>,
}

impl<'a> Looker<'a> {
    /// Looks through `connection`.
    pub fn new(connection: &'a LiveConnection) -> Self {
        Self { connection, channel: None }
    }

    /// The consumers of `queue`; None when there is no such queue. A first zero proves nothing (a quorum queue
    /// without a leader answers it too), so it is read twice.
    ///
    /// # Errors
    /// When the broker cannot be asked or does not answer.
    pub async fn look(&mut self, queue: &str) -> Result<Option<u32>, QueueError> {
        let channel = self.channel(queue).await?;
        let mut found = queues::look(&channel, queue).await?;
        if found == Some(0) {
            found = queues::look(&channel, queue).await?;
        }
        Ok(found)
    }

    async fn channel(&mut self, queue: &str) -> Result<Channel, QueueError> {
        if let Some(channel) = self.channel.take().filter(|channel| channel.status().connected()) {
            self.channel = Some(channel.clone());
            return Ok(channel);
        }
        let doing = "looking at";
        let channel = tokio::time::timeout(queues::ANSWER_WITHIN, self.connection.open_channel())
            .await
            .map_err(|_| QueueError::TimedOut { doing, queue: queue.to_owned() })?
            .map_err(|error| QueueError::from_client(doing, queue, &error))?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }
}
