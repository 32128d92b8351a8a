//! Where the broker is, and how every role connects to it.

use std::path::PathBuf;
use std::time::Duration;

use lapin::runtime::default_runtime;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::connection::LiveConnection;
use super::tls::{BrokerTls, TlsFileError};

/// How long one attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Heartbeat that is asked for unless the address names one, s: a dead connection is noticed after two.
const HEARTBEAT_SECONDS: u16 = 5;

/// Where the broker is: an address that holds a password, so it is never logged.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct BrokerArgs {
    /// The broker's AMQP URL, such as amqp://user:password@rabbitmq:5672/%2f. It holds a password: prefer a file.
    #[arg(long = "broker-url", env = "FOCUS_BROKER_URL", hide_env_values = true)]
    pub url: Option<Secret>,
    /// A file that holds the broker's AMQP URL, such as a mounted secret. It is read at each connection, so that a
    /// changed secret is used, and goes before the URL itself.
    #[arg(long = "broker-url-file", env = "FOCUS_BROKER_URL_FILE")]
    pub url_file: Option<PathBuf>,
    /// With an `amqps://` URL.
    #[command(flatten)]
    pub tls: BrokerTls,
}

/// A text that is never printed.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The broker's address, read anew at each connection.
#[derive(Clone, Debug)]
pub struct Address {
    source: Source,
    tls: BrokerTls,
    heartbeat: u16,
}

#[derive(Clone, Debug)]
enum Source {
    Given(Secret),
    File(PathBuf),
}

/// Why an address cannot be used. No message shows any part of it.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// None was given.
    #[error(
        "no broker: set FOCUS_BROKER_URL_FILE to a file with its AMQP URL, or FOCUS_BROKER_URL to the URL"
    )]
    Missing,
    /// The file cannot be read.
    #[error("reading the broker's URL from {}: {source}; mount the secret with the URL there", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The text is no AMQP URL.
    #[error("the broker's URL is not of the form amqp://user:password@host:5672/vhost, or amqps:// for TLS")]
    Malformed,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Files(#[from] TlsFileError),
    /// No answer in time.
    #[error("connecting to the broker at {place}: no answer within {} s", CONNECT_WITHIN.as_secs())]
    TimedOut {
        /// Host and port.
        place: String,
    },
    /// Refused, or not there.
    #[error("connecting to the broker at {place}: {source}")]
    Refused {
        /// Host and port.
        place: String,
        /// Why.
        source: lapin::Error,
    },
}

impl BrokerArgs {
    /// The address; None when none was given.
    pub fn find(&self) -> Option<Address> {
        let given = || self.url.clone().filter(|Secret(url)| !url.is_empty()).map(Source::Given);
        let source = self.url_file.clone().map(Source::File).or_else(given)?;
        Some(Address { source, tls: self.tls.clone(), heartbeat: HEARTBEAT_SECONDS })
    }

    /// The address.
    ///
    /// # Errors
    /// When none was given.
    pub fn address(&self) -> Result<Address, AddressError> {
        self.find().ok_or(AddressError::Missing)
    }
}

impl Address {
    /// The same, with another heartbeat (s) to ask for unless the address names one.
    pub fn with_heartbeat(self, seconds: u16) -> Self {
        Self { heartbeat: seconds, ..self }
    }

    /// The URL as it is now.
    ///
    /// # Errors
    /// When the file cannot be read or holds no AMQP URL.
    pub async fn read(&self) -> Result<AMQPUri, AddressError> {
        let text = match &self.source {
            Source::Given(Secret(url)) => url.to_string(),
            Source::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|source| AddressError::Unreadable { path: path.clone(), source })?,
        };
        // The parser's own message may repeat the URL.
        let mut uri: AMQPUri = text.trim().parse().map_err(|_| AddressError::Malformed)?;
        // `amqp://host/` names, to the letter, a vhost without a name; whoever writes it, such as the RabbitMQ cluster
        // operator in its `connection_string`, means the default one.
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        uri.query.heartbeat.get_or_insert(self.heartbeat);
        Ok(uri)
    }

    /// Connects under `name`, which the broker's operators see.
    ///
    /// # Errors
    /// When the address cannot be used, or the broker refuses or does not answer in time.
    pub async fn connect(&self, name: &str) -> Result<LiveConnection, ConnectError> {
        let uri = self.read().await?;
        let place = format!("{}:{}", uri.authority.host, uri.authority.port);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let config = self.tls.config().await?;
        let connecting =
            async { Connection::connect_uri_with_config(uri, properties, config, default_runtime()?).await };
        match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(connection)) => Ok(LiveConnection::new(connection)),
            Ok(Err(source)) => Err(ConnectError::Refused { place, source }),
            Err(_) => Err(ConnectError::TimedOut { place }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(url: &str) -> BrokerArgs {
        BrokerArgs { url: Some(Secret::from(url.to_owned())), ..BrokerArgs::default() }
    }

    #[tokio::test]
    async fn the_file_goes_before_the_url_and_is_read_each_time() {
        let file = std::env::temp_dir().join(format!("focus-address-{}", std::process::id()));
        let args = BrokerArgs { url_file: Some(file.clone()), ..given("amqp://given") };
        let address = args.address().expect("an address");
        assert!(matches!(address.read().await, Err(AddressError::Unreadable { .. })));
        for host in ["one", "two"] {
            std::fs::write(&file, format!("amqp://u:p@{host}:5672/%2f\n")).expect("writable");
            assert_eq!(address.read().await.expect("an address").authority.host, host);
        }
        std::fs::remove_file(&file).expect("it was there");
    }

    #[tokio::test]
    async fn the_address_is_never_shown() {
        let args = given("amqp//user:topsecret@host");
        let error = args.address().expect("given").read().await.expect_err("malformed");
        assert!(!format!("{args:?} {error} {error:?}").contains("topsecret"));
        let uri = given("amqp://u:p@h").address().expect("given").read().await.expect("well-formed");
        assert_eq!(uri.query.heartbeat, Some(HEARTBEAT_SECONDS));
    }

    #[tokio::test]
    async fn the_address_s_own_heartbeat_wins() {
        for (url, heartbeat) in [("amqp://h", 2), ("amqp://h?heartbeat=9", 9)] {
            let address = given(url).address().expect("given").with_heartbeat(2);
            assert_eq!(address.read().await.expect("well-formed").query.heartbeat, Some(heartbeat), "{url}");
        }
    }

    #[tokio::test]
    async fn an_address_without_a_vhost_means_the_default_one() {
        for (url, vhost) in
            [("amqp://h", "/"), ("amqp://h/", "/"), ("amqp://h/%2f", "/"), ("amqp://h/team", "team")]
        {
            let uri = given(url).address().expect("given").read().await.expect("well-formed");
            assert_eq!(uri.vhost, vhost, "{url}");
        }
    }

    #[test]
    fn an_empty_address_is_none() {
        assert!(given("").find().is_none() && BrokerArgs::default().find().is_none());
        assert!(matches!(BrokerArgs::default().address(), Err(AddressError::Missing)));
    }
}
