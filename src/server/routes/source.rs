//! What the source has: its channels, its parameters, its recordings.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use serde::Serialize;
use utoipa::ToSchema;

use super::document::{DetailBody, ErrorBody, FieldsBody, TimeRange};
use super::extract::JsonBody;
use crate::server::answer::{self, SourceMetadata};
use crate::server::configure::{self, Server};
use crate::server::error::ApiError;
use crate::server::validate::time_range;

/// µs in a second.
const SECOND: i64 = 1_000_000;

/// Says that the server is there: always `{}`.
#[derive(Serialize, ToSchema)]
pub struct Ack {}

/// Says that the server is there.
#[utoipa::path(get, path = "/ack", tag = "source", responses((status = 200, description = "Always", body = Ack)))]
pub async fn ack() -> Json<Ack> {
    Json(Ack {})
}

/// The channels that a view may ask for.
#[derive(Serialize, ToSchema)]
pub struct Channels {
    /// Always 1.
    #[schema(example = 1)]
    lowest_channel: i32,
    /// How many channels the source has.
    #[schema(example = 2500)]
    highest_channel: i32,
}

/// The channels that a view may ask for.
#[utoipa::path(get, path = "/channels", tag = "source", responses(
    (status = 200, description = "The source's channels", body = Channels),
    (status = 503, description = "No source is known", body = ErrorBody, headers(("Retry-After" = u32))),
))]
pub async fn channels(State(server): State<Arc<Server>>) -> Result<Json<Channels>, ApiError> {
    let source = configure::source(&server)?;
    Ok(Json(Channels { lowest_channel: 1, highest_channel: source.channels }))
}

/// What is known of the live source.
#[utoipa::path(get, path = "/live_metadata", tag = "source", responses(
    (status = 200, description = "The source as its AnalyzerPool declares it", body = SourceMetadata),
    (status = 503, description = "No live source is known", body = ErrorBody, headers(("Retry-After" = u32))),
))]
pub async fn live_metadata(State(server): State<Arc<Server>>) -> Result<Json<SourceMetadata>, ApiError> {
    let source = configure::source(&server)?;
    configure::live(&source)?;
    Ok(Json(answer::source_metadata(&source)))
}

/// The stretches of time that were recorded, as far as they reach into the given one.
///
/// Each is `[start, end]` in seconds since the Unix epoch, rounded outwards to whole ones; an end of -1 says that
/// it is still running: the live source, since its AnalyzerPool was made. Files that follow each other without a
/// gap are one stretch.
#[utoipa::path(post, path = "/recordings_in_time_range", tag = "source", request_body = TimeRange, responses(
    (status = 200, description = "The stretches, in the order of time", body = Vec<[i64; 2]>,
        example = json!([[1767225600, 1767225610], [1795486283, -1]])),
    (status = 400, description = "A rule is broken", body = ErrorBody),
    (status = 408, description = "The body did not arrive in time", body = DetailBody),
    (status = 413, description = "A body above 64 KiB", body = DetailBody),
    (status = 422, description = "Fields missing or mistyped", body = FieldsBody),
    (status = 503, description = "The recordings have not been read, or no source is known", body = ErrorBody,
        headers(("Retry-After" = u32))),
))]
pub async fn recordings_in_time_range(
    State(server): State<Arc<Server>>,
    JsonBody(request): JsonBody,
) -> Result<Json<Vec<[i64; 2]>>, ApiError> {
    let (start, end) = time_range(&request)?;
    let source = configure::source(&server)?;
    let found = server
        .recordings
        .within(&source, start.saturating_mul(SECOND), end.saturating_mul(SECOND))
        .map_err(|why| ApiError::unavailable("RecordingsUnread", why))?;
    let mut answer: Vec<[i64; 2]> =
        found.into_iter().map(|(from, to)| [from.div_euclid(SECOND), -(-to).div_euclid(SECOND)]).collect();
    if let Some(since) = running_since(&server).filter(|since| source.is_live() && *since < end) {
        answer.push([since, -1]);
    }
    Ok(Json(answer))
}

/// Since when the pool's source is known, s since the Unix epoch.
fn running_since(server: &Server) -> Option<i64> {
    let pool = ObjectRef::new(&server.pool).within(&server.shared.cluster.namespace);
    Some(server.shared.pools.get(&pool)?.creation_timestamp()?.0.as_second())
}
