//! What the HTTP API refuses, and how it says so.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::job::Awaited;
use super::validate::{FieldError, Refusal};

/// Header of a 404 on a job: the phase that is awaited, such as `queue`.
pub const PHASE: HeaderName = HeaderName::from_static("focus-phase");
/// Header of a 404 on a job: CamelCase cause.
pub const REASON: HeaderName = HeaderName::from_static("focus-reason");
/// Header of a 404 on a job: a sentence for a person, ASCII.
pub const MESSAGE: HeaderName = HeaderName::from_static("focus-message");

/// Longest `Focus-Message`, bytes.
const MAX_MESSAGE: usize = 512;

/// A refused request.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Missing or mistyped fields: 422.
    #[error("missing or mistyped fields")]
    Shape(Vec<FieldError>),
    /// A broken rule: 400.
    #[error("{0}")]
    Rule(String),
    /// No such path: 404.
    #[error("there is no such path; /openapi.json lists all")]
    NoPath,
    /// The path takes other methods: 405.
    #[error("the path does not take this method; the header Allow lists those that it takes")]
    NoMethod,
    /// The body did not arrive in time: 408.
    #[error("the body did not arrive within 10 s")]
    TooSlow,
    /// The Idempotency-Key was used for another view: 422.
    #[error("this Idempotency-Key has made job {0}, which has another view; use another key")]
    KeyReused(String),
    /// The body is too large: 413.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// A historic view of a time without recording: 404.
    #[error("no recording found in given time range")]
    NoRecording,
    /// All windows have live jobs: 429.
    #[error("all {0} windows have live jobs")]
    NoWindow(u16),
    /// The caller has as many live jobs as one may have: 429.
    #[error("you have {0} live jobs, which is the limit")]
    CallerLimit(usize),
    /// Nobody knows who asks: 401.
    #[error("{}", if *.bad_token { "the token is not known, or no longer" } else { "a bearer token is needed" })]
    Unauthorized {
        /// Whether there was a token, and a wrong one.
        bad_token: bool,
    },
    /// The caller may not do that: 403.
    #[error("{0}")]
    Forbidden(String),
    /// No job of that id has a consumer: 404.
    #[error("{}: {}", .0.reason, .0.message)]
    NoConsumer(Awaited),
    /// This server keeps no records of past jobs: 501.
    #[error("this server keeps no records of past jobs: it was started without --mongodb-uri")]
    NoHistory,
    /// Something that the server needs is not there: 503.
    #[error("{reason}: {message}")]
    Unavailable {
        /// CamelCase cause.
        reason: &'static str,
        /// A sentence for a person.
        message: String,
    },
}

