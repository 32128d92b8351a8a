//! Joins a reader to a job: the one place that knows where a job's lines come from.

use std::sync::Arc;
use std::time::Duration;

use super::ending;
use super::fan::Reader;
use crate::api::AnalyzerSource;
use crate::server::configure::Server;
use crate::server::job::{Awaited, Job, Stage};
use crate::server::jobs::explain;
use crate::server::metrics::ReaderKind;

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

/// A reader of `job`, once it has a consumer, and the source of its lines.
///
/// # Errors
/// When the job has come to its end, or its consumer has not come in time.
pub async fn open(server: &Server, job: Arc<Job>, ask: Ask) -> Result<(Reader, AnalyzerSource), Refusal> {
    let place = Arc::clone(&server.readers).try_acquire_owned().map_err(|_| Refusal::Full)?;
    let counts = server.shared.metrics.reader_counts(ask.kind);
    // Before the wait: who waits for a job reads it.
    let reader = Reader::new(Arc::clone(&job), ask.earlier, counts, place, &server.stop);
    let mut stages = job.stages();
    let stage = tokio::select! {
        stage = stages.wait_for(|stage| !matches!(stage, Stage::Waiting(_))) => stage.ok().map(|s| s.clone()),
        () = tokio::time::sleep(ask.wait) => None,
        () = server.stop.cancelled() => return Err(Refusal::NoLines(ending::stopping())),
    };
    let stage = stage.unwrap_or_else(|| job.stages().borrow().clone());
    match (stage, job.source()) {
        (Stage::Attached, Some(source)) => Ok((reader, source.clone())),
        (Stage::Attached, None) => {
            Err(Refusal::NoLines(Awaited::new("pool", "PoolNotFound", "the job's pool is not known")))
        }
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
