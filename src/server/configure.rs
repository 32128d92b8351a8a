//! What `POST /configure` does: validate, take a window, create the FocusJob.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::api::ObjectMeta;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::answer::{self, Configured, StreamAddress};
use super::consumer::Shared;
use super::error::ApiError;
use super::job::Expected;
use super::jobs::Jobs;
use super::routes::Received;
use super::security::{Caller, Security};
use super::validate::validate;
use super::windows::{Reservation, Windows, job_id};
use crate::api::{AnalyzerSource, FocusJob, FocusJobSpec, names, view};

/// How many names are tried when others have taken them.
const NAMES: i64 = 8;

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
    /// Places where waterfall answers are written.
    pub places: Arc<Semaphore>,
    /// Who may do what.
    pub security: Arc<Security>,
    /// Answers those who wait when the server ends.
    pub stop: CancellationToken,
}

/// Makes the job that `request` asks for and answers at once, without waiting for pod, queue or consumer.
///
/// # Errors
/// As docs/http-api.md lists them.
pub async fn configure(
    server: Arc<Server>,
    request: Value,
    received: Received,
) -> Result<Configured, ApiError> {
    let spec = validate(&request, &server.pool)?;
    let source = source(&server)?;
    if let Some(words) = view::refusal(&spec, &source) {
        return Err(ApiError::Rule(words));
    }
    if spec.start_time.is_some() {
        return Err(ApiError::NoRecording);
    }
    let reservation =
        server.windows.reserve(|| server.jobs.windows()).ok_or(ApiError::NoWindow(server.window_count))?;
    let _place = server
        .security
        .place(received.caller.as_ref(), reservation.window(), |caller| server.jobs.windows_of(caller))?;
    let name = create(&server, &spec, &source, &reservation, &received).await?;
    server.shared.metrics.configure.observe(received.instant.elapsed().as_secs_f64());
    info!(job = name, "configured");
    Ok(answer::configured(&name, &spec, &source, &server.stream))
}

fn source(server: &Server) -> Result<AnalyzerSource, ApiError> {
    if !server.synced.pools() || !server.synced.jobs() {
        let message = "the server has not yet read jobs and pools from the API server";
        return Err(ApiError::unavailable("ServerStarting", message));
    }
    server.shared.source(&server.pool).ok_or_else(|| {
        ApiError::unavailable("NoSource", format!("there is no AnalyzerPool named {}", server.pool))
    })
}

/// Creates the job under the first free name and enters it; gives the name.
async fn create(
    server: &Server,
    spec: &FocusJobSpec,
    source: &AnalyzerSource,
    reservation: &Reservation,
    received: &Received,
) -> Result<String, ApiError> {
    for bump in 0..NAMES {
        let name = job_id(reservation.window(), received.at.as_millisecond() + bump);
        let expected = Expected { received: received.instant, source: source.clone() };
        server.jobs.expect(&name, expected);
        let object = object(&name, spec, reservation.window(), received);
        match server.shared.cluster.create(&object).await {
            Ok(object) => {
                server.jobs.made(object);
                return Ok(name);
            }
            Err(error) => {
                server.jobs.unexpect(&name);
                if error.code() != Some(409) {
                    return Err(error.into_api_error());
                }
            }
        }
    }
    Err(ApiError::unavailable("NamesTaken", format!("{NAMES} job ids in a row were taken")))
}

fn object(name: &str, spec: &FocusJobSpec, window: u16, received: &Received) -> FocusJob {
    let caller = received.caller.as_ref().map(Caller::name);
    let annotations = [
        (names::CONFIGURED_AT, Some(format!("{:.6}", received.at))),
        (names::CALLER, caller.map(ToOwned::to_owned)),
    ];
    let mut job = FocusJob::new(name, spec.clone());
    job.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from([
            (names::WINDOW_LABEL.to_owned(), window.to_string()),
            ("app.kubernetes.io/managed-by".to_owned(), "focus-server".to_owned()),
        ])),
        annotations: Some(
            annotations.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect(),
        ),
        finalizers: Some(vec![names::FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    };
    job
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::tests::spec;
    use k8s_openapi::jiff::Timestamp;
    use std::time::Instant;

    #[test]
    fn the_job_carries_window_clock_caller_and_finalizer() {
        let at: Timestamp = "2026-01-02T03:04:05.678901234Z".parse().expect("a time");
        let received = |caller| Received { instant: Instant::now(), at, caller };
        let job = object("18-3", &spec(8), 18, &received(None));
        let annotations = job.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations[names::CONFIGURED_AT], "2026-01-02T03:04:05.678901Z");
        assert!(!annotations.contains_key(names::CALLER));
        assert_eq!(job.metadata.labels.unwrap_or_default()[names::WINDOW_LABEL], "18");
        assert_eq!(job.metadata.finalizers.unwrap_or_default(), [names::FINALIZER]);
        let job = object("18-3", &spec(8), 18, &received(Some(Caller::new("ann", false))));
        assert_eq!(job.metadata.annotations.unwrap_or_default()[names::CALLER], "ann");
    }
}
