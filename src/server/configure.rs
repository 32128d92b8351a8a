//! What `POST /configure` does: validate, find what an earlier request made, or have the job made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::ResourceExt;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::answer::{self, Configured, StreamAddress};
use super::answer_room::Room;
use super::consumer::Shared;
use super::error::ApiError;
use super::forward::Forwarder;
use super::idempotency::{self, Key};
use super::job::Awaited;
use super::jobs::Jobs;
use super::make::{self, Wanted};
use super::recordings::Recordings;
use super::replicas::dial::Dialer;
use super::routes::Received;
use super::security::Security;
use super::store::JobStore;
use super::validate::validate;
use super::windows::Windows;
use crate::api::{AnalyzerSource, FocusJob, FocusJobSpec, view};
use crate::telemetry::traces::JobTrace;

/// Which watches have been read for the first time.
#[derive(Default)]
pub struct Synced {
    jobs: AtomicBool,
    pools: AtomicBool,
}

impl Synced {
    /// Whether the jobs have been read.
    pub fn jobs(&self) -> bool {
        self.jobs.load(Ordering::Acquire)
    }

    /// Whether the pools have been read.
    pub fn pools(&self) -> bool {
        self.pools.load(Ordering::Acquire)
    }

    /// The jobs have been read.
    pub fn set_jobs(&self) {
        self.jobs.store(true, Ordering::Release);
    }

    /// The pools have been read.
    pub fn set_pools(&self) {
        self.pools.store(true, Ordering::Release);
    }
}

/// What the handlers share.
pub struct Server {
    /// What the consumers share too.
    pub shared: Arc<Shared>,
    /// The jobs.
    pub jobs: Arc<Jobs>,
    /// Where jobs are recorded.
    pub store: JobStore,
    /// The windows.
    pub windows: Windows,
    /// How many there are.
    pub window_count: u16,
    /// Pool of the jobs that are made here.
    pub pool: String,
    /// Where clients stream from.
    pub stream: StreamAddress,
    /// Which watches have been read.
    pub synced: Arc<Synced>,
    /// Passes requests on to other replicas.
    pub forwarder: Forwarder,
    /// Connects to them.
    pub dialer: Dialer,
    /// Places where waterfall answers are written.
    pub places: Arc<Semaphore>,
    /// Their memory.
    pub answers: Room,
    /// Places of those who listen to events.
    pub listeners: Arc<Semaphore>,
    /// What historic views can show.
    pub recordings: Arc<Recordings>,
    /// Places for readers of streams.
    pub readers: Arc<Semaphore>,
    /// Who may do what.
    pub security: Arc<Security>,
    /// Answers those who wait when the server ends.
    pub stop: CancellationToken,
}

impl Server {
    /// What is told of a job that is not known.
    pub fn no_such_job(&self) -> Awaited {
        if self.synced.jobs() {
            Awaited::new("none", "UnknownJob", "there is no job of this id")
        } else {
            Awaited::new("none", "ServerStarting", "the server has not yet read the jobs from the API server")
        }
    }
}

/// Makes the job that `request` asks for and answers at once, without waiting for pod, queue or consumer. true: an
/// earlier request with this key had made it.
///
/// # Errors
/// As docs/http-api.md lists them.
pub async fn configure(
    server: Arc<Server>,
    request: Value,
    received: Received,
    key: Option<Key>,
) -> Result<(Configured, bool), ApiError> {
    let spec = validate(&request, &server.pool)?;
    let source = source(&server)?;
    if let Some(words) = view::refusal(&spec, &source) {
        return Err(ApiError::Rule(words));
    }
    match (spec.start_time, spec.end_time) {
        (Some(start), Some(end)) => recorded(&server, &source, start, end)?,
        _ => live(&source)?,
    }
    let answer = |name: &str| answer::configured(name, &spec, &source, &server.stream);
    let deadline = make::deadline(&received);
    if let Some(job) = earlier(&server, key.as_ref(), &spec, deadline).await? {
        return Ok((answer(&job.name_any()), true));
    }
    let wanted = Wanted { spec: &spec, source: &source, request: Arc::new(request), key: key.as_ref() };
    let made = make::make(&server, &wanted, &received).await?;
    let name = made.name_any();
    if let Some(key) = &key
        && !key.is_first(&server.shared.cluster, &made).await?
    {
        let first = earlier(&server, Some(key), &spec, deadline).await?.ok_or_else(|| {
            ApiError::unavailable("KeyUnsettled", "the job of this Idempotency-Key has just been deleted")
        })?;
        return Ok((answer(&first.name_any()), true));
    }
    server.shared.metrics.configure.observe(received.instant.elapsed().as_secs_f64());
    JobTrace::of(&made).log().in_scope(|| info!("configured"));
    Ok((answer(&name), false))
}

/// The job that an earlier request with `key` made, which must have asked for the same view.
async fn earlier(
    server: &Server,
    key: Option<&Key>,
    spec: &FocusJobSpec,
    deadline: Instant,
) -> Result<Option<FocusJob>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    let looking = key.earlier(&server.shared.cluster);
    let found = tokio::time::timeout_at(deadline, looking).await.map_err(|_| make::too_late())??;
    match &found {
        Some(job) if !idempotency::same_view(&job.spec, spec) => Err(ApiError::KeyReused(job.name_any())),
        _ => Ok(found),
    }
}

/// Refuses a historic view of which nothing was recorded.
fn recorded(server: &Server, source: &AnalyzerSource, start: i64, end: i64) -> Result<(), ApiError> {
    let micros = |seconds: i64| seconds.saturating_mul(1_000_000);
    match server.recordings.within(source, micros(start), micros(end)) {
        Ok(found) if found.is_empty() => Err(ApiError::NoRecording),
        Ok(_) => Ok(()),
        Err(why) => Err(ApiError::unavailable("RecordingsUnread", why)),
    }
}

/// Refuses a source without live views.
///
/// # Errors
/// 503.
pub fn live(source: &AnalyzerSource) -> Result<(), ApiError> {
    if source.is_live() {
        return Ok(());
    }
    let message =
        "the source is a folder of recordings: only historic views can be had, with start_time and end_time";
    Err(ApiError::unavailable("NoLiveSource", message))
}

/// Refuses all until jobs and pools have been read.
///
/// # Errors
/// 503.
pub fn synced(server: &Server) -> Result<(), ApiError> {
    if server.synced.pools() && server.synced.jobs() {
        return Ok(());
    }
    let message = "the server has not yet read jobs and pools from the API server";
    Err(ApiError::unavailable("ServerStarting", message))
}

/// The source that the server's pool declares.
///
/// # Errors
/// 503, when it is not known.
pub fn source(server: &Server) -> Result<AnalyzerSource, ApiError> {
    synced(server)?;
    server.shared.source(&server.pool).ok_or_else(|| {
        ApiError::unavailable("NoSource", format!("there is no AnalyzerPool named {}", server.pool))
    })
}
