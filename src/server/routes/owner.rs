//! Brings a request to the replica that has the job's consumer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::BASE;
use super::job::WaitQuery;
use crate::server::configure::Server;
use crate::server::error::PHASE;
use crate::server::forward::{FORWARDED, Owner, Patience};
use crate::server::job::REPLICA;
use crate::server::replicas::Place;
use crate::server::wait::parse_wait;

/// Answers a read of a job's lines where its consumer is: here, or in the replica to which it is passed on. One that
/// has died or given the job away is waited for as long as the client says.
pub async fn at_owner(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let passed_on = request.headers().contains_key(FORWARDED);
    let Some(id) = consumer_of(request.uri().path()).filter(|_| reads && !passed_on).map(str::to_owned)
    else {
        return next.run(request).await;
    };
    let (mut parts, _) = request.into_parts();
    let mut patience = Patience::new(&server, wait(&parts.uri));
    loop {
        let response = match server.jobs.place(&id) {
            Some(Place::There(address)) => {
                let owner = Owner::new(Arc::clone(&server), id.clone(), address);
                server.forwarder.forward(owner, &parts, patience.left()).await.into_response()
            }
            Some(Place::Here | Place::Nowhere) | None => {
                next.clone().run(Request::from_parts(parts.clone(), Body::empty())).await
            }
        };
        let moved = response.headers().get(PHASE).is_some_and(|phase| phase == REPLICA);
        if !moved || !patience.pause().await {
            return response;
        }
        wait_less(&mut parts, patience.left());
    }
}

/// The `wait` of the query; what is none is refused where the request is answered.
fn wait(uri: &Uri) -> Duration {
    let query = Query::<WaitQuery>::try_from_uri(uri).ok();
    query.and_then(|Query(query)| parse_wait(query.wait.as_deref()).ok()).unwrap_or_default()
}

/// Leaves `wait` of the time that the request waits for its consumer.
fn wait_less(parts: &mut Parts, wait: Duration) {
    let path = format!("{}?wait={}ms", parts.uri.path(), wait.as_millis());
    if let Ok(uri) = path.parse() {
        parts.uri = uri;
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
    use super::*;

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

    #[test]
    fn the_wait_is_what_the_query_says_and_grows_less() {
        for (uri, seconds) in [
            ("/focus-server/metadata/18-3?wait=30s", 30),
            ("/focus-server/metadata/18-3?wait=soon", 0),
            ("/focus-server/metadata/18-3?wait=1&wait=2", 0),
            ("/focus-server/waterfall/18-3/100", 0),
        ] {
            assert_eq!(wait(&uri.parse().expect("a URI")), Duration::from_secs(seconds), "{uri}");
        }
        let (mut parts, ()) = axum::http::Request::get("/focus-server/metadata/18-3?wait=30s")
            .body(())
            .expect("a request")
            .into_parts();
        wait_less(&mut parts, Duration::from_millis(1500));
        assert_eq!(parts.uri, "/focus-server/metadata/18-3?wait=1500ms");
    }
}
