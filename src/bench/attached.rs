//! When the broker told of each job's consumer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use futures::StreamExt;
use lapin::Consumer;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::broker::Address;
use crate::broker::connection::LiveConnection;
use crate::broker::events::{self, BrokerEvent, CONSUMER_CREATED};

/// Listens to the broker's events of one namespace's queues until it is dropped.
pub struct Attached {
    times: Times,
    task: AbortHandle,
    _connection: LiveConnection,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Attached {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the broker refuses; without the plugin there are no events.
    pub async fn listen(broker: &Address, namespace: &str) -> anyhow::Result<Self> {
        let connection = broker.connect(super::NAME).await?;
        let consumer = events::subscribe(&connection, &[CONSUMER_CREATED])
            .await
            .map_err(|why| anyhow!("following the broker's events: {why}; enable rabbitmq_event_exchange"))?;
        let times = Times::default();
        let vhost = connection.status().vhost().to_string();
        let task =
            tokio::spawn(follow(consumer, vhost, namespace.to_owned(), Arc::clone(&times))).abort_handle();
        Ok(Self { times, task, _connection: connection })
    }

    /// When the first consumer of the queue of `job` was told of.
    pub fn get(&self, job: &str) -> Option<Instant> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).get(job).copied()
    }
}

type Times = Arc<Mutex<HashMap<String, Instant>>>;

async fn follow(mut consumer: Consumer, vhost: String, namespace: String, times: Times) {
    while let Some(Ok(delivery)) = consumer.next().await {
        let now = Instant::now();
        let headers = delivery.properties.headers().as_ref();
        let event = headers.and_then(|headers| events::parse(delivery.routing_key.as_str(), headers, &vhost));
        if let Some(BrokerEvent::ConsumerCreated { queue, .. }) = event
            && let Some(job) = job_of(&queue, &namespace)
        {
            times.lock().unwrap_or_else(PoisonError::into_inner).entry(job.to_owned()).or_insert(now);
        }
    }
    tracing::warn!("the broker's events ended");
}

/// The job whose queue this is, when it is one of `namespace`'s that the Focus Server made.
fn job_of<'a>(queue: &'a str, namespace: &str) -> Option<&'a str> {
    let rest = queue.strip_prefix("focus.")?.strip_prefix(namespace)?.strip_prefix('.')?;
    rest.split_once('.').map(|(job, _)| job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FocusJob;
    use crate::api::names::queue_name;
    use crate::server::answer::tests::spec;

    #[test]
    fn queues_tell_their_job() {
        let mut job = FocusJob::new("18-3", spec(1));
        job.metadata.namespace = Some("fibre".to_owned());
        job.metadata.uid = Some("u".to_owned());
        assert_eq!(job_of(&queue_name(&job), "fibre"), Some("18-3"));
        for (queue, namespace) in
            [("focus.fibre.18-3.u", "fib"), ("other", "fibre"), ("focus.fibre.x", "fibre")]
        {
            assert_eq!(job_of(queue, namespace), None, "{queue}");
        }
    }
}
