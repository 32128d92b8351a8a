//! What every answer goes through: a name for the request, a count, a bound in time.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use crate::server::error::ApiError;
use crate::server::metrics::{Metrics, Route};

/// Header that names a request: the client's own, or one made here.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest name that is taken from a client, bytes.
const MAX_REQUEST_ID: usize = 128;
/// Longest that an answer may take, but for those that wait or stream.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Gives the answer the request's name, and makes a panic an answer.
pub async fn named(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).filter(|id| is_name(id)).cloned();
    let id = given.unwrap_or_else(|| {
        HeaderValue::from_str(&format!("{:032x}", rand::random::<u128>()))
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    });
    // Another replica that the request is passed on to calls it by the same name.
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        tracing::error!(request = ?id, "a handler panicked; the lines above tell where");
        ApiError::unavailable("Internal", "the server has a fault; its log tells which").into_response()
    });
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn is_name(id: &HeaderValue) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// Counts the answer by its route.
pub async fn counted(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let route = Route::of(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str));
    let response = next.run(request).await;
    metrics.answered(route, response.status().as_u16());
    response
}

/// Answers 503 when the handler takes too long.
pub async fn bounded(request: Request, next: Next) -> Response {
    tokio::time::timeout(ANSWER_TIME, next.run(request)).await.unwrap_or_else(|_| {
        let message = format!("there was no answer within {} s", ANSWER_TIME.as_secs());
        ApiError::unavailable("Timeout", message).into_response()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_s_name_is_short_and_printable() {
        for (name, good) in
            [("a", true), ("f-1_2", true), ("", false), ("two words", false), ("\u{e9}", false)]
        {
            let value = HeaderValue::from_bytes(name.as_bytes()).expect("a value");
            assert_eq!(is_name(&value), good, "{name:?}");
        }
        for (len, good) in [(MAX_REQUEST_ID, true), (MAX_REQUEST_ID + 1, false)] {
            let value = HeaderValue::from_str(&"x".repeat(len)).expect("a value");
            assert_eq!(is_name(&value), good, "{len}");
        }
    }
}
