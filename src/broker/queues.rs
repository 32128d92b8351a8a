//! Declaring, looking at and deleting one queue.

use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind};

use crate::api::focusjob::QueueType;

/// A queue without consumers is deleted by the broker after this long, so that no orphan survives, ms (30 min).
const EXPIRES_MS: i32 = 30 * 60 * 1000;
/// A queue holds at most this many bytes and then drops its oldest message: a live display wants the newest.
const MAX_BYTES: i64 = 64 * 1024 * 1024;
/// How long the broker may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why the broker did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// There is no connection.
    #[error("{doing} queue {queue}: the broker cannot be reached ({why}); it is tried again when it is back")]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// With which queue.
        queue: String,
        /// Why not.
        why: String,
    },
    /// It did not answer in time.
    #[error("{doing} queue {queue}: the broker did not answer within {} s", ANSWER_WITHIN.as_secs())]
    TimedOut {
        /// What was being done.
        doing: &'static str,
        /// With which queue.
        queue: String,
    },
    /// It refused: no permission, or an existing queue is declared otherwise.
    #[error("{doing} queue {queue}: the broker refused: {why}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// With which queue.
        queue: String,
        /// Its own words.
        why: String,
    },
}

impl QueueError {
    /// The cause in one CamelCase word, for conditions, events and metrics alike.
    pub fn reason(&self) -> &'static str {
        match self {
            QueueError::Unreachable { .. } => "BrokerUnreachable",
            QueueError::TimedOut { .. } => "BrokerTimeout",
            QueueError::Refused { .. } => "QueueRefused",
        }
    }

    /// `error` of the client while `doing` something with `queue`.
    pub fn from_client(doing: &'static str, queue: &str, error: &lapin::Error) -> Self {
        let queue = queue.to_owned();
        match error.kind() {
            ErrorKind::ProtocolError(refusal) => Self::Refused { doing, queue, why: refusal.to_string() },
            _ => Self::Unreachable { doing, queue, why: error.to_string() },
        }
    }
}

/// The arguments with which a job's queue is declared.
pub fn arguments(kind: QueueType) -> FieldTable {
    let mut table = FieldTable::default();
    let kind = match kind {
        QueueType::Classic => "classic",
        QueueType::Quorum => "quorum",
    };
    table.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    table.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MS));
    table.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(MAX_BYTES));
    table.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    table
}

/// Declares the queue if it is not there. Returns its number of consumers.
///
/// # Errors
/// When the broker cannot be asked, does not answer, or holds a different queue of that name.
pub async fn declare(channel: &Channel, queue: &str, kind: QueueType) -> Result<u32, QueueError> {
    let asked = channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments(kind));
    Ok(answered("declaring", queue, asked).await?.consumer_count())
}

/// Looks at the queue on a channel that may be spent on it. None: there is no such queue.
///
/// # Errors
/// When the broker cannot be asked or does not answer.
pub async fn look(channel: &Channel, queue: &str) -> Result<Option<u32>, QueueError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(queue.into(), options, FieldTable::default());
    match answered("looking at", queue, asked).await {
        Ok(found) => Ok(Some(found.consumer_count())),
        Err(QueueError::Refused { why, .. }) if why.contains("NOT_FOUND") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes the queue; harmless when it is gone.
///
/// # Errors
/// When the broker cannot be asked or does not answer.
pub async fn delete(channel: &Channel, queue: &str) -> Result<(), QueueError> {
    answered("deleting", queue, channel.queue_delete(queue.into(), QueueDeleteOptions::default()))
        .await
        .map(drop)
}

async fn answered<T>(
    doing: &'static str,
    queue: &str,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, QueueError> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(QueueError::from_client(doing, queue, &error)),
        Err(_) => Err(QueueError::TimedOut { doing, queue: queue.to_owned() }),
    }
}
