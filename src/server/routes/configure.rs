//! `POST /configure`.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::document::{ConfigureRequest, DetailBody, ErrorBody, FieldsBody};
use super::extract::{JsonBody, Received};
use crate::server::answer::Configured;
use crate::server::configure::{self, Server};
use crate::server::error::ApiError;
use crate::server::idempotency::Key;
use crate::server::security::Caller;

/// Makes a job and answers at once, without waiting for its pod, queue or consumer.
///
/// With `start_time` and `end_time` the view is historic: recordings of that time are played at the pace at
/// which they happened, then the job ends by itself. Without, it is live.
#[utoipa::path(
    post, path = "/configure", tag = "jobs",
    params(
        ("traceparent" = Option<String>, Header,
            description = "W3C trace context: the job becomes a part of this trace; one that is not valid is ignored"),
        ("Idempotency-Key" = Option<String>, Header,
        description = "A retry with the same key gets the same job, as long as that exists, and the header `Idempotency-Replayed`",
        min_length = 1, max_length = 255, pattern = "^[!-~]+$")),
    request_body = ConfigureRequest,
    responses(
        (status = 200, description = "The job is made, or was made already for this key", body = Configured),
        (status = 400, description = "A rule is broken; `details` tells all that are", body = ErrorBody),
        (status = 404, description = "A historic view of a time without recording", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", body = DetailBody),
        (status = 413, description = "A body above 64 KiB", body = DetailBody),
        (status = 422, description = "Fields missing or mistyped, or a key that another view has used", body = FieldsBody),
        (status = 429, description = "All windows have live jobs", body = ErrorBody, headers(("Retry-After" = u32))),
        (status = 503, description = "Something that the server needs is not there", body = ErrorBody, headers(("Retry-After" = u32))),
    )
)]
pub async fn configure(
    State(server): State<Arc<Server>>,
    received: Received,
    headers: HeaderMap,
    body: Result<JsonBody, ApiError>,
) -> Response {
    let (trace, at) = (received.trace.clone(), SystemTime::from(received.at));
    let made = make(server, received, &headers, body).await;
    let job = made.as_ref().ok().map(|(answer, _)| answer.job_id.clone());
    let response = match made {
        Ok((answer, replayed)) => {
            let header = replayed.then_some([("idempotency-replayed", "true")]);
            (header, Json(answer)).into_response()
        }
        Err(error) => error.into_response(),
    };
    if let Some(trace) = trace {
        trace.answered("POST /focus-server/configure", at, response.status(), job.as_deref());
    }
    response
}

async fn make(
    server: Arc<Server>,
    received: Received,
    headers: &HeaderMap,
    body: Result<JsonBody, ApiError>,
) -> Result<(Configured, bool), ApiError> {
    let JsonBody(request) = body?;
    let key = Key::of(headers, received.caller.as_ref().map(Caller::name))?;
    // In a task of its own: a client that goes away does not leave a job half entered.
    let configured = tokio::spawn(configure::configure(server, request, received, key));
    configured.await.map_err(|error| ApiError::unavailable("Internal", error.to_string()))?
}
