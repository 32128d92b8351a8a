//! Who is let in.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::HeaderMap;
use tokio::sync::watch;
use tracing::warn;

use super::caller::{Caller, bearer};
use super::digest::sha256;
use super::metrics::{Outcome, SecurityMetrics};
use super::review::Reviewer;
use super::tokens::Tokens;
use crate::server::error::ApiError;

/// What anyone may ask: what probes, scrapers and load balancers look at.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/metrics", "/focus-server/ack"];
/// The same of gRPC.
const OPEN_GRPC: &str = "/grpc.health.v1.Health/";

/// How tokens are checked.
pub enum Way {
    /// The API server is asked.
    Review(Box<Reviewer>),
    /// They are in a mounted Secret.
    Static(watch::Receiver<Arc<Tokens>>),
}

/// Lets in whoever has a good token.
pub struct Gate {
    way: Way,
    admins: BTreeSet<String>,
    metrics: SecurityMetrics,
}

impl Gate {
    /// Checks tokens the given `way`; the callers named in `admins` may end the jobs of others.
    pub fn new(way: Way, admins: impl IntoIterator<Item = String>, metrics: SecurityMetrics) -> Self {
        Self { way, admins: admins.into_iter().collect(), metrics }
    }

    /// Whether anyone may ask for `path`.
    pub fn is_open(path: &str) -> bool {
        OPEN.contains(&path) || path.starts_with(OPEN_GRPC)
    }

    /// Who sent a request with these `headers`.
    ///
    /// # Errors
    /// 401 without a good token, 503 when the API server does not say whose it is.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let (outcome, answer) = match bearer(headers) {
            None => (Outcome::NoToken, Err(ApiError::Unauthorized { bad_token: false })),
            Some(token) => match self.owner(token).await {
                Ok(Some(name)) => {
                    (Outcome::Admitted, Ok(Caller::new(&name, self.admins.contains(name.as_str()))))
                }
                Ok(None) => (Outcome::BadToken, Err(ApiError::Unauthorized { bad_token: true })),
                Err(why) => {
                    warn!(why, "a token could not be checked");
                    (Outcome::Unavailable, Err(ApiError::unavailable("AuthenticationUnavailable", why)))
                }
            },
        };
        self.metrics.asked(outcome);
        answer
    }

    async fn owner(&self, token: &str) -> Result<Option<String>, String> {
        match &self.way {
            Way::Review(reviewer) => reviewer.user(token).await,
            Way::Static(tokens) => Ok(tokens.borrow().find(&sha256(token.as_bytes())).map(ToOwned::to_owned)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_open() {
        for (path, open) in [
            ("/livez", true),
            ("/readyz", true),
            ("/metrics", true),
            ("/focus-server/ack", true),
            ("/grpc.health.v1.Health/Check", true),
            ("/", false),
            ("", false),
            ("/livez/", false),
            ("//livez", false),
            ("/LIVEZ", false),
            ("/focus-server/ack/../configure", false),
            ("/focus-server/configure", false),
            ("/focus-server/metadata/livez", false),
            ("/grpc.health.v1.HealthX/Check", false),
            ("/pandadatastream.DataStreamService/StreamData", false),
        ] {
            assert_eq!(Gate::is_open(path), open, "{path}");
        }
    }
}
