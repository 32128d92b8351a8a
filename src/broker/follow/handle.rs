//! The one connection to the broker: kept alive, shared by all who ask the broker for something.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use lapin::Channel;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::book::{Book, BrokerState, QueueSeen};
use super::metrics::{BrokerMetrics, Operation};
use super::watch::Watch;
use crate::api::focusjob::QueueType;
use crate::broker::address::Address;
use crate::broker::connection::LiveConnection;
use crate::broker::keep::keep;
use crate::broker::queues::{self, QueueError};

/// How many pieces of news may wait for their reader before the watch waits for it.
const NEWS: usize = 4096;

/// A handle on the broker for owners of type `O`; clones share one connection.
pub struct BrokerHandle<O> {
    pub(super) shared: Arc<Shared<O>>,
}

impl<O> Clone for BrokerHandle<O> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

pub(super) struct Shared<O> {
    pub(super) book: Mutex<Book<O>>,
    pub(super) link: watch::Sender<Link>,
    pub(super) metrics: BrokerMetrics,
    /// Told when the book has queues in doubt.
    pub(super) doubts: Notify,
}

/// The connection as its users see it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) state: BrokerState,
    pub(super) connection: Option<Arc<LiveConnection>>,
    /// One channel for all declarations and deletions; replaced when a refusal has closed it.
    pub(super) channel: Option<Channel>,
}

/// The broker's connection and the news from it.
pub struct Broker<O> {
    /// For those who ask the broker.
    pub handle: BrokerHandle<O>,
    /// Who is concerned by what changed.
    pub news: mpsc::Receiver<O>,
}

impl<O: Clone + Send + Sync + 'static> Broker<O> {
    /// Starts to keep a connection to `address`, until `stop`. Returns at once: see [`BrokerHandle::state`].
    pub fn start(address: Address, metrics: BrokerMetrics, stop: CancellationToken) -> Self {
        let (news_tx, news) = mpsc::channel(NEWS);
        let waiting = Link {
            state: BrokerState::Disconnected("not connected yet".to_owned()),
            connection: None,
            channel: None,
        };
        let shared = Arc::new(Shared {
            book: Mutex::new(Book::default()),
            link: watch::Sender::new(waiting),
            metrics,
            doubts: Notify::new(),
        });
        let handle = BrokerHandle { shared };
        let watch = Watch { handle: handle.clone(), news: news_tx };
        tokio::spawn(keep(address, "focus-operator".to_owned(), watch, stop));
        Self { handle, news }
    }
}

impl<O: Clone> BrokerHandle<O> {
    /// Whether the broker can be asked now.
    pub fn state(&self) -> BrokerState {
        self.shared.link.borrow().state.clone()
    }

    /// Follows `queue`: from now on its changes are news to `owner`.
    pub fn track(&self, queue: &str, owner: O) {
        self.book().track(queue, owner);
    }

    /// What is known of `queue`, if it is followed.
    pub fn seen(&self, queue: &str) -> Option<QueueSeen> {
        self.book().seen(queue).cloned()
    }

    /// Declares the followed queue and remembers what the broker answered.
    ///
    /// # Errors
    /// See [`queues::declare`].
    pub async fn ensure(&self, queue: &str, kind: QueueType) -> Result<(), QueueError> {
        let begun = Instant::now();
        let declared = async {
            let channel = self.channel("declaring", queue).await?;
            queues::declare(&channel, queue, kind).await
        };
        let declared = declared.await;
        self.shared.metrics.answered(Operation::Declare, begun, &declared);
        match declared {
            Ok(consumers) => {
                let now = Timestamp::now();
                let mut book = self.book();
                // The event of a first consumer may have come before this answer, which was made before it.
                let known = book.seen(queue).map_or(0, |seen| seen.consumers);
                book.found(queue, consumers.max(known), now);
                Ok(())
            }
            Err(error) => {
                if let QueueError::Refused { why, .. } = &error {
                    self.book().refused(queue, why.clone());
                }
                Err(error)
            }
        }
    }

    /// Deletes `queue` and forgets it.
    ///
    /// # Errors
    /// See [`queues::delete`].
    pub async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        let begun = Instant::now();
        let deleted = async {
            let channel = self.channel("deleting", queue).await?;
            queues::delete(&channel, queue).await
        };
        let deleted = deleted.await;
        self.shared.metrics.answered(Operation::Delete, begun, &deleted);
        deleted?;
        self.book().untrack(queue);
        Ok(())
    }

    /// Forgets `queue` without asking the broker.
    pub fn untrack(&self, queue: &str) {
        self.book().untrack(queue);
    }

    /// The shared channel, opened anew where a refusal has closed it.
    async fn channel(&self, doing: &'static str, queue: &str) -> Result<Channel, QueueError> {
        let link = self.shared.link.borrow().clone();
        if let Some(channel) = link.channel.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let why = |why: String| QueueError::Unreachable { doing, queue: queue.to_owned(), why };
        let connection = link.connection.ok_or_else(|| {
            why(match link.state {
                BrokerState::Disconnected(cause) => cause,
                BrokerState::Connected => "reconnecting".to_owned(),
            })
        })?;
        let opened = tokio::time::timeout(queues::ANSWER_WITHIN, connection.open_channel())
            .await
            .map_err(|_| QueueError::TimedOut { doing, queue: queue.to_owned() })?
            .map_err(|error| why(error.to_string()))?;
        self.shared.link.send_if_modified(|link| {
            // Only a link of the same connection may take the channel.
            let same = link.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, &connection));
            if same {
                link.channel = Some(opened.clone());
            }
            false
        });
        Ok(opened)
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book<O>> {
        // The book is only a memory: what a panicking thread left in it is corrected by the next snapshot.
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
