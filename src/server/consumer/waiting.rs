//! What a consumer waits for: the pool, the broker, the queue. All that it does until it may subscribe.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::debug;

use super::JobConsumer;
use crate::api::AnalyzerSource;
use crate::broker::consume::{BrokerError, Link, Look, Notice};
use crate::server::job::{Awaited, Stage};

/// A broker that could not be asked for so long is tried without. When it comes back, this is how much later than the
/// connection for subscriptions that for looks may be.
const BLIND: Duration = Duration::from_millis(500);
/// And so long after the last time: a try may cost the connection that all consumers share a channel's number.
const BLIND_AGAIN: Duration = Duration::from_secs(30);
/// Pause between two looks for a job's pool.
const POOL_PAUSE: Duration = Duration::from_secs(1);

/// What is done next to get a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: there can be no queue yet.
    Wait,
    /// Nobody has told of the queue: it is looked at first.
    Look,
    /// It has just been made.
    Subscribe,
}

impl JobConsumer {
    /// What stands against a subscription; None: nothing that is known. `blind`: when it is to be tried although the
    /// broker cannot be asked.
    pub(super) async fn before(
        &self,
        step: Step,
        notice: &Notice,
        blind: &mut Option<Instant>,
    ) -> Option<BrokerError> {
        match step {
            Step::Wait => return Some(BrokerError::NoQueue),
            Step::Subscribe => return None,
            Step::Look => {}
        }
        let found = tokio::select! {
            found = self.shared.broker.look(&self.job.queue) => found,
            () = notice.created() => return None,
            () = self.job.poke.notified() => return None,
        };
        if found.is_some() {
            *blind = None;
        }
        match found {
            Some(Look::Missing) => Some(BrokerError::NoQueue),
            Some(Look::Taken) => Some(BrokerError::Taken),
            Some(Look::Free) => None,
            None => {
                let now = Instant::now();
                if now < *blind.get_or_insert(now + BLIND) {
                    return Some(BrokerError::Unseen);
                }
                *blind = Some(now + BLIND_AGAIN);
                None
            }
        }
    }

    /// Tells why there is no consumer.
    pub(super) fn tell(&self, error: &BrokerError) {
        debug!(%error, "no consumer");
        match error {
            BrokerError::NoQueue => self.wait_for("queue", "QueueMissing", "the job's queue does not exist"),
            BrokerError::Lost | BrokerError::Unseen => {
                self.wait_for("broker", "BrokerUnreachable", &error.to_string())
            }
            BrokerError::Taken => self.wait_for("consumer", "AnotherConsumer", &error.to_string()),
            error => self.wait_for("consumer", "BrokerRefused", &error.to_string()),
        }
    }

    /// Waits for news of the queue, but no longer than `pause`; says what is to be done then.
    pub(super) async fn pause(
        &self,
        notice: &Notice,
        links: &mut watch::Receiver<Option<Link>>,
        pause: Duration,
    ) -> Step {
        tokio::select! {
            () = notice.created() => Step::Subscribe,
            () = self.job.poke.notified() => Step::Subscribe,
            () = notice.unheard() => Step::Look,
            // The caller asks whether it has changed.
            _ = links.changed() => {
                links.mark_changed();
                Step::Look
            }
            () = tokio::time::sleep(pause) => Step::Look,
        }
    }

    pub(super) async fn source(&self) -> AnalyzerSource {
        loop {
            if let Some(source) = self.job.source() {
                return source.clone();
            }
            if let Some(source) = self.shared.source(&self.job.spec.pool) {
                return self.job.source_or(source).clone();
            }
            let message = format!("there is no AnalyzerPool named {}", self.job.spec.pool);
            self.wait_for("pool", "PoolNotFound", &message);
            tokio::time::sleep(POOL_PAUSE).await;
        }
    }

    pub(super) async fn link(&self, links: &mut watch::Receiver<Option<Link>>) -> Link {
        loop {
            if let Some(link) = links.borrow_and_update().clone() {
                return link;
            }
            self.wait_for("broker", "BrokerUnreachable", &self.shared.broker.problem());
            // The sender lives as long as the shared broker.
            let _ = links.changed().await;
        }
    }

    pub(super) fn wait_for(&self, phase: &'static str, reason: &'static str, message: &str) {
        self.job.set_stage(Stage::Waiting(Awaited::new(phase, reason, message)), &self.stop);
    }
}