impl ApiError {
    /// A 503.
    pub fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Unavailable { reason, message: message.into() }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Shape(errors) => Self::Shape(errors),
            Refusal::Rules(broken) => Self::Rule(broken.join("; ")),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Shape(errors) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": errors }))).into_response()
            }
            Self::Rule(details) => {
                (StatusCode::BAD_REQUEST, Json(json!({ "error": "Validation failed", "details": details })))
                    .into_response()
            }
            Self::TooLarge(_) => detail(StatusCode::PAYLOAD_TOO_LARGE, &self),
            Self::TooSlow => detail(StatusCode::REQUEST_TIMEOUT, &self),
            Self::NoPath => {
                let body = json!({ "error": "Not found", "details": self.to_string() });
                (StatusCode::NOT_FOUND, Json(body)).into_response()
            }
            Self::NoMethod => {
                let body = json!({ "error": "Method not allowed", "details": self.to_string() });
                (StatusCode::METHOD_NOT_ALLOWED, Json(body)).into_response()
            }
            Self::KeyReused(_) => {
                let loc = vec!["header".to_owned(), "Idempotency-Key".to_owned()];
                let error = FieldError { loc, msg: self.to_string(), kind: "value_error" };
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": [error] }))).into_response()
            }
            Self::NoRecording => {
                (StatusCode::NOT_FOUND, Json(json!({ "error": "No recording found in given time range" })))
                    .into_response()
            }
            Self::NoHistory => {
                let body = json!({ "error": "No history", "details": self.to_string() });
                (StatusCode::NOT_IMPLEMENTED, Json(body)).into_response()
            }
            Self::NoWindow(_) => {
                let details = format!("{self}; end one or try again later");
                retry(
                    StatusCode::TOO_MANY_REQUESTS,
                    5,
                    json!({ "error": "Too many jobs", "details": details }),
                )
            }
            Self::CallerLimit(_) => {
                let details = format!("{self}; end one or try again later");
                let body = json!({ "error": "Too many jobs", "reason": "CallerLimit", "details": details });
                retry(StatusCode::TOO_MANY_REQUESTS, 5, body)
            }
            Self::Unauthorized { bad_token } => {
                let challenge = if bad_token { "Bearer error=\"invalid_token\"" } else { "Bearer" };
                let body = json!({ "error": "Unauthorized", "details": self.to_string() });
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], Json(body))
                    .into_response()
            }
            Self::Forbidden(details) => {
                (StatusCode::FORBIDDEN, Json(json!({ "error": "Forbidden", "details": details })))
                    .into_response()
            }
            Self::NoConsumer(awaited) => no_consumer(&awaited),
            Self::Unavailable { reason, message } => {
                let body = json!({ "error": "Service unavailable", "reason": reason, "details": message });
                retry(StatusCode::SERVICE_UNAVAILABLE, 1, body)
            }
        }
    }
}

fn detail(status: StatusCode, error: &ApiError) -> Response {
    (status, Json(json!({ "detail": error.to_string() }))).into_response()
}

fn no_consumer(awaited: &Awaited) -> Response {
    let mut response = retry(StatusCode::NOT_FOUND, 1, json!({ "error": "Invalid job_id" }));
    for (name, text) in
        [(PHASE, awaited.phase), (REASON, awaited.reason.as_str()), (MESSAGE, awaited.message.as_str())]
    {
        response.headers_mut().insert(name, header_text(text));
    }
    response
}

fn retry(status: StatusCode, seconds: u32, body: serde_json::Value) -> Response {
    (status, [(header::RETRY_AFTER, seconds.to_string())], Json(body)).into_response()
}

/// `text` as a header's value: printable ASCII, of bounded length.
pub(super) fn header_text(text: &str) -> HeaderValue {
    let ascii: String = text
        .chars()
        .take(MAX_MESSAGE)
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else if c.is_whitespace() {
                ' '
            } else {
                '?'
            }
        })
        .collect();
    HeaderValue::from_str(ascii.trim()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_ascii_on_one_line() {
        for (text, wanted) in [("a\nb", "a b"), ("Gr\u{fc}n \u{1}", "Gr?n ?"), ("", "")] {
            assert_eq!(header_text(text), wanted);
        }
        assert_eq!(header_text(&"x".repeat(9999)).len(), MAX_MESSAGE);
    }

    #[test]
    fn each_refusal_has_its_status() {
        for (error, status) in [
            (ApiError::Shape(vec![]), 422),
            (ApiError::Rule(String::new()), 400),
            (ApiError::TooLarge(1), 413),
            (ApiError::TooSlow, 408),
            (ApiError::NoPath, 404),
            (ApiError::NoMethod, 405),
            (ApiError::KeyReused("0-1".to_owned()), 422),
            (ApiError::NoRecording, 404),
            (ApiError::NoWindow(30), 429),
            (ApiError::NoHistory, 501),
            (ApiError::CallerLimit(3), 429),
            (ApiError::Unauthorized { bad_token: true }, 401),
            (ApiError::Forbidden(String::new()), 403),
            (ApiError::unavailable("NoSource", ""), 503),
        ] {
            assert_eq!(error.into_response().status().as_u16(), status);
        }
        let response = ApiError::NoConsumer(Awaited::new("queue", "QueueMissing", "wait")).into_response();
        assert_eq!(response.status().as_u16(), 404);
        assert_eq!(response.headers()[PHASE], "queue");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
