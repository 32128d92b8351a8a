//! Joins a reader to a job: the one place that knows where a job's lines come from.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::ending;
use super::fan::Reader;
use crate::api::AnalyzerSource;
use crate::server::configure::Server;
use crate::server::forward::{Patience, unreachable};
use crate::server::job::{Awaited, Job, REPLICA, Stage};
use crate::server::jobs::explain;
use crate::server::metrics::ReaderKind;
use crate::server::replicas::Place;

/// Most readers at once, of all jobs.
pub const MAX_READERS: u32 = 4096;
/// How long a reader waits for a job's consumer unless it says otherwise.
pub const WAIT: Duration = Duration::from_secs(30);

/// What a reader asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// How it reads.
    pub kind: ReaderKind,
    /// How many of the lines that are still kept it gets first.
    pub earlier: usize,
    /// How long it waits for the consumer.
    pub wait: Duration,
}

/// Why there is nothing to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No job was named, and this many are live.
    #[error("{}", unnamed(*.0))]
    Unnamed(usize),
    /// The job has no consumer, or there is no such job.
    #[error("{}: {}", .0.reason, .0.message)]
    NoLines(Awaited),
    /// There are too many readers.
    #[error("this server has {MAX_READERS} readers, which is all that it takes; try again later")]
    Full,
}

fn unnamed(live: usize) -> String {
    let hint = "name the job in the metadata `job-id`; `GET /focus-server/jobs` lists the jobs";
    match live {
        0 => format!("there is no live job: make one by `POST /focus-server/configure`, then {hint}"),
        _ => format!("there are {live} live jobs: {hint}"),
    }
}

/// The job of this id, or the only live one.
///
/// # Errors
/// When there is no such job, or none is named and there is not exactly one.
pub fn find(server: &Server, id: Option<&str>) -> Result<Arc<Job>, Refusal> {
    let Some(id) = id else {
        let mut live = server.jobs.live();
        return match (live.pop(), live.len()) {
            (Some(job), 0) => Ok(job),
            (None, _) => Err(Refusal::Unnamed(0)),
            (Some(_), others) => Err(Refusal::Unnamed(others + 1)),
        };
    };
    server.jobs.get(id).map(|(job, _)| job).ok_or_else(|| Refusal::NoLines(server.no_such_job()))
}

/// Where a reader's lines come from.
pub enum Lines<T> {
    /// From this replica's consumer.
    Here(Reader, Box<AnalyzerSource>),
    /// From another replica.
    There(T),
}

/// A reader of `job` where its consumer is. `relay` is asked for what comes from the replica at an address, which may
/// take as long as it is told; None: that replica is gone, or has given the job away.
///
/// # Errors
/// When the job has come to its end, its consumer has not come in time, or the other replica refuses.
pub async fn open_anywhere<T, E: From<Refusal>>(
    server: &Server,
    job: &Arc<Job>,
    ask: Ask,
    passed_on: bool,
    relay: impl Fn(String, Duration) -> BoxFuture<'static, Result<T, Option<E>>>,
) -> Result<Lines<T>, E> {
    let mut patience = Patience::new(server, ask.wait);
    loop {
        let moved = match elsewhere(server, &job.name).filter(|_| !passed_on) {
            Some(address) => match relay(address, patience.left()).await {
                Ok(there) => return Ok(Lines::There(there)),
                Err(Some(refused)) => return Err(refused),
                Err(None) => unreachable(),
            },
            None => match open(server, Arc::clone(job), Ask { wait: patience.left(), ..ask }).await {
                Ok((reader, source)) => return Ok(Lines::Here(reader, Box::new(source))),
                Err(Refusal::NoLines(why)) if why.phase == REPLICA && !passed_on => why,
                Err(refusal) => return Err(refusal.into()),
            },
        };
        if !patience.pause().await {
            return Err(Refusal::NoLines(moved).into());
        }
    }
}

/// The address of the replica that has the consumer of the job of this id, when it is another one.
pub fn elsewhere(server: &Server, id: &str) -> Option<String> {
    match server.jobs.place(id)? {
        Place::There(address) => Some(address),
        Place::Here | Place::Nowhere => None,
    }
}

/// A place among the readers.
///
/// # Errors
/// When all are taken.
pub fn place(server: &Server) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&server.readers).try_acquire_owned().map_err(|_| Refusal::Full)
}

/// A reader of `job`, once it has a consumer here, and the source of its lines.
///
/// # Errors
/// When the job has come to its end, is another replica's, or its consumer has not come in time.
async fn open(server: &Server, job: Arc<Job>, ask: Ask) -> Result<(Reader, AnalyzerSource), Refusal> {
    let place = place(server)?;
    let counts = server.shared.metrics.reader_counts(ask.kind);
    // Before the wait: who waits for a job reads it.
    let reader = Reader::new(Arc::clone(&job), ask.earlier, counts, place, &server.stop);
    match (job.settled(ask.wait, &server.stop).await, job.source()) {
        (Stage::Attached, Some(source)) => Ok((reader, source.clone())),
        (Stage::Attached, None) => {
            Err(Refusal::NoLines(Awaited::new("pool", "PoolNotFound", "the job's pool is not known")))
        }
        (Stage::Waiting(_), _) if server.stop.is_cancelled() => Err(Refusal::NoLines(ending::stopping())),
        (Stage::Waiting(awaited) | Stage::Ended(awaited), _) => {
            Err(Refusal::NoLines(in_words(server, &job, awaited)))
        }
    }
}

fn in_words(server: &Server, job: &Job, awaited: Awaited) -> Awaited {
    match server.jobs.get(&job.name) {
        Some((same, object)) if same.uid == job.uid => explain(awaited, &object),
        _ => awaited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_no_job_is_told_what_to_do() {
        for (live, words) in [(0, "no live job"), (2, "2 live jobs")] {
            let told = Refusal::Unnamed(live).to_string();
            assert!(told.contains(words) && told.contains("`job-id`"), "{told}");
        }
    }
}
