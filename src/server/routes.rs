//! The HTTP API under `/focus-server`; docs/http-api.md describes it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, Request, State};
use axum::http::{StatusCode, header, request::Parts};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{self, Configured, JobMetadata};
use super::configure::{self, Server};
use super::error::ApiError;
use super::job::{Awaited, Job, Stage};
use super::jobs::explain;
use super::metrics::Metrics;
use super::security::{self, Caller};
use super::{validate, wait, waterfall};

/// Largest body of a request, bytes.
const MAX_BODY: usize = 64 << 10;
/// Longest wait for one of the few places where waterfall answers are written.
const PLACE: Duration = Duration::from_secs(10);

/// The routes.
pub fn routes(server: Arc<Server>) -> Router {
    let counted = |name: &'static str, route: MethodRouter<Arc<Server>>| {
        route.route_layer(from_fn_with_state((server.shared.metrics.clone(), name), count))
    };
    let api = Router::new()
        .route("/ack", counted("ack", get(|| async { Json(json!({})) })))
        .route("/configure", counted("configure", post(configure)))
        .route("/metadata/{job_id}", counted("metadata", get(metadata)))
        .route("/waterfall/{job_id}/{row_count}", counted("waterfall", get(rows)))
        .route("/job/{job_id}", counted("job", delete(delete_job)))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    Router::new().nest("/focus-server", api).with_state(server)
}

async fn count(
    State((metrics, route)): State<(Metrics, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    metrics.answered(route, response.status().as_u16());
    response
}

/// When the request arrived: taken before its body is read.
pub struct Received {
    /// By the clock that never goes back.
    pub instant: Instant,
    /// By the wall clock.
    pub at: Timestamp,
    /// Who sent it, if authentication is on.
    pub caller: Option<Caller>,
}

impl<S: Send + Sync> FromRequestParts<S> for Received {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<Caller>().cloned();
        Ok(Self { instant: Instant::now(), at: Timestamp::now(), caller })
    }
}

async fn configure(
    State(server): State<Arc<Server>>,
    received: Received,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Configured>, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(MAX_BODY),
        _ => validate::malformed(rejection.body_text()).into(),
    })?;
    let request: Value = serde_json::from_slice(&body).map_err(validate::malformed)?;
    // In a task of its own: a client that goes away does not leave a job half entered.
    let configured = tokio::spawn(configure::configure(server, request, received));
    configured.await.map_err(|error| ApiError::unavailable("Internal", error.to_string()))?.map(Json)
}

#[derive(serde::Deserialize)]
struct WaitQuery {
    wait: Option<String>,
}

async fn metadata(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<JobMetadata>, ApiError> {
    let wait = wait::parse_wait(query.wait.as_deref()).map_err(ApiError::Rule)?;
    let Some((job, _)) = server.jobs.get(&id) else { return Err(unknown(&server)) };
    job.touch();
    let mut stages = job.stages();
    let stage = tokio::select! {
        stage = stages.wait_for(|stage| !matches!(stage, Stage::Waiting(_))) => stage.ok().map(|s| s.clone()),
        () = tokio::time::sleep(wait) => None,
        () = server.stop.cancelled() => None,
    };
    job.touch();
    let stage = stage.unwrap_or_else(|| job.stages().borrow().clone());
    match (stage, job.source()) {
        (Stage::Attached, Some(source)) => {
            Ok(Json(answer::metadata(&job.name, &job.spec, source, &server.stream)))
        }
        (Stage::Attached, None) => {
            Err(ApiError::NoConsumer(Awaited::new("pool", "PoolNotFound", "the job's pool is not known")))
        }
        (Stage::Waiting(awaited) | Stage::Ended(awaited), _) => Err(no_consumer(&server, &id, awaited)),
    }
}

async fn rows(
    State(server): State<Arc<Server>>,
    Path((id, row_count)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let row_count = wait::parse_row_count(&row_count).map_err(ApiError::Rule)?;
    let Some((job, _)) = server.jobs.get(&id) else { return Err(unknown(&server)) };
    job.touch();
    let stage = job.stages().borrow().clone();
    match stage {
        Stage::Attached => {}
        Stage::Ended(awaited) if awaited.phase == "finished" => return Ok(rows_answer(true, b"[]".to_vec())),
        Stage::Ended(awaited) | Stage::Waiting(awaited) => return Err(no_consumer(&server, &id, awaited)),
    }
    let row_values = job.source().map_or(1, |source| super::job::line_bytes(&job.spec, source));
    let most = waterfall::rows_in_answer(row_count, row_values);
    let read = job.with_feed(|feed| (feed.lines.newest(most), feed.ended.is_some()));
    let (lines, ended) = read.unwrap_or_default();
    // Few at a time: each may take tens of megabytes.
    let place = tokio::time::timeout(PLACE, Arc::clone(&server.places).acquire_owned()).await;
    let Ok(Ok(place)) = place else {
        return Err(ApiError::unavailable("Busy", "too many waterfall answers are being written"));
    };
    let body = tokio::task::spawn_blocking(move || {
        let _place = place;
        waterfall_body(&job, &lines)
    });
    let body = body.await.map_err(|error| ApiError::unavailable("Internal", error.to_string()))?;
    Ok(rows_answer(ended, body))
}

fn waterfall_body(job: &Job, lines: &[Arc<crate::wire::Line>]) -> Vec<u8> {
    waterfall::body(&job.name, job.spec.channels.min, job.spec.channels.count(), lines)
}

/// 208 when the analyzer has ended, else 201 with rows and 200 without.
fn rows_answer(ended: bool, body: Vec<u8>) -> Response {
    let status = match (ended, body.len() > 2) {
        (true, _) => StatusCode::ALREADY_REPORTED,
        (false, true) => StatusCode::CREATED,
        (false, false) => StatusCode::OK,
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn delete_job(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    received: Received,
) -> Result<Json<Value>, ApiError> {
    let name = id.len() <= 253 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !name || !end(&server, &id, received.caller.as_ref()).await? {
        return Err(unknown(&server));
    }
    Ok(Json(json!({ "status": "deleted", "job_id": id })))
}

/// Deletes the job if `caller` may; false when there is none.
async fn end(server: &Server, id: &str, caller: Option<&Caller>) -> Result<bool, ApiError> {
    let cluster = &server.shared.cluster;
    let mut uid = None;
    if caller.is_some() {
        // Asked of the API server: the annotation in the watch's memory may be older than the job of this name.
        let object = cluster.get(id).await.map_err(|error| error.into_api_error())?;
        let Some(object) = object else { return Ok(false) };
        security::may_end(caller, &object)?;
        uid = object.metadata.uid;
    }
    cluster.delete(id, uid).await.map_err(|error| error.into_api_error())
}

fn unknown(server: &Server) -> ApiError {
    ApiError::NoConsumer(if server.synced.jobs() {
        Awaited::new("none", "UnknownJob", "there is no job of this id")
    } else {
        Awaited::new("none", "ServerStarting", "the server has not yet read the jobs from the API server")
    })
}

/// A 404 that says why, as of now.
fn no_consumer(server: &Server, id: &str, awaited: Awaited) -> ApiError {
    ApiError::NoConsumer(match server.jobs.get(id) {
        Some((_, object)) => explain(awaited, &object),
        None => awaited,
    })
}
