//! Windows among several replicas: a Lease for each, held by the job that has it. Whoever writes the Lease first
//! has the window; the resourceVersion keeps a second one out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};

use super::ended::Ended;
use super::pod;
use crate::api::FocusJob;
use crate::server::cluster::{Cluster, ClusterError, call};
use crate::server::jobs;

/// A job whose window was claimed so long ago and that does not exist was never made: far longer than claim and creation
/// may take, also where two machines' clocks differ. Whoever fails to make one gives its window back itself.
pub const MAKING: Duration = Duration::from_secs(60);

/// The Leases of the windows.
#[derive(Clone)]
pub struct WindowLeases {
    leases: Api<Lease>,
    jobs: Api<FocusJob>,
    pod: Option<OwnerReference>,
    /// What tells a job that is gone from one that is being made.
    ended: Arc<Ended>,
}

impl WindowLeases {
    /// The Leases in the namespace of `cluster`.
    pub fn new(cluster: &Cluster) -> Self {
        let leases = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let ended = Arc::new(Ended::new(MAKING));
        Self { leases, jobs: cluster.jobs.clone(), pod: pod(&cluster.namespace), ended }
    }

    /// The watch tells of `job`.
    pub fn saw(&self, job: &FocusJob) {
        self.ended.there(&job.name_any());
    }

    /// The watch tells that `job` has been deleted: its window is free at once.
    pub fn gone(&self, job: &FocusJob) {
        self.ended.gone(&job.name_any(), Instant::now());
    }

    /// Claims `window` for `job`; false when another job has it.
    ///
    /// # Errors
    /// When the API server refuses or does not answer in time.
    pub async fn claim(&self, window: u16, job: &str) -> Result<bool, ClusterError> {
        let name = format!("focus-window-{window}");
        let params = PostParams::default();
        let held = call("reading a window's Lease", self.leases.get_opt(&name)).await?;
        let written = match held {
            None => {
                let lease = self.lease(ObjectMeta { name: Some(name), ..ObjectMeta::default() }, job);
                call("claiming a window", self.leases.create(&params, &lease)).await
            }
            Some(held) if self.is_taken(&held).await? => return Ok(false),
            Some(held) => {
                let lease = self.lease(held.metadata, job);
                call("claiming a window", self.leases.replace(&name, &params, &lease)).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Another replica was faster.
            Err(error) if error.code() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives `window` back, which was claimed for `job`; when another has it, it is left alone.
    ///
    /// # Errors
    /// When the API server refuses or does not answer in time.
    pub async fn release(&self, window: u16, job: &str) -> Result<(), ClusterError> {
        let name = format!("focus-window-{window}");
        let held = call("reading a window's Lease", self.leases.get_opt(&name)).await?;
        let Some(held) = held.filter(|held| holder(held) == Some(job)) else { return Ok(()) };
        let free = Lease { metadata: held.metadata, spec: Some(LeaseSpec::default()) };
        let params = PostParams::default();
        match call("giving a window back", self.leases.replace(&name, &params, &free)).await {
            // Gone, or another replica was faster.
            Err(error) if !matches!(error.code(), Some(404 | 409)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the job that holds `lease` is live, or is still being made.
    async fn is_taken(&self, lease: &Lease) -> Result<bool, ClusterError> {
        let Some(holder) = holder(lease).filter(|job| !self.ended.has(job, Instant::now())) else {
            return Ok(false);
        };
        let job = call("reading the job that has a window", self.jobs.get_opt(holder)).await?;
        let claimed = lease.spec.as_ref().and_then(|spec| spec.acquire_time.as_ref()).map(|at| at.0);
        Ok(is_taken(job.as_ref(), claimed, Timestamp::now()))
    }

    /// It goes with the pod of whoever claimed last: by then every replica's watch has told of the job.
    fn lease(&self, metadata: ObjectMeta, job: &str) -> Lease {
        Lease {
            metadata: ObjectMeta { owner_references: self.pod.clone().map(|pod| vec![pod]), ..metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(job.to_owned()),
                // As late as can be: from here on only the creation is to come.
                acquire_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn is_taken(job: Option<&FocusJob>, claimed: Option<Timestamp>, now: Timestamp) -> bool {
    match job {
        Some(job) => jobs::holds_window(job),
        None => claimed.is_some_and(|at| now.duration_since(at).as_secs_f64() < MAKING.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::server::answer::tests::spec;
    use crate::server::cluster::tests::fake;

    #[tokio::test]
    async fn a_window_is_given_back_by_the_job_that_has_it_only() {
        for (holder, calls) in [
            (Some("5-1"), &["GET leases/focus-window-5", "PUT leases/focus-window-5"][..]),
            (Some("5-2"), &["GET leases/focus-window-5"]),
            (None, &["GET leases/focus-window-5"]),
        ] {
            let (cluster, told) = fake(move |call, _| {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": "focus-window-5", "resourceVersion": "7"}, "spec": {"holderIdentity": holder}
                });
                Some(if call.ends_with("focus-window-5") { (200, lease) } else { (404, Value::Null) })
            });
            WindowLeases::new(&cluster).release(5, "5-1").await.expect("an answer");
            assert_eq!(*told.lock().expect("no panic"), calls, "{holder:?}");
        }
    }

    #[tokio::test]
    async fn the_window_of_a_job_that_was_seen_to_go_is_free_at_once() {
        let (cluster, told) = fake(|call, _| {
            let claimed = MicroTime(Timestamp::now());
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "focus-window-5", "resourceVersion": "7"},
                "spec": {"holderIdentity": "5-1", "acquireTime": claimed}
            });
            Some(if call.ends_with("focus-window-5") { (200, lease) } else { (404, Value::Null) })
        });
        let windows = WindowLeases::new(&cluster);
        assert!(!windows.claim(5, "5-2").await.expect("an answer"), "it may be in the making");
        windows.gone(&FocusJob::new("5-1", spec(8)));
        assert!(windows.claim(5, "5-2").await.expect("an answer"));
        windows.saw(&FocusJob::new("5-1", spec(8)));
        assert!(!windows.claim(5, "5-2").await.expect("an answer"), "there again");
        assert_eq!(told.lock().expect("no panic").last().map(String::as_str), Some("GET focusjobs/5-1"));
    }

    #[test]
    fn a_window_is_taken_by_a_live_job_and_by_one_that_is_being_made() {
        let now = Timestamp::from_second(1000).expect("a time");
        let at = |second| Some(Timestamp::from_second(second).expect("a time"));
        let live = FocusJob::new("5-1", spec(8));
        let mut gone = live.clone();
        gone.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        for (job, claimed, taken) in [
            (Some(&live), at(0), true),
            (Some(&gone), at(999), false),
            (None, at(999), true),
            (None, at(950), true),
            (None, at(930), false),
            (None, None, false),
        ] {
            assert_eq!(is_taken(job, claimed, now), taken, "{claimed:?}");
        }
    }
}
