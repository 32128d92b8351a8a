//! The admin port: `/livez`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio_util::sync::CancellationToken;

/// What is still awaited before the role may be used: an empty list means ready.
pub type Awaited = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

#[derive(Clone)]
struct Admin {
    registry: Registry,
    awaited: Awaited,
}

/// The admin routes, to be served alone or merged into another router.
pub fn routes(registry: Registry, awaited: Awaited) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Admin { registry, awaited })
}

/// Serves the admin routes on `addr` until `stop`.
///
/// # Errors
/// When the port cannot be bound; the message names it.
pub async fn serve(addr: SocketAddr, routes: Router, stop: CancellationToken) -> anyhow::Result<()> {
    use anyhow::Context;
    let listener = tokio::net::TcpListener::bind(addr).await.with_context(|| {
        format!("listening on {addr} for the admin port; choose another with --admin-addr")
    })?;
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let awaited = (admin.awaited)();
    if awaited.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", awaited.join("; "))).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match TextEncoder::new().encode_to_string(&admin.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("encoding metrics: {error}\n")).into_response()
        }
    }
}
