//! Jobs as the operator sees them: a list, and one with all that is known of it.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use kube::ResourceExt;
use serde::Serialize;
use utoipa::ToSchema;

use super::document::ErrorBody;
use super::{extract, unknown};
use crate::api::focusjob::JobPhase;
use crate::api::job_view::{self, JobDetails, JobSummary};
use crate::server::configure::{self, Server};
use crate::server::error::ApiError;

/// Most jobs of one answer.
const MAX_LIMIT: usize = 1000;
/// Jobs of an answer, where the request does not say.
const LIMIT: usize = 100;

/// The query of `/jobs`.
#[derive(serde::Deserialize)]
pub struct ListQuery {
    state: Option<String>,
    limit: Option<String>,
}

/// Jobs of the server's namespace.
#[derive(Serialize, ToSchema)]
pub struct JobList {
    /// The newest jobs first.
    jobs: Vec<JobSummary>,
    /// How many jobs there are of that state, those included which the limit left out.
    total: usize,
    /// Whether the limit left jobs out.
    truncated: bool,
}

/// The jobs of the server's namespace, the newest first, also those made by kubectl.
#[utoipa::path(get, path = "/jobs", tag = "jobs",
    params(
        ("state" = Option<String>, Query, description = "Only jobs of this state", example = "Ready",
            pattern = "^(Pending|Starting|Ready|Degraded|Suspended|Finished|Failed|Terminating)?$"),
        ("limit" = Option<u16>, Query, description = "At most so many jobs; default 100", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "The jobs", body = JobList),
        (status = 400, description = "No such state, or a limit that is not from 1 to 1000", body = ErrorBody),
        (status = 503, description = "The jobs have not been read yet", body = ErrorBody, headers(("Retry-After" = u32))),
    )
)]
pub async fn list(
    State(server): State<Arc<Server>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<JobList>, ApiError> {
    let query = extract::query(query)?;
    let state = parse_state(query.state.as_deref()).map_err(ApiError::Rule)?;
    let limit = parse_limit(query.limit.as_deref()).map_err(ApiError::Rule)?;
    configure::synced(&server)?;
    let mut found = server.jobs.all();
    found.retain(|job| state.is_none_or(|state| job_view::state(job) == state));
    found.sort_by_cached_key(|job| (Reverse(job.creation_timestamp().map(|at| at.0)), job.name_any()));
    let jobs = found.iter().take(limit).map(|job| job_view::summary(job)).collect();
    Ok(Json(JobList { jobs, total: found.len(), truncated: found.len() > limit }))
}

fn parse_state(text: Option<&str>) -> Result<Option<JobPhase>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let found = JobPhase::ALL.into_iter().find(|state| state.as_str() == text);
    found.map(Some).ok_or_else(|| {
        let names = JobPhase::ALL.map(JobPhase::as_str).join(", ");
        format!("state must be one of {names}, got {text:?}")
    })
}

fn parse_limit(text: Option<&str>) -> Result<usize, String> {
    let Some(text) = text else { return Ok(LIMIT) };
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| format!("limit must be an integer from 1 to {MAX_LIMIT}, got {text:?}"))
}

/// One job: where it stands, what it waits for and why, and how long each phase took.
#[utoipa::path(get, path = "/jobs/{job_id}", tag = "jobs",
    params(("job_id" = String, Path, description = "The job's id", example = "18-1795486283888")),
    responses(
        (status = 200, description = "The job", body = JobDetails),
        (status = 404, description = "No such job", body = ErrorBody, headers(("Retry-After" = u32))),
        (status = 503, description = "The server has a fault", body = ErrorBody, headers(("Retry-After" = u32))),
    )
)]
pub async fn one(
    State(server): State<Arc<Server>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<JobDetails>, ApiError> {
    let (_, object) = server.jobs.get(&extract::path(id)).ok_or_else(|| unknown(&server))?;
    Ok(Json(job_view::details(&object)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_limits() {
        assert_eq!(parse_state(Some("Failed")), Ok(Some(JobPhase::Failed)));
        assert_eq!((parse_state(None), parse_state(Some(""))), (Ok(None), Ok(None)));
        assert!(parse_state(Some("ready")).is_err_and(|why| why.contains("Pending, Starting, Ready")));
        for (text, limit) in [("1", Some(1)), ("1000", Some(1000)), ("1001", None), ("0", None), ("", None)] {
            assert_eq!(parse_limit(Some(text)).ok(), limit, "{text}");
        }
        assert_eq!(parse_limit(None), Ok(LIMIT));
    }
}
