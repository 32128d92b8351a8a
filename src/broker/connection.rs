//! A connection on which channels can be opened for as long as it lives.
//!
//! A look at a queue that is missing costs its channel: the broker closes it. The client library keeps the error of such
//! a channel under the channel's number for ever (lapin 4.12), and answers with it when the number's turn comes again.
//! After 2,047 missing queues a connection has no good number left, and would open no channel any more. Here numbers
//! that are spent are passed over, and a connection that has no other is closed, so that it is made anew.

use std::ops::Deref;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use lapin::protocol::AMQPErrorKind;
use lapin::{Channel, Connection, Error, ErrorKind};
use tokio::sync::Notify;

/// How long taking leave of the broker may take.
pub const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A connection that knows which of its channels' numbers are spent.
pub struct LiveConnection {
    connection: Connection,
    spent: AtomicU16,
    closed: Notify,
}

impl LiveConnection {
    /// Of `connection`, which is new.
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, spent: AtomicU16::new(0), closed: Notify::new() }
    }

    /// Opens a channel. A connection that cannot because its numbers are spent is closed.
    ///
    /// # Errors
    /// When the broker refuses or the connection is lost or closed.
    pub async fn open_channel(&self) -> lapin::Result<Channel> {
        // A spent number is not given again, so that this comes to an end.
        loop {
            let error = match self.connection.create_channel().await {
                Ok(channel) => return Ok(channel),
                Err(error) => error,
            };
            if is_of_an_earlier_channel(&error) && self.connection.status().connected() {
                self.spent.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if matches!(error.kind(), ErrorKind::ChannelsLimitReached) && self.is_spent() {
                tracing::info!("so many queues were missing that the connection to the broker is made anew");
                let _ =
                    tokio::time::timeout(CLOSE_WITHIN, self.connection.close(200, "worn out".into())).await;
                self.closed.notify_one();
            }
            return Err(error);
        }
    }

    /// Returns when it has been closed because its numbers are spent.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Whether many of its numbers are spent; else it just has as many channels as it may have.
    fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed) > self.connection.configuration().channel_max() / 8
    }
}

impl Deref for LiveConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Whether the broker once said this of a channel: of a channel that is being opened it says nothing but that the whole
/// connection is in error.
fn is_of_an_earlier_channel(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(told) if matches!(told.kind(), AMQPErrorKind::Soft(_)))
}
