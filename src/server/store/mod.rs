//! The job store: the records of jobs, and the claim of a window.
//!
//! With Kubernetes, the default, a FocusJob is its own record and nothing else is stored. With MongoDB each job has
//! a document as well, which outlives the FocusJob; docs/job-store.md describes it. `snapshot`, `document`,
//! `updates`, `outbox`, `history` and `indexes` are pure.

mod address;
mod args;
mod database;
mod document;
mod error;
pub mod history;
mod indexes;
pub(super) mod metrics;
mod outbox;
mod records;
mod snapshot;
mod updates;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use prometheus::Registry;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use args::StoreArgs;
pub use error::StoreError;

use crate::api::FocusJob;
use crate::backoff::Backoff;
use crate::server::cluster::Cluster;
use crate::server::replicas::Replicas;
use crate::server::replicas::windows::{MAKING, WindowLeases};
use database::Database;
use records::Records;

/// What is stored of a job before it is made.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Namespace of the FocusJob.
    pub namespace: String,
    /// Its name: the job id.
    pub job: String,
    /// The window that it is to have.
    pub window: u16,
    /// The request as received.
    pub request: Arc<Value>,
    /// When it was received.
    pub configured_at: Timestamp,
}

/// Where jobs are recorded.
#[derive(Clone)]
pub enum JobStore {
    /// The FocusJob is the record; windows are claimed by Leases where several replicas give them out.
    Kubernetes(Option<Box<WindowLeases>>),
    /// A document for each job.
    MongoDb(MongoDb),
}

/// How long a new server waits for its database before it says that it is ready without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// First and longest pause between attempts to give a window back.
const GIVE_BACK_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The MongoDB store.
#[derive(Clone)]
pub struct MongoDb {
    started: Instant,
    database: Arc<Database>,
    records: Arc<Records>,
    time_out: Duration,
}

impl JobStore {
    /// The store that `args` ask for, and its tasks, which end after `stop`, or when they are dropped. `synced`
    /// tells whether the FocusJobs have been read for the first time.
    ///
    /// # Errors
    /// When the database's address is not understood.
    pub async fn start(
        args: &StoreArgs,
        registry: &Registry,
        cluster: &Cluster,
        replicas: &Replicas,
        synced: impl Fn() -> bool + Send + 'static,
        stop: &CancellationToken,
    ) -> anyhow::Result<(Self, JoinSet<()>)> {
        let mut tasks = JoinSet::new();
        let Some(source) = args.source() else {
            let leases = (!replicas.are_one()).then(|| Box::new(WindowLeases::new(cluster)));
            return Ok((Self::Kubernetes(leases), tasks));
        };
        let (jobs, namespace) = (cluster.jobs.clone(), cluster.namespace.clone());
        if let address::Source::Given(_) = source {
            source.read().await?;
        }
        let metrics = metrics::StoreMetrics::new(registry)?;
        let records = Arc::new(Records::new(metrics.clone()));
        let database = Database::new(namespace, args.mongodb_database.clone(), args.kept(), metrics);
        tasks.spawn(writer::reach(Arc::clone(&database), source, stop.clone()));
        tasks.spawn(writer::write(Arc::clone(&database), Arc::clone(&records), stop.clone()));
        tasks.spawn(writer::sweep(Arc::clone(&database), Arc::clone(&records), jobs, synced, stop.clone()));
        let time_out = Duration::from_millis(args.store_timeout_ms);
        Ok((Self::MongoDb(MongoDb { started: Instant::now(), database, records, time_out }), tasks))
    }

    /// What a server that has just started should wait for before it takes requests: it would refuse to configure.
    /// It does not wait long, for without the database it can still serve the jobs that run.
    pub fn awaited(&self) -> Option<String> {
        let Self::MongoDb(store) = self else { return None };
        let wait = !store.database.was_reached() && store.started.elapsed() < PATIENCE;
        wait.then(|| format!("the database: {}", store.database.problem()))
    }

    /// When the claims of a request that begins to be stored now, and must be made until `latest`, must be done.
    pub fn deadline(&self, latest: Instant) -> Instant {
        match self {
            Self::Kubernetes(_) => latest,
            Self::MongoDb(store) => latest.min(Instant::now() + store.time_out),
        }
    }

    /// Stores `claim`, by which its window is taken, before its FocusJob is made.
    ///
    /// # Errors
    /// When window or id is taken, or the job is not known to be stored at `deadline`; then its record, should it
    /// come to be, is removed.
    pub async fn claim(&self, claim: &Claim, deadline: Instant) -> Result<(), StoreError> {
        match self {
            Self::Kubernetes(None) => Ok(()),
            Self::Kubernetes(Some(leases)) => {
                match tokio::time::timeout_at(deadline, leases.claim(claim.window, &claim.job)).await {
                    Ok(Ok(true)) => Ok(()),
                    Ok(Ok(false)) => Err(StoreError::WindowTaken),
                    Ok(Err(error)) => {
                        self.discard(claim);
                        Err(StoreError::Unavailable("claiming a window", error.to_string()))
                    }
                    Err(_) => {
                        self.discard(claim);
                        let late = "the API server was too slow for this request".to_owned();
                        Err(StoreError::Unavailable("claiming a window", late))
                    }
                }
            }
            Self::MongoDb(store) => store.claim(claim, deadline).await,
        }
    }

