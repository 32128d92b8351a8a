//! Messages that the broker has not yet confirmed: few enough that a slow broker cannot fill the memory.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{FuturesUnordered, StreamExt};
use lapin::{Confirmation, PublisherConfirm};

/// Most messages in flight.
const MAX_MESSAGES: usize = 256;
/// Most bytes in flight, but for the message that passes the limit.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What kind of message is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The header, whose way to the queue the broker tells of.
    Header,
    /// A line.
    Line,
    /// The last message.
    End,
}

/// The messages in flight.
#[derive(Default)]
pub struct Flight {
    messages: FuturesUnordered<Message>,
    bytes: usize,
    lines: u64,
}

struct Message {
    kind: Kind,
    bytes: usize,
    confirm: PublisherConfirm,
}

impl Future for Message {
    type Output = (Kind, usize, lapin::Result<Confirmation>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (kind, bytes) = (self.kind, self.bytes);
        Pin::new(&mut self.confirm).poll(context).map(|outcome| (kind, bytes, outcome))
    }
}

impl Flight {
    /// A message has been sent.
    pub fn add(&mut self, kind: Kind, bytes: usize, confirm: PublisherConfirm) {
        self.bytes += bytes;
        self.lines += u64::from(kind == Kind::Line);
        self.messages.push(Message { kind, bytes, confirm });
    }

    /// Whether another may be sent.
    pub fn has_room(&self) -> bool {
        self.messages.len() < MAX_MESSAGES && self.bytes < MAX_BYTES
    }

    /// Lines whose fate is not known.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Waits for the next confirm; None when nothing is in flight.
    pub async fn next(&mut self) -> Option<(Kind, lapin::Result<Confirmation>)> {
        let (kind, bytes, outcome) = self.messages.next().await?;
        self.bytes -= bytes;
        // A line whose confirm failed stays among those whose fate is not known.
        if outcome.is_ok() {
            self.lines -= u64::from(kind == Kind::Line);
        }
        Some((kind, outcome))
    }
}
