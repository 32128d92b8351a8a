//! What handlers take from a request: refused in JSON, and in time.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::{StatusCode, request::Parts};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::server::error::ApiError;
use crate::server::security::Caller;
use crate::server::validate;
use crate::telemetry::traces::RequestTrace;

/// Largest body of a request, bytes.
pub const MAX_BODY: usize = 64 << 10;
/// Longest that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// When the request arrived: taken before its body is read.
pub struct Received {
    /// By the clock that never goes back.
    pub instant: Instant,
    /// By the wall clock.
    pub at: Timestamp,
    /// Who sent it, if authentication is on.
    pub caller: Option<Caller>,
    /// The trace that it belongs to, if any.
    pub trace: Option<RequestTrace>,
}

impl<S: Send + Sync> FromRequestParts<S> for Received {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<Caller>().cloned();
        let trace = RequestTrace::of(&parts.headers);
        Ok(Self { instant: Instant::now(), at: Timestamp::now(), caller, trace })
    }
}

/// A body of JSON, whatever its content type says.
pub struct JsonBody(pub Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = tokio::time::timeout(BODY_TIME, Bytes::from_request(request, state));
        let bytes =
            read.await.map_err(|_| ApiError::TooSlow)?.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(MAX_BODY),
                _ => validate::malformed(rejection.body_text()).into(),
            })?;
        Ok(Self(serde_json::from_slice(&bytes).map_err(validate::malformed)?))
    }
}

/// Parameters of the path; what cannot be one counts as empty, which no job's id is.
pub fn path<T: Default>(path: Result<Path<T>, PathRejection>) -> T {
    path.map(|Path(path)| path).unwrap_or_default()
}

/// Parameters of the query.
///
/// # Errors
/// 400, when there is one twice or of the wrong type.
pub fn query<T: DeserializeOwned>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|rejection| ApiError::Rule(rejection.body_text()))
}
