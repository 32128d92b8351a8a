//! Passes a request on to the replica that has the job's consumer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Version, header};
use axum::response::Response;
use futures::{Stream, StreamExt, stream};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::configure::Server;
use super::error::ApiError;
use super::job::{Awaited, REPLICA};
use super::replicas::dial::Dialer;
use super::replicas::{Alive, Place};
use super::stream::ending;
use crate::backoff::Backoff;

/// Header of a request that another replica has passed on: it is answered here, whatever this one thinks.
pub const FORWARDED: HeaderName = HeaderName::from_static(FORWARDED_NAME);
/// The same as gRPC metadata.
pub const FORWARDED_NAME: &str = "focus-forwarded-by";
/// How long the other replica may take for its whole answer beyond the time that the client waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long an idle connection is kept: shorter than the other replica keeps it, and one with an old certificate is not
/// used for longer.
const IDLE: Duration = Duration::from_secs(20);
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

    /// The answer of `owner` to the request with these `parts`, whose client waits for `wait`.
    ///
    /// # Errors
    /// 404, with the reason, when it does not answer in time or is no longer the owner: it may have died a moment ago.
    pub async fn forward(
        &self,
        mut owner: Owner,
        parts: &Parts,
        wait: Duration,
    ) -> Result<Response, ApiError> {
        let deadline = Instant::now() + wait + ANSWER_WITHIN;
        let request = self.request(owner.address(), parts);
        let answer = tokio::select! {
            answer = async { self.client.request(request?).await.map_err(|error| chain(&error)) } => answer,
            () = owner.replaced() => Err("it has gone, or has given the job away".to_owned()),
            () = sleep_until(deadline) => Err("there was no answer in time".to_owned()),
        };
        let answer = answer.map_err(|error| {
            owner.gone::<()>(&error);
            ApiError::NoConsumer(unreachable())
        })?;
        let (head, body) = answer.into_parts();
        let over = async move {
            tokio::select! {
                () = owner.replaced() => {}
                () = sleep_until(deadline) => {}
            }
        };
        let body = Body::from_stream(until(over, Body::new(body).into_data_stream()));
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = without_connection(&head.headers);
        Ok(response)
    }

    /// The request with these `parts` as it is said to the replica at `address` (`http://host:port`).
    fn request(&self, address: &str, parts: &Parts) -> Result<Request<Body>, String> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Body::empty());
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = format!("{address}{path}").parse().map_err(|error| chain(&error))?;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = without_connection(&parts.headers);
        request.headers_mut().insert(FORWARDED, self.own.clone());
        Ok(request)
    }
}

fn without_connection(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    headers
}

/// `body`, which breaks off when `over` comes before its end.
fn until(
    over: impl Future<Output = ()> + Send + 'static,
    body: BodyDataStream,
) -> impl Stream<Item = Result<Bytes, axum::BoxError>> {
    let over: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(over);
    stream::unfold(Some((body, over)), |left| async move {
        let (mut body, mut over) = left?;
        tokio::select! {
            biased;
            part = body.next() => match part? {
                Ok(bytes) => Some((Ok(bytes), Some((body, over)))),
                Err(error) => Some((Err(error.into()), None)),
            },
            () = &mut over => Some((Err("the replica that answers is gone or too slow".into()), None)),
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

/// The replica that has a job's consumer.
pub struct Owner {
    server: Arc<Server>,
    job: String,
    address: String,
    replicas: watch::Receiver<Alive>,
}

impl Owner {
    /// The replica at `address` (`http://host:port`), which has the consumer of `job`.
    pub fn new(server: Arc<Server>, job: String, address: String) -> Self {
        let replicas = server.shared.replicas.changes();
        Self { server, job, address, replicas }
    }

    /// The job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Logs that it does not answer.
    pub fn gone<T>(&self, error: &dyn std::fmt::Display) -> Option<T> {
        let (job, address) = (&self.job, &self.address);
        debug!(job, address, %error, "the replica with the job's consumer does not answer");
        None
    }

    /// Comes when it no longer has the consumer: a machine that is lost breaks no connection.
    pub async fn replaced(&mut self) {
        // The sender lives as long as this replica.
        while self.replicas.changed().await.is_ok() {
            match self.server.jobs.place(&self.job) {
                Some(Place::There(address)) if address == self.address => {}
                // Of a job that is gone the other replica tells.
                None => {}
                Some(_) => return,
            }
        }
        std::future::pending().await
    }

    /// Why nothing more is to be had of it, as soon as it no longer has the consumer or this replica ends.
    pub async fn lost(&mut self) -> Awaited {
        let stop = self.server.stop.clone();
        tokio::select! {
            () = stop.cancelled() => ending::stopping(),
            () = self.replaced() => unreachable(),
        }
    }
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
        let over = tokio::time::sleep(Duration::from_millis(20));
        let bounded = until(over, body).map(|part| part.is_ok());
        assert_eq!(bounded.collect::<Vec<_>>().await, [true, false]);
    }
}
