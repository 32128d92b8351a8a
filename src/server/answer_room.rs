//! The memory of large answers, which are held until their clients have taken them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::serve::End;

/// Bytes that one permit stands for.
const GRAIN: usize = 1 << 10;

/// Room for answers. Cheap to clone.
#[derive(Clone)]
pub struct Room {
    places: Arc<Semaphore>,
    most: u32,
}

/// The part of one answer.
pub type Part = OwnedSemaphorePermit;

impl Room {
    /// For `bytes` at once.
    pub fn new(bytes: usize) -> Self {
        let most = grains(bytes);
        Self { places: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(0))), most }
    }

    /// Room for `bytes`, once it is there; an answer that is larger than all of it has all.
    ///
    /// # Errors
    /// Never: it is not closed.
    pub async fn take(&self, bytes: usize) -> Result<Part, AcquireError> {
        Arc::clone(&self.places).acquire_many_owned(grains(bytes).min(self.most)).await
    }

    /// Bytes that are free.
    #[cfg(test)]
    pub fn left(&self) -> usize {
        self.places.available_permits() * GRAIN
    }
}

fn grains(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

/// What an answer holds.
struct Held {
    bytes: Vec<u8>,
    _part: Part,
    _sent: DropGuard,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of `bytes`, which keeps its `part` until the last byte has been sent: the client has the time `within` to
/// take it, or its connection `end`s.
pub fn held(bytes: Vec<u8>, part: Part, end: Option<End>, within: Duration) -> Body {
    let sent = CancellationToken::new();
    if let Some(End(end)) = end {
        let sent = sent.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(within, sent.cancelled()).await.is_err() {
                end.cancel();
            }
        });
    }
    Body::from(Bytes::from_owner(Held { bytes, _part: part, _sent: sent.drop_guard() }))
}
