//! Asking the operator to end a job.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::consumer::Shared;
use super::job::Job;
use crate::api::names::EndRequest;
use crate::backoff::Backoff;

/// Asks the operator to end `job`, again and again until it is done or `stop`. While one call does it, and when it is
/// done, others do nothing.
pub async fn end(shared: Arc<Shared>, job: Arc<Job>, request: EndRequest, stop: CancellationToken) {
    if job.end_asked.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut retry = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    while let Some(asked) = stop.run_until_cancelled(shared.cluster.end(&job.name, &job.uid, &request)).await
    {
        let Err(error) = asked else { return };
        job.log
            .in_scope(|| warn!(reason = request.reason, %error, "asking the operator to end the job failed"));
        stop.run_until_cancelled(tokio::time::sleep(retry.pause())).await;
    }
    // The job goes to another replica, or is suspended: it may come back, and nobody have ended it.
    job.end_asked.store(false, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use serde_json::Value;

    use super::*;
    use crate::api::FocusJob;
    use crate::broker::consume::Broker;
    use crate::server::answer::tests::spec;
    use crate::server::budget::tests::budget;
    use crate::server::cluster::tests::fake;
    use crate::server::metrics::Metrics;
    use crate::server::replicas::Replicas;

    #[tokio::test]
    async fn a_job_whose_end_was_not_asked_for_can_be_ended_when_it_comes_back() {
        let (cluster, calls) =
            fake(|_, before| Some(if before == 0 { (500, Value::Null) } else { (200, object()) }));
        let metrics = Metrics::new(&Registry::new()).expect("fresh registry");
        let shared = Arc::new(Shared {
            cluster,
            pools: kube::runtime::reflector::store().0,
            broker: Broker::new(metrics.broker.clone()),
            metrics,
            replicas: Replicas::alone("a"),
            budget: budget(1 << 20),
        });
        let job = Arc::new(Job::new(&FocusJob::new("5-1", spec(8)), None));
        let request = EndRequest { reason: "IdleTimeout".to_owned(), message: String::new(), failed: false };
        let end = |stop| end(Arc::clone(&shared), Arc::clone(&job), request.clone(), stop);
        let stop = CancellationToken::new();
        tokio::join!(end(stop.clone()), async {
            while calls.lock().expect("no panic").is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
        });
        assert!(!job.end_asked.load(Ordering::Relaxed));
        for _ in 0..2 {
            end(CancellationToken::new()).await;
        }
        assert!(job.end_asked.load(Ordering::Relaxed));
        assert_eq!(calls.lock().expect("no panic").len(), 2, "once in vain, once with success");
    }

    fn object() -> Value {
        serde_json::to_value(FocusJob::new("5-1", spec(8))).expect("JSON")
    }
}
