//! What can go wrong while a job is reconciled.

use crate::broker::queues::QueueError;

/// A failed reconciliation; it is tried again with a backoff of the job's own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused a write, could not be reached, or answered too late.
    #[error("{doing} of FocusJob {job}: {source}")]
    Api {
        /// What was being done.
        doing: &'static str,
        /// `namespace/name` of the job.
        job: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{doing} of FocusJob {job}: the API server did not answer within {seconds} s")]
    ApiTimeout {
        /// What was being done.
        doing: &'static str,
        /// `namespace/name` of the job.
        job: String,
        /// How long was waited, s.
        seconds: u64,
    },
    /// A newer version of the job exists than the one that was looked at.
    #[error("{doing} of FocusJob {job}: it has changed meanwhile; looking again")]
    Conflict {
        /// What was being done.
        doing: &'static str,
        /// `namespace/name` of the job.
        job: String,
    },
    /// The broker did not do what was asked.
    #[error("FocusJob {job}: {source}")]
    Queue {
        /// `namespace/name` of the job.
        job: String,
        /// Why not.
        source: QueueError,
    },
}

impl Error {
    /// Every reason, so that the metric starts with each at zero.
    pub const REASONS: [&'static str; 6] =
        ["ApiRefused", "ApiTimeout", "Conflict", "BrokerUnreachable", "BrokerTimeout", "QueueRefused"];

    /// The API server's words, when it refused a request for what is in it; then another try helps only when something
    /// else has changed.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
                    Some(status.message.clone())
                }
                _ => None,
            },
            Error::ApiTimeout { .. } | Error::Conflict { .. } | Error::Queue { .. } => None,
        }
    }

    /// The cause in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Api { .. } => "ApiRefused",
            Error::ApiTimeout { .. } => "ApiTimeout",
            Error::Conflict { .. } => "Conflict",
            Error::Queue { source, .. } => source.reason(),
        }
    }
}
