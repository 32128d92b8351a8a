//! The part of the command line that chooses the store.

use std::path::PathBuf;
use std::time::Duration;

use super::address::Source;

/// Where jobs are recorded. Without an address of a database, the FocusJobs are the only record.
#[derive(clap::Args, Clone)]
pub struct StoreArgs {
    /// Address of a MongoDB database that records the jobs, such as `mongodb://user:password@mongodb:27017/?tls=true`;
    /// it is never logged. Without it the FocusJobs are the only record.
    #[arg(long, env = "FOCUS_MONGODB_URI", hide_env_values = true)]
    pub mongodb_uri: Option<String>,
    /// File that holds the database's address; it is read again every few seconds, so that a changed secret is used.
    #[arg(long, env = "FOCUS_MONGODB_URI_FILE")]
    pub mongodb_uri_file: Option<PathBuf>,
    /// Name of the database.
    #[arg(long, env = "FOCUS_MONGODB_DATABASE", default_value = "focus")]
    pub mongodb_database: String,
    /// Days that a job's record is kept after the job's end.
    #[arg(long, env = "FOCUS_RECORD_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3660))]
    pub record_days: u16,
    /// Longest wait of a configure request for the database, ms; then it is answered 503 and leaves nothing behind.
    #[arg(
        long = "store-timeout",
        env = "FOCUS_STORE_TIMEOUT",
        value_name = "MS",
        default_value_t = 250,
        value_parser = clap::value_parser!(u64).range(10..=10_000)
    )]
    pub store_timeout_ms: u64,
}

impl StoreArgs {
    /// Where the database's address comes from, if there is one; the file wins.
    pub(super) fn source(&self) -> Option<Source> {
        match (&self.mongodb_uri_file, &self.mongodb_uri) {
            (Some(path), _) => Some(Source::File(path.clone())),
            (None, uri) => uri.clone().filter(|uri| !uri.is_empty()).map(Source::Given),
        }
    }

    /// How long a record is kept after the job's end.
    pub(super) fn kept(&self) -> Duration {
        Duration::from_secs(u64::from(self.record_days) * 24 * 3600)
    }
}
