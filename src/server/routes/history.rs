//! The records of past and present jobs, when there is a database.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde_json::Value;

use super::document::ErrorBody;
use super::extract;
use crate::server::configure::Server;
use crate::server::error::ApiError;
use crate::server::store::history::{self, Parameters};

/// The records of the namespace's jobs, also of those whose FocusJob is gone.
#[utoipa::path(get, path = "/history", tag = "jobs",
    params(
        ("since" = Option<String>, Query, description = "How far to go back, such as 24h, 90m or 7d; default 24h",
            pattern = "^([0-9]{1,9}[smhd]?)?$"),
        ("sort" = Option<String>, Query, description = "recent: the newest first; slowest: whose consumer took longest",
            pattern = "^(recent|slowest)?$"),
        ("limit" = Option<u16>, Query, description = "At most so many; default 50", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "The records; docs/job-store.md tells their fields", body = Vec<Object>),
        (status = 400, description = "A parameter is not understood", body = ErrorBody),
        (status = 501, description = "The server has no database", body = ErrorBody),
        (status = 503, description = "The database does not answer", body = ErrorBody, headers(("Retry-After" = u32))),
    )
)]
pub async fn history(
    State(server): State<Arc<Server>>,
    query: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let query = history::Query::of(&extract::query(query)?).map_err(ApiError::Rule)?;
    match server.store.history(&query).await {
        None => Err(ApiError::NoHistory),
        Some(records) => {
            records.map(Json).map_err(|error| ApiError::unavailable("StoreUnavailable", error.to_string()))
        }
    }
}
