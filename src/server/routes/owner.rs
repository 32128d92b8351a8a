//! Brings a request to the replica that has the job's consumer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::BASE;
use crate::server::configure::Server;
use crate::server::forward::FORWARDED;
use crate::server::replicas::Place;

/// Answers a read of a job's lines where its consumer is: here, or in the replica to which it is passed on.
pub async fn at_owner(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let passed_on = request.headers().contains_key(FORWARDED);
    let place = consumer_of(request.uri().path()).filter(|_| !passed_on).and_then(|id| server.jobs.place(id));
    match place {
        Some(Place::There(address)) => {
            server.forwarder.forward(&address, request).await.unwrap_or_else(IntoResponse::into_response)
        }
        Some(Place::Here | Place::Nowhere) | None => next.run(request).await,
    }
}

/// The job whose consumer is needed to answer at `path`.
fn consumer_of(path: &str) -> Option<&str> {
    let mut parts = path.strip_prefix(BASE)?.strip_prefix('/')?.split('/');
    let needed = matches!(parts.next(), Some("metadata" | "waterfall"));
    parts.next().filter(|id| needed && !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::consumer_of;

    #[test]
    fn metadata_and_waterfall_need_the_consumer() {
        for (path, id) in [
            ("/focus-server/metadata/18-3", Some("18-3")),
            ("/focus-server/waterfall/18-3/100", Some("18-3")),
            ("/focus-server/metadata/", None),
            ("/focus-server/jobs/18-3", None),
            ("/focus-server/configure", None),
            ("/readyz", None),
        ] {
            assert_eq!(consumer_of(path), id, "{path}");
        }
    }
}
