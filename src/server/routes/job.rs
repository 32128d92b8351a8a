//! One job for the display: its metadata, its lines, its end.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::document::{ErrorBody, RowsBody};
use super::{Received, extract, no_consumer, unknown};
use crate::server::answer::{self, JobMetadata};
use crate::server::configure::Server;
use crate::server::error::ApiError;
use crate::server::job::{Awaited, Job, Stage};
use crate::server::security::{self, Caller};
use crate::server::serve::End;
use crate::server::{answer_room, job, wait, waterfall};

/// Longest wait for one of the few places where waterfall answers are written.
const PLACE: Duration = Duration::from_secs(10);
/// Longest time that a client may take to read a waterfall answer.
const TAKEN: Duration = Duration::from_secs(30);

/// The query of `/metadata`.
#[derive(serde::Deserialize)]
pub struct WaitQuery {
    /// As it stands there.
    pub(super) wait: Option<String>,
}

/// What a job's lines mean: there as soon as its consumer is.
#[utoipa::path(get, path = "/metadata/{job_id}", tag = "jobs",
    params(
        ("job_id" = String, Path, description = "The job's id", example = "18-1795486283888"),
        ("wait" = Option<String>, Query, example = "30s",
            description = "How long to wait for the consumer, at most 60 s: 30s, 500ms or plain seconds",
            pattern = r"^([0-9]+(\.[0-9]+)?(ms|s)?)?$"),
    ),
    responses(
        (status = 200, description = "The consumer is there", body = JobMetadata),
        (status = 400, description = "`wait` is no time up to 60 s", body = ErrorBody),
        (status = 404, description = "No such job, or no consumer; headers tell which and why", body = ErrorBody,
            headers(("Retry-After" = u32), ("Focus-Phase" = String), ("Focus-Reason" = String), ("Focus-Message" = String))),
        (status = 503, description = "The server has a fault", body = ErrorBody, headers(("Retry-After" = u32))),
    )
)]
pub async fn metadata(
    State(server): State<Arc<Server>>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Json<JobMetadata>, ApiError> {
    let (id, query) = (extract::path(id), extract::query(query)?);
    let wait = wait::parse_wait(query.wait.as_deref()).map_err(ApiError::Rule)?;
    let Some((job, _)) = server.jobs.get(&id) else { return Err(unknown(&server)) };
    job.touch();
    let stage = job.settled(wait, &server.stop).await;
    job.touch();
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

/// The newest lines. Reading keeps the job alive, and takes nothing away.
#[utoipa::path(get, path = "/waterfall/{job_id}/{row_count}", tag = "jobs",
    params(
        ("job_id" = String, Path, description = "The job's id", example = "18-1795486283888"),
        ("row_count" = u32, Path, description = "How many lines at most", minimum = 1, maximum = 100000, example = 100),
    ),
    responses(
        (status = 200, description = "A consumer, and no line yet: `[]`", body = Vec<RowsBody>),
        (status = 201, description = "The newest lines, the oldest of them first", body = Vec<RowsBody>),
        (status = 208, description = "The analyzer has ended: the lines that are still kept", body = Vec<RowsBody>),
        (status = 400, description = "`row_count` is not an integer from 1 to 100000", body = ErrorBody),
        (status = 404, description = "No such job, or no consumer; headers tell which and why", body = ErrorBody,
            headers(("Retry-After" = u32), ("Focus-Phase" = String), ("Focus-Reason" = String), ("Focus-Message" = String))),
        (status = 503, description = "Too many answers are being written or read", body = ErrorBody, headers(("Retry-After" = u32))),
    )
)]
pub async fn rows(
    State(server): State<Arc<Server>>,
    path: Result<Path<(String, String)>, PathRejection>,
    end: Option<Extension<End>>,
) -> Result<Response, ApiError> {
    let (id, row_count) = extract::path(path);
    let row_count = wait::parse_row_count(&row_count).map_err(ApiError::Rule)?;
    let Some((job, _)) = server.jobs.get(&id) else { return Err(unknown(&server)) };
    job.touch();
    let stage = job.stages().borrow().clone();
    let finished = match stage {
        Stage::Attached => false,
        Stage::Ended(awaited) if awaited.phase == "finished" => true,
        Stage::Ended(awaited) | Stage::Waiting(awaited) => return Err(no_consumer(&server, &id, awaited)),
    };
    let row_values = job.source().map_or(1, |source| job::line_bytes(&job.spec, source));
    let most = waterfall::rows_in_answer(row_count, row_values);
    let count = job.with_feed(|feed| feed.lines.len().min(most)).unwrap_or_default();
    // The answer may take tens of megabytes, for as long as its client takes to read it; few are written at a time.
    let size = waterfall::size(count * row_values, count, job.spec.channels.count());
    let places = async { Some((server.answers.take(size).await.ok()?, server.places.acquire().await.ok()?)) };
    let Ok(Some((part, _place))) = tokio::time::timeout(PLACE, places).await else {
        return Err(ApiError::unavailable("Busy", "too many waterfall answers are being written or read"));
    };
    // Only now: lines that waited with their answer would be kept beyond what the job may keep.
    let read = job.with_feed(|feed| (feed.lines.newest(count), feed.ended.is_some()));
    let (lines, ended) = read.unwrap_or_default();
    let body = tokio::task::spawn_blocking(move || waterfall_body(&job, &lines));
    let body = body.await.map_err(|error| ApiError::unavailable("Internal", error.to_string()))?;
    let status = status(ended || finished, body.len());
    let body = answer_room::held(body, part, end.map(|Extension(end)| end), TAKEN);
    Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn waterfall_body(job: &Job, lines: &[Arc<crate::wire::Line>]) -> Vec<u8> {
    waterfall::body(&job.name, job.spec.channels.min, job.spec.channels.count(), lines)
}

/// 208 when the analyzer has ended, else 201 with rows and 200 without.
fn status(ended: bool, length: usize) -> StatusCode {
    match (ended, length > 2) {
        (true, _) => StatusCode::ALREADY_REPORTED,
        (false, true) => StatusCode::CREATED,
        (false, false) => StatusCode::OK,
    }
}

/// A job that was deleted.
#[derive(Serialize, ToSchema)]
pub struct Deleted {
    /// Always `deleted`.
    status: &'static str,
    /// The job's id.
    job_id: String,
}

/// Ends a job, and deletes it.
#[utoipa::path(delete, path = "/job/{job_id}", tag = "jobs",
    params(("job_id" = String, Path, description = "The job's id", example = "18-1795486283888")),
    responses(
        (status = 200, description = "The job is being deleted", body = Deleted),
        (status = 403, description = "Another caller's job", body = ErrorBody),
        (status = 404, description = "No such job", body = ErrorBody, headers(("Retry-After" = u32))),
        (status = 503, description = "The API server did not do it", body = ErrorBody, headers(("Retry-After" = u32))),
    )
)]
pub async fn delete_job(
    State(server): State<Arc<Server>>,
    id: Result<Path<String>, PathRejection>,
    received: Received,
) -> Result<Json<Deleted>, ApiError> {
    let id = extract::path(id);
    if !is_name(&id) || !end(&server, &id, received.caller.as_ref()).await? {
        return Err(unknown(&server));
    }
    Ok(Json(Deleted { status: "deleted", job_id: id }))
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

/// Whether the API server may be asked for an object of this name: `..` would be another path.
fn is_name(id: &str) -> bool {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    id.len() <= 253 && id.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_reach_the_api_server() {
        for (id, good) in [
            ("18-3", true),
            ("a.view", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a..b", false),
            ("-a", false),
            ("a/b", false),
            ("a?b", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(is_name(id), good, "{id:?}");
        }
        assert!(!is_name(&"n".repeat(254)));
    }
}
