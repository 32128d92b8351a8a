//! The tasks behind the store: reaching the database, writing what waits, closing what nobody closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::address::{Address, Source};
use super::database::{Database, Open, PAGE};
use super::error::StoreError;
use super::outbox::{LINGER, Pending};
use super::records::Records;
use crate::api::FocusJob;
use crate::backoff::Backoff;

/// Pause between two looks at a database that is well.
const CHECK: Duration = Duration::from_secs(15);
/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Jobs that are written at once: few, for a configure request, which waits for the database, has to wait behind them.
const AT_ONCE: usize = 2;
/// Longest last writing when the server ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause before the first sweep.
const FIRST_SWEEP: Duration = Duration::from_secs(2);
/// Longest wait for one answer of the API server.
const CALL: Duration = Duration::from_secs(5);
/// Pause between two sweeps.
const SWEEP: Duration = Duration::from_secs(60);
/// A record is swept when its job was asked for this long ago: another server may be making its FocusJob yet.
const FRESH_S: i64 = 60;

/// Reaches the database and stays in touch with it until `stop`.
pub async fn reach(database: Arc<Database>, source: Source, stop: CancellationToken) {
    let mut used = None;
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    let mut well = None;
    while !stop.is_cancelled() {
        let outcome = look(&database, &source, &mut used).await;
        let pause = match &outcome {
            Ok(()) => {
                backoff.reset();
                CHECK.mul_f64(rand::rng().random_range(0.8..=1.2))
            }
            Err(problem) => {
                database.set_problem(problem.clone());
                backoff.pause()
            }
        };
        if well != Some(outcome.is_ok()) {
            well = Some(outcome.is_ok());
            match outcome {
                Ok(()) => info!("the database is reached"),
                Err(problem) => warn!(problem, "the database is not reached; jobs cannot be configured"),
            }
        }
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

async fn look(database: &Database, source: &Source, used: &mut Option<Address>) -> Result<(), String> {
    let address = source.read().await.map_err(|error| format!("{error:#}"))?;
    if used.as_ref() == Some(&address) {
        return database.check().await.map_err(|error| error.to_string());
    }
    database.connect(&address).await.map_err(|error| error.to_string())?;
    *used = Some(address);
    Ok(())
}

/// Writes what is due until `stop`, and then all that waits.
pub async fn write(database: Arc<Database>, records: Arc<Records>, stop: CancellationToken) {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    while !stop.is_cancelled() {
        match write_some(&database, &records, Instant::now()).await {
            Some(true) => backoff.reset(),
            Some(false) => {
                stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await;
            }
            None => {
                stop.run_until_cancelled(until_due(&records)).await;
            }
        }
    }
    let all = Instant::now() + LINGER;
    let last = async { while write_some(&database, &records, all).await == Some(true) {} };
    if tokio::time::timeout(FAREWELL, last).await.is_err() {
        warn!(
            "not all that happened to jobs is in the database; the next server writes what their FocusJobs tell"
        );
    }
}

/// Waits until something may be due.
async fn until_due(records: &Records) {
    let changed = records.wake.notified();
    match records.next_due() {
        Some(due) => drop(tokio::time::timeout_at(due.into(), changed).await),
        None => changed.await,
    }
}

/// Writes the jobs that have been due longest at `now`; None: none is; false: none could be written.
async fn write_some(database: &Database, records: &Records, now: Instant) -> Option<bool> {
    let batch = records.take(AT_ONCE, now);
    if batch.is_empty() {
        return None;
    }
    let written = join_all(batch.into_iter().map(|(id, pending)| write_one(database, id, pending))).await;
    let mut well = false;
    for (id, left) in written {
        match left {
            None => {
                records.written(&id);
                well = true;
            }
            Some((pending, error)) => {
                if error.reached() {
                    warn!(record = id, %error, "the database refuses a job's record");
                }
                records.put_back(&id, pending, error.reached());
            }
        }
    }
    Some(well)
}

/// Writes what waits of one job; gives what could not be written, and why.
async fn write_one(
    database: &Database,
    id: String,
    mut pending: Pending,
) -> (String, Option<(Pending, StoreError)>) {
    if pending.discard {
        match database.discard(&id).await {
            Ok(()) => pending.discard = false,
            Err(error) => return (id, Some((pending, error))),
        }
    }
    match database.write(pending.changes.make_contiguous()).await {
        Ok(()) => (id, None),
        Err(error) => (id, Some((pending, error))),
    }
}

/// Closes, again and again until `stop`, the open records whose FocusJob is gone: those of jobs that ended while no
/// server looked, or that a server which died had stored and not made.
pub async fn sweep(
    database: Arc<Database>,
    records: Arc<Records>,
    jobs: Api<FocusJob>,
    synced: impl Fn() -> bool,
    stop: CancellationToken,
) {
    let mut pause = FIRST_SWEEP;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        if !synced() {
            continue;
        }
        match stop.run_until_cancelled(sweep_once(&database, &records, &jobs)).await {
            Some(Ok(())) => pause = SWEEP.mul_f64(rand::rng().random_range(0.8..=1.2)),
            Some(Err(error)) => warn!(%error, "looking for records of jobs that are gone"),
            None => {}
        }
    }
}

async fn sweep_once(database: &Database, records: &Records, jobs: &Api<FocusJob>) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let before = Timestamp::from_second(now.as_second() - FRESH_S)?;
    let mut last = None;
    loop {
        let page = database.open_before(before, last.as_deref()).await?;
        for open in &page {
            // The API server is asked, for our own watch may be behind.
            if !records.sees(&open.id) && is_gone(jobs, open).await? && database.close(&open.id, now).await? {
                let (namespace, job, uid) = (jobs.namespace(), &open.job, open.uid.as_deref());
                warn!(
                    namespace,
                    job, uid, "its FocusJob is gone and nobody saw it end: its record is closed"
                );
            }
        }
        if page.len() < PAGE {
            return Ok(());
        }
        last = page.into_iter().next_back().map(|open| open.id);
    }
}

async fn is_gone(jobs: &Api<FocusJob>, open: &Open) -> anyhow::Result<bool> {
    let found = tokio::time::timeout(CALL, jobs.get_opt(&open.job)).await??;
    Ok(found.is_none_or(|job| open.uid.is_some() && open.uid != job.uid()))
}
