//! Talking to the database. Each call is bounded in time, measured, and fails in words without secrets.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::jiff::Timestamp;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use tokio::sync::watch;

use super::address::Address;
use super::document;
use super::error::StoreError;
use super::history::{Query, Sort};
use super::indexes;
use super::metrics::{Operation, StoreMetrics};
use super::snapshot::Snapshot;
use super::updates::{self, Standing, Update};

/// Longest wait for one answer, where no request waits for it.
const CALL: Duration = Duration::from_secs(5);
/// Longest search for a server that can be written to.
const SELECTION: Duration = Duration::from_secs(2);
/// How often a record is read again because another replica has changed it in between.
const READINGS: usize = 3;
/// What a write does, in an error.
const WRITING: &str = "writing the job's record";
/// Most records that a sweep reads at once.
pub const PAGE: usize = 500;

/// An open record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its `_id`.
    pub id: String,
    /// The FocusJob's name.
    pub job: String,
    /// The FocusJob's uid, if it was ever seen.
    pub uid: Option<String>,
}

/// The database.
pub struct Database {
    /// The metrics.
    pub metrics: StoreMetrics,
    namespace: String,
    name: String,
    kept: Duration,
    jobs: watch::Sender<Option<Collection<Document>>>,
    problem: Mutex<String>,
}

impl Database {
    /// The database `name`, for the jobs of `namespace`, whose records are kept for `kept` after their end.
    pub fn new(namespace: String, name: String, kept: Duration, metrics: StoreMetrics) -> Arc<Self> {
        let problem = Mutex::new("the database has not been reached yet".to_owned());
        Arc::new(Self { metrics, namespace, name, kept, jobs: watch::channel(None).0, problem })
    }

    /// Connects to `address`, and makes sure of the indexes. Only then is the database used.
    ///
    /// # Errors
    /// When the address is not understood or the database not reached.
    pub async fn connect(&self, address: &Address) -> Result<(), StoreError> {
        let what = "connecting to the database";
        let mut options =
            ClientOptions::parse(address.text()).await.map_err(|error| StoreError::of(what, &error))?;
        options.app_name.get_or_insert_with(|| "focus-server".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION);
        options.connect_timeout.get_or_insert(SELECTION);
        // A request must not wait for a connection to be made.
        options.min_pool_size.get_or_insert(2);
        let client = Client::with_options(options).map_err(|error| StoreError::of(what, &error))?;
        let jobs = client.database(&self.name).collection("jobs");
        self.make_indexes(&jobs).await?;
        self.jobs.send_replace(Some(jobs));
        Ok(())
    }