    /// Takes `claim` back, whose job was not made, in the background: its record is removed, its window given back.
    pub fn discard(&self, claim: &Claim) {
        match self {
            Self::Kubernetes(None) => {}
            Self::Kubernetes(Some(leases)) => {
                tokio::spawn(give_back(leases.as_ref().clone(), claim.window, claim.job.clone()));
            }
            Self::MongoDb(store) => store.records.discard(&snapshot::claim_id(&claim.namespace, &claim.job)),
        }
    }

    /// The watch tells of `job`.
    pub fn saw(&self, job: &FocusJob) {
        match self {
            Self::Kubernetes(leases) => leases.iter().for_each(|leases| leases.saw(job)),
            Self::MongoDb(store) => store.records.saw(job),
        }
    }

    /// The watch tells that `job` has been deleted.
    pub fn gone(&self, job: &FocusJob) {
        match self {
            Self::Kubernetes(leases) => leases.iter().for_each(|leases| leases.gone(job)),
            Self::MongoDb(store) => store.records.gone(job),
        }
    }

    /// The watch has read a complete list.
    pub fn resync(&self, listed: &[Arc<FocusJob>]) {
        if let Self::MongoDb(store) = self {
            store.records.resync(listed);
        }
    }

    /// The records of past and present jobs that `query` asks for; None when there is no database.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn history(&self, query: &history::Query) -> Option<Result<Vec<Value>, StoreError>> {
        let Self::MongoDb(store) = self else { return None };
        let records = store.database.history(query, Timestamp::now()).await;
        Some(records.map(|records| records.into_iter().map(document::shown).collect()))
    }
}

/// Gives `window` back, which was claimed for `job`, unless the claim lapses first.
async fn give_back(leases: WindowLeases, window: u16, job: String) {
    let mut backoff = Backoff::new(GIVE_BACK_PAUSES.0, GIVE_BACK_PAUSES.1);
    let again = async {
        while let Err(error) = leases.release(window, &job).await {
            warn!(job, %error, "giving back the window of a job that was not made");
            tokio::time::sleep(backoff.pause()).await;
        }
    };
    let _ = tokio::time::timeout(MAKING, again).await;
}

impl MongoDb {
    async fn claim(&self, claim: &Claim, deadline: Instant) -> Result<(), StoreError> {
        let (done, mut outcome) = oneshot::channel();
        let (database, records) = (Arc::clone(&self.database), Arc::clone(&self.records));
        let record = document::claimed(claim);
        let id = snapshot::claim_id(&claim.namespace, &claim.job);
        // In a task of its own: only who waits for the answer can take back what was stored too late.
        tokio::spawn(async move {
            let stored = database.claim(&record).await;
            let may_be_there = matches!(stored, Ok(()) | Err(StoreError::Unavailable(..)));
            let known_well = stored.is_ok();
            if (done.send(stored).is_err() || !known_well) && may_be_there {
                records.discard(&id);
            }
        });
        match tokio::time::timeout_at(deadline, &mut outcome).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(_)) => {
                Err(StoreError::NotAsked("storing the job", "the server is shutting down".to_owned()))
            }
            Err(_) => {
                outcome.close();
                let late = format!("no answer within {} ms", self.time_out.as_millis());
                // The answer may have come at this very moment.
                outcome.try_recv().unwrap_or(Err(StoreError::Unavailable("storing the job", late)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::cluster::tests::fake;

    #[tokio::test]
    async fn a_claim_that_comes_too_late_is_taken_back() {
        // The first call has no answer; then the window turns out to be ours.
        let (cluster, calls) = fake(|_, before| {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "focus-window-5"}, "spec": {"holderIdentity": "5-1"}
            });
            (before > 0).then_some((200, lease))
        });
        let store = JobStore::Kubernetes(Some(Box::new(WindowLeases::new(&cluster))));
        let claim = Claim {
            namespace: "fibre".to_owned(),
            job: "5-1".to_owned(),
            window: 5,
            request: Arc::new(Value::Null),
            configured_at: Timestamp::UNIX_EPOCH,
        };
        let begun = Instant::now();
        let outcome = store.claim(&claim, store.deadline(begun + Duration::from_millis(20))).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(..))), "{outcome:?}");
        let given_back = || calls.lock().expect("no panic").iter().any(|call| call.starts_with("PUT"));
        while !given_back() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the window is not given back: {calls:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
