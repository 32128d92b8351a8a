//! `GET /jobs/{job_id}/events`: what happens to a job, as it happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::document::ErrorBody;
use super::{extract, unknown};
use crate::server::configure::Server;
use crate::server::error::ApiError;
use crate::server::job_events::{Event, Told};

/// Header of a listener that comes again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Pause after which a comment shows that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Server-sent events: each milestone with its time, the conditions, the end; those that were reached before come
/// first.
///
/// Events are `milestone` (`job_id`, `milestone`, `at`, `phase`, `phase_seconds`), `condition` (`type`, `status`,
/// `reason`, `message`, `since`) and `end` (`reason`, `message`, `failed`), after which the stream ends.
#[utoipa::path(get, path = "/jobs/{job_id}/events", tag = "jobs",
    params(
        ("job_id" = String, Path, description = "The job's id", example = "18-1795486283888"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event's id: milestones are told once"),
    ),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 204, description = "All has been told, the end included: do not come again"),
        (status = 404, description = "No such job", body = ErrorBody, headers(("Retry-After" = u32))),
        (status = 503, description = "Too many listeners", body = ErrorBody, headers(("Retry-After" = u32))),
    )
)]
pub async fn events(
    State(server): State<Arc<Server>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = extract::path(id);
    let changes = server.jobs.changes();
    let Some((job, _)) = server.jobs.get(&id) else { return Err(unknown(&server)) };
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let told = Told::from_id(last);
    if told.all() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = Arc::clone(&server.listeners).try_acquire_owned();
    let place = place.map_err(|_| ApiError::unavailable("Busy", "too many listeners to events"))?;
    let uid = job.uid.clone();
    let listener = Listener { server, id, uid, told, waiting: VecDeque::new(), changes, _place: place };
    let stream = futures::stream::unfold(listener, next);
    let answer = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // A proxy must not hold events back.
    Ok(([(header::CACHE_CONTROL, "no-cache"), (HeaderName::from_static("x-accel-buffering"), "no")], answer)
        .into_response())
}

struct Listener {
    server: Arc<Server>,
    id: String,
    uid: String,
    told: Told,
    waiting: VecDeque<Event>,
    changes: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
}

async fn next(mut listener: Listener) -> Option<(Result<sse::Event, Infallible>, Listener)> {
    loop {
        if let Some(event) = listener.waiting.pop_front() {
            let event = sse::Event::default().event(event.name).id(event.id).data(event.data.to_string());
            return Some((Ok(event), listener));
        }
        if listener.told.all() {
            return None;
        }
        // What changes from here on wakes the wait below.
        listener.changes.mark_unchanged();
        listener.look();
        if listener.waiting.is_empty() {
            tokio::select! {
                changed = listener.changes.changed() => changed.ok()?,
                () = listener.server.stop.cancelled() => return None,
            }
        }
    }
}

impl Listener {
    fn look(&mut self) {
        match self.server.jobs.get(&self.id) {
            Some((job, object)) if job.uid == self.uid => self.waiting.extend(self.told.news(&object)),
            _ => self.waiting.extend(self.told.gone()),
        }
    }
}
