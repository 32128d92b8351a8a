//! Passes a request on to the replica that has the job's consumer.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use tracing::debug;

use super::error::ApiError;
use super::job::Awaited;

/// Header of a request that another replica has passed on: it is answered here, whatever this one thinks.
pub const FORWARDED: HeaderName = HeaderName::from_static(FORWARDED_NAME);
/// The same as gRPC metadata.
pub const FORWARDED_NAME: &str = "focus-forwarded-by";
/// How long the other replica may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How long it may take to answer: the longest wait that a client may ask for, and some.
const ANSWER_WITHIN: Duration = Duration::from_secs(70);
/// Largest body that is passed on, bytes. Requests on jobs have none.
const MAX_BODY: usize = 64 << 10;

/// Passes requests on. Cheap to clone.
#[derive(Clone)]
pub struct Forwarder {
    client: reqwest::Client,
    own: HeaderValue,
}

impl Forwarder {
    /// For the replica called `own`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(own: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .no_proxy()
            .build()?;
        Ok(Self { client, own: HeaderValue::from_str(own)? })
    }

    /// The answer of the replica at `address` (`http://host:port`) to `request`.
    ///
    /// # Errors
    /// 404, with the reason, when it does not answer: it may have died a moment ago.
    pub async fn forward(&self, address: &str, request: Request) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| ApiError::TooLarge(MAX_BODY))?;
        let mut headers = parts.headers;
        headers.remove(header::HOST);
        headers.insert(FORWARDED, self.own.clone());
        let asked = self.client.request(parts.method, format!("{address}{path}")).headers(headers).body(body);
        let answer = asked.send().await.map_err(|error| {
            debug!(address, %error, "the replica with the job's consumer does not answer");
            ApiError::NoConsumer(unreachable())
        })?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        for hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
            response.headers_mut().remove(hop);
        }
        *response.body_mut() = Body::from_stream(answer.bytes_stream());
        Ok(response)
    }
}

/// What is told when the replica with a job's consumer does not answer: it may have died a moment ago.
pub fn unreachable() -> Awaited {
    Awaited::new(
        "replica",
        "ReplicaUnreachable",
        "the replica that has the job's consumer does not answer; another takes over within seconds",
    )
}
