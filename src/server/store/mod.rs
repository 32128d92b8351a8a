//! The job store: the records of jobs, and the claim of a window.
//!
//! With Kubernetes, the default, a FocusJob is its own record and nothing else is stored. With MongoDB each job has
//! a document as well, which outlives the FocusJob; docs/job-store.md describes it. `snapshot`, `document`,
//! `outbox`, `history` and `indexes` are pure.

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

pub use args::StoreArgs;
pub use error::StoreError;

use crate::api::FocusJob;
use crate::server::cluster::Cluster;
use crate::server::replicas::Replicas;
use crate::server::replicas::windows::WindowLeases;
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

    /// When the claims of a request that begins to be stored now must be done.
    pub fn deadline(&self) -> Instant {
        match self {
            Self::Kubernetes(_) => Instant::now(),
            Self::MongoDb(store) => Instant::now() + store.time_out,
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
            Self::Kubernetes(Some(leases)) => match leases.claim(claim.window, &claim.job).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(StoreError::WindowTaken),
                Err(error) => Err(StoreError::NotAsked("claiming a window", error.to_string())),
            },
            Self::MongoDb(store) => store.claim(claim, deadline).await,
        }
    }

    /// Has the record of a job that was claimed and not made removed, in the background.
    pub fn discard(&self, namespace: &str, job: &str) {
        if let Self::MongoDb(store) = self {
            store.records.discard(&snapshot::claim_id(namespace, job));
        }
    }

    /// The watch tells of `job`.
    pub fn saw(&self, job: &FocusJob) {
        if let Self::MongoDb(store) = self {
            store.records.saw(job);
        }
    }

    /// The watch tells that `job` has been deleted.
    pub fn gone(&self, job: &FocusJob) {
        if let Self::MongoDb(store) = self {
            store.records.gone(job);
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
