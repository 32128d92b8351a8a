//! The broker: one connection, the queues of the jobs, and news of their consumers.
//!
//! [`Broker`] keeps one connection alive, follows the broker's own events and remembers what it has seen of each
//! tracked queue in a [`book::Book`]. Whoever tracks a queue receives news of it and reads the book.

pub mod book;
pub mod connection;
pub mod events;
pub mod queues;
pub mod tls;
mod watch;

pub use book::{BrokerState, QueueSeen};
pub use connection::{Broker, BrokerHandle};
pub use tls::BrokerTls;

use std::path::PathBuf;

/// Where the broker is. The URL holds a password: it is never logged, and `Debug` does not show it.
#[derive(clap::Args, Clone)]
pub struct BrokerArgs {
    /// The broker's AMQP URL. It holds a password: prefer the environment or a file.
    #[arg(long = "broker-url", env = "FOCUS_BROKER_URL", hide_env_values = true)]
    url: Option<String>,
    /// A file that holds the broker's AMQP URL, such as a mounted secret.
    #[arg(long = "broker-url-file", env = "FOCUS_BROKER_URL_FILE")]
    url_file: Option<PathBuf>,
    /// With an `amqps://` URL.
    #[command(flatten)]
    pub tls: BrokerTls,
}

impl std::fmt::Debug for BrokerArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerArgs").field("url_file", &self.url_file).finish_non_exhaustive()
    }
}

impl BrokerArgs {
    /// The URL, read from the file where one is named.
    ///
    /// # Errors
    /// When neither is given or the file cannot be read; the message never shows the URL.
    pub fn url(&self) -> anyhow::Result<String> {
        use anyhow::Context;
        if let Some(path) = &self.url_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("reading the broker's URL from {}", path.display()))?;
            return Ok(text.trim().to_owned());
        }
        self.url.clone().context("no broker: set FOCUS_BROKER_URL or FOCUS_BROKER_URL_FILE to its AMQP URL")
    }
}
