//! Looks at queues before somebody subscribes to them: a subscription to a queue that is missing, or that another has to
//! itself, is refused and costs its channel. Looks have a connection of their own, for one that finds nothing costs a
//! channel too, and with it in the end the connection (see [`crate::broker::connection`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Broker;
use crate::broker::connection::LiveConnection;
use crate::broker::keep::Session;
use crate::broker::queues;

/// How long a look may take: who looks can as well try.
const LOOK_WITHIN: Duration = Duration::from_millis(500);

/// What a look at a queue has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is no such queue.
    Missing,
    /// It has a consumer.
    Taken,
    /// It has no consumer, as far as the broker knows.
    Free,
}

/// The connection for looks.
pub(super) type Looks = watch::Sender<Option<Arc<LiveConnection>>>;

impl Broker {
    /// Looks at `queue`; None when the broker cannot be asked just now.
    pub async fn look(&self, queue: &str) -> Option<Look> {
        let connection = self.inner.looks.borrow().clone()?;
        let look = async {
            let channel = connection.open_channel().await.ok()?;
            queues::look(&channel, queue).await.ok()
        };
        Some(match tokio::time::timeout(LOOK_WITHIN, look).await.ok()?? {
            None => Look::Missing,
            Some(0) => Look::Free,
            Some(_) => Look::Taken,
        })
    }
}

/// Lends its connection to all who look.
pub(super) struct Lending(pub(super) Broker);

impl Session for Lending {
    async fn hold(&mut self, connection: Arc<LiveConnection>) -> String {
        self.0.inner.looks.send_replace(Some(connection));
        std::future::pending().await
    }

    async fn lost(&mut self, _why: String) {
        self.0.inner.looks.send_replace(None);
    }
}
