//! Passes a request on to the replica that has the job's consumer.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Version, header};
use axum::response::Response;
use futures::{Stream, StreamExt, stream};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::configure::Server;
use super::error::ApiError;
use super::job::{Awaited, REPLICA};
use super::replicas::Alive;
use super::replicas::dial::Dialer;
use crate::backoff::Backoff;

/// Header of a request that another replica has passed on: it is answered here, whatever this one thinks.
pub const FORWARDED: HeaderName = HeaderName::from_static(FORWARDED_NAME);
/// The same as gRPC metadata.
pub const FORWARDED_NAME: &str = "focus-forwarded-by";
/// How long the other replica may take for its whole answer: the longest wait that a client may ask for, and some.
const ANSWER_WITHIN: Duration = Duration::from_secs(70);
/// How long an idle connection is kept: one with an old certificate is not used for longer.
const IDLE: Duration = Duration::from_secs(30);
/// First pause before another replica is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Headers that concern one connection alone.
const OF_CONNECTION: [HeaderName; 4] =
    [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];

/// Passes requests without a body on. Cheap to clone.
#[derive(Clone)]
pub struct Forwarder {
    client: Client<Dialer, Body>,
    own: HeaderValue,
}

impl Forwarder {
    /// For the replica called `own`.
    ///
    /// # Errors
    /// When the name cannot be a header's value.
    pub fn new(own: &str, dialer: Dialer) -> anyhow::Result<Self> {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(dialer);
        Ok(Self { client, own: HeaderValue::from_str(own)? })
    }

    /// The answer of the replica at `address` (`http://host:port`) to the request with these `parts`.
    ///
    /// # Errors
    /// 404, with the reason, when it does not answer: it may have died a moment ago.
    pub async fn forward(&self, address: &str, parts: &Parts) -> Result<Response, ApiError> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let gone = |error: &dyn std::fmt::Display| {
            debug!(address, %error, "the replica with the job's consumer does not answer");
            ApiError::NoConsumer(unreachable())
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Body::empty());
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = format!("{address}{path}").parse().map_err(|error| gone(&error))?;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = without_connection(&parts.headers);
        request.headers_mut().insert(FORWARDED, self.own.clone());
        let answer = match timeout_at(deadline, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| gone(&chain(&error)))?,
            Err(late) => return Err(gone(&late)),
        };
        let (head, body) = answer.into_parts();
        let body = Body::from_stream(until(deadline, Body::new(body).into_data_stream()));
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = without_connection(&head.headers);
        Ok(response)
    }
}

fn without_connection(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    headers
}

/// `body`, which breaks off at `deadline`.
fn until(deadline: Instant, body: BodyDataStream) -> impl Stream<Item = Result<Bytes, axum::BoxError>> {
    stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match timeout_at(deadline, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(Some(Err(error))) => Some((Err(error.into()), None)),
            Ok(None) => None,
            Err(late) => Some((Err(late.into()), None)),
        }
    })
}

/// The words of `error` and of all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

/// What is told when the replica with a job's consumer does not answer: it may have died a moment ago.
pub fn unreachable() -> Awaited {
    Awaited::new(
        REPLICA,
        "ReplicaUnreachable",
        "the replica that has the job's consumer does not answer; another takes over within seconds",
    )
}

/// How long a request goes on trying to find the replica that has the job's consumer.
pub struct Patience {
    deadline: Instant,
    pauses: Backoff,
    replicas: watch::Receiver<Alive>,
    stop: CancellationToken,
}

impl Patience {
    /// At most `wait`, and not after `server` is told to stop.
    pub fn new(server: &Server, wait: Duration) -> Self {
        Self {
            deadline: Instant::now() + wait,
            pauses: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            replicas: server.shared.replicas.changes(),
            stop: server.stop.clone(),
        }
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Pauses until it is worth trying again; false when there is no time left for it.
    pub async fn pause(&mut self) -> bool {
        let pause = self.pauses.pause().min(self.left());
        tokio::select! {
            _ = self.replicas.changed() => {}
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => return false,
        }
        !self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let headers: HeaderMap = ["host", "connection", "transfer-encoding", "upgrade", "authorization"]
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")))
            .into_iter()
            .collect();
        assert_eq!(without_connection(&headers).keys().collect::<Vec<_>>(), [&header::AUTHORIZATION]);
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_breaks_off() {
        let endless = stream::iter([Ok::<_, std::io::Error>("some")]).chain(stream::pending());
        let body = Body::from_stream(endless).into_data_stream();
        let bounded = until(Instant::now() + Duration::from_millis(20), body).map(|part| part.is_ok());
        assert_eq!(bounded.collect::<Vec<_>>().await, [true, false]);
    }
}