    /// Makes sure of the indexes again: the collection may have been dropped.
    ///
    /// # Errors
    /// When the database is not reached.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.make_indexes(&self.jobs()?).await
    }

    async fn make_indexes(&self, jobs: &Collection<Document>) -> Result<(), StoreError> {
        let made = jobs.create_indexes(indexes::all());
        self.call(Operation::Prepare, "making the indexes", CALL, made.into_future()).await.map(drop)
    }

    fn jobs(&self) -> Result<Collection<Document>, StoreError> {
        let problem = || StoreError::NotAsked("reaching the database", self.problem());
        self.jobs.borrow().clone().ok_or_else(problem)
    }

    /// Whether it has ever been reached.
    pub fn was_reached(&self) -> bool {
        self.jobs.borrow().is_some()
    }

    /// Why the database was not reached.
    pub fn problem(&self) -> String {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps in mind why the database was not reached.
    pub fn set_problem(&self, problem: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Stores the record of a job that is about to be made. Not bounded by itself: the driver's own time-outs end it.
    ///
    /// # Errors
    /// When window or id is taken, or the record is not stored.
    pub async fn claim(&self, record: &Document) -> Result<(), StoreError> {
        let jobs = self.jobs()?;
        let stored = jobs.insert_one(record);
        self.call(Operation::Claim, "storing the job", Duration::from_secs(30), stored.into_future())
            .await
            .map(drop)
    }

    /// Takes `changes` of one job, the oldest first, into its record. What is older than the record, or comes after its
    /// end, changes nothing.
    ///
    /// # Errors
    /// When it is not known to be written.
    pub async fn write(&self, changes: &[Snapshot]) -> Result<(), StoreError> {
        let Some((before, last)) = updates::until_end(changes) else { return Ok(()) };
        if self.update(updates::expected(before, last, self.kept)).await? {
            return Ok(());
        }
        for _ in 0..READINGS {
            let Some(standing) = self.standing(&last.id).await? else {
                match self.insert(document::found(before, last, self.kept)).await {
                    // Another was faster.
                    Err(StoreError::IdTaken) => continue,
                    outcome => return outcome,
                }
            };
            let missing = updates::missing(&standing, before, last, self.kept);
            let Some(update) = missing else { return Ok(()) };
            if self.update(update).await? {
                return Ok(());
            }
        }
        Err(StoreError::Contended(WRITING, READINGS))
    }

    /// What stands in the record `id`, if there is one.
    async fn standing(&self, id: &str) -> Result<Option<Standing>, StoreError> {
        let jobs = self.jobs()?;
        let found = jobs.find_one(doc! { "_id": id }).projection(Standing::fields()).into_future();
        let record = self.call(Operation::Write, "reading the job's record", CALL, found).await?;
        Ok(record.as_ref().map(Standing::of))
    }

    /// Inserts the record of a job that was found. It must not be lost because another job holds its window.
    async fn insert(&self, mut record: Document) -> Result<(), StoreError> {
        let jobs = self.jobs()?;
        loop {
            let inserted = jobs.insert_one(&record).into_future();
            match self.call(Operation::Write, WRITING, CALL, inserted).await {
                Err(StoreError::WindowTaken) if record.remove("window").is_some() => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    async fn update(&self, (filter, update): Update) -> Result<bool, StoreError> {
        let jobs = self.jobs()?;
        let updated = jobs.update_one(filter, update).into_future();
        let result = self.call(Operation::Write, WRITING, CALL, updated).await?;
        Ok(result.matched_count > 0)
    }

    /// Closes the record `id`, whose FocusJob is gone; false when it is closed already.
    ///
    /// # Errors
    /// When that is not known to be done.
    pub async fn close(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        self.update(updates::vanished(id, now, self.kept)).await
    }

    /// Removes the record `id` of a job that was never made.
    ///
    /// # Errors
    /// When it may still be there.
    pub async fn discard(&self, id: &str) -> Result<(), StoreError> {
        let jobs = self.jobs()?;
        let deleted = jobs.delete_one(document::never_made(id)).into_future();
        self.call(Operation::Discard, "removing the job's record", CALL, deleted).await.map(drop)
    }

    /// Open records of jobs that were asked for before `before`, in the order of their ids: the first [`PAGE`], or those
    /// `after` the id of one of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_before(&self, before: Timestamp, after: Option<&str>) -> Result<Vec<Open>, StoreError> {
        let jobs = self.jobs()?;
        let found = jobs
            .find(document::open_before(&self.namespace, before, after))
            .projection(doc! { "job": 1, "uid": 1 })
            .sort(doc! { "_id": 1 })
            .limit(i64::try_from(PAGE).unwrap_or(i64::MAX));
        let read = async { found.await?.try_collect::<Vec<Document>>().await };
        let records = self.call(Operation::Sweep, "looking for open records", CALL, read).await?;
        let text = |record: &Document, name: &str| record.get_str(name).ok().map(str::to_owned);
        let open = |record: &Document| {
            Some(Open { id: text(record, "_id")?, job: text(record, "job")?, uid: text(record, "uid") })
        };
        Ok(records.iter().filter_map(open).collect())
    }

    /// The records that `query` asks for, at `now`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn history(&self, query: &Query, now: Timestamp) -> Result<Vec<Document>, StoreError> {
        let jobs = self.jobs()?;
        let (filter, sort) = match query.sort {
            Sort::Recent => (doc! {}, doc! { "configuredAt": -1 }),
            Sort::Slowest => {
                (doc! { "phaseSeconds.consumer": { "$gte": 0.0 } }, doc! { "phaseSeconds.consumer": -1 })
            }
        };
        let mut asked = document::since(&self.namespace, query.since, now);
        asked.extend(filter);
        let found = jobs.find(asked).sort(sort).limit(query.limit).max_time(CALL);
        let read = async { found.await?.try_collect().await };
        self.call(Operation::History, "reading the history", CALL, read).await
    }

    async fn call<T>(
        &self,
        operation: Operation,
        what: &'static str,
        limit: Duration,
        future: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(limit, future).await {
            Ok(outcome) => outcome.map_err(|error| StoreError::of(what, &error)),
            Err(_) => Err(StoreError::Unavailable(what, format!("no answer within {} s", limit.as_secs()))),
        };
        let taken = matches!(outcome, Err(StoreError::WindowTaken | StoreError::IdTaken));
        self.metrics.done(operation, begun, outcome.is_ok() || taken);
        self.metrics.connected.set(i64::from(outcome.as_ref().err().is_none_or(StoreError::reached)));
        outcome
    }
}
