//! The HTTP API under `/focus-server`; docs/http-api.md describes it, and `/openapi.json` is made from this code.

mod configure;
mod document;
mod events;
pub mod extract;
mod history;
mod job;
mod jobs;
mod layers;
mod owner;
mod source;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

pub use extract::Received;

use super::configure::Server;
use super::error::ApiError;
use super::job::Awaited;
use super::jobs::explain;
use super::stream::websocket;

/// Path of all endpoints but the document's.
const BASE: &str = "/focus-server";

/// The routes.
pub fn routes(server: Arc<Server>) -> Router {
    let (api, document) = api().split_for_parts();
    let metrics = server.shared.metrics.clone();
    let copy = document.clone();
    api.route(
        "/focus-server/openapi.json",
        axum::routing::get(move || std::future::ready(Json(copy.clone()))),
    )
    .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
    .fallback(|| std::future::ready(ApiError::NoPath))
    .method_not_allowed_fallback(|| std::future::ready(ApiError::NoMethod))
    .layer(from_fn_with_state(Arc::clone(&server), owner::at_owner))
    .layer(from_fn_with_state(metrics, layers::counted))
    .layer(from_fn(layers::named))
    .with_state(server)
}

fn api() -> OpenApiRouter<Arc<Server>> {
    let bounded = OpenApiRouter::new()
        .routes(routes!(source::ack))
        .routes(routes!(source::channels))
        .routes(routes!(source::live_metadata))
        .routes(routes!(source::recordings_in_time_range))
        .routes(routes!(configure::configure))
        .routes(routes!(job::rows))
        .routes(routes!(job::delete_job))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::one))
        .routes(routes!(history::history))
        .layer(from_fn(layers::bounded));
    // These wait as long as they are asked to.
    let waiting = OpenApiRouter::new().routes(routes!(job::metadata)).routes(routes!(events::events));
    // A WebSocket is no request and answer: docs/streams.md describes it.
    let waiting = waiting.route("/stream/{job_id}", axum::routing::get(websocket::handle));
    let api = bounded.merge(waiting).layer(DefaultBodyLimit::max(extract::MAX_BODY));
    OpenApiRouter::with_openapi(document::Document::openapi()).nest(BASE, api)
}

fn unknown(server: &Server) -> ApiError {
    ApiError::NoConsumer(server.no_such_job())
}

/// A 404 that says why, as of now.
fn no_consumer(server: &Server, id: &str, awaited: Awaited) -> ApiError {
    ApiError::NoConsumer(match server.jobs.get(id) {
        Some((_, object)) => explain(awaited, &object),
        None => awaited,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_path_and_every_path_has_words() {
        let document = serde_json::to_value(api().into_openapi()).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        for path in [
            "ack",
            "channels",
            "live_metadata",
            "recordings_in_time_range",
            "configure",
            "metadata/{job_id}",
            "waterfall/{job_id}/{row_count}",
            "job/{job_id}",
            "jobs",
            "jobs/{job_id}",
            "jobs/{job_id}/events",
            "history",
        ] {
            let found = paths.get(&format!("{BASE}/{path}"));
            let operations =
                found.unwrap_or_else(|| panic!("{path} is missing")).as_object().expect("operations");
            for operation in operations.values() {
                assert!(operation["summary"].as_str().is_some_and(|words| !words.is_empty()), "{path}");
            }
        }
        assert_eq!(paths.len(), 12);
        let request = &document["components"]["schemas"]["ConfigureRequest"];
        for field in [
            "view_type",
            "channels",
            "frequencyRange",
            "nfftSelection",
            "displayTimeAxisDuration",
            "displayInfo",
            "start_time",
            "end_time",
        ] {
            assert!(request["properties"].get(field).is_some(), "{field}: {request}");
        }
    }
}
