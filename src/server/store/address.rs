//! Where the database is. Nothing here shows the address: it holds a password.

use std::path::PathBuf;

use anyhow::Context;
use mongodb::options::ConnectionString;

/// Where the address comes from.
#[derive(Clone)]
pub enum Source {
    /// Given outright.
    Given(String),
    /// Read from a file, again and again, so that a changed secret is used.
    File(PathBuf),
}

/// An address of the right form.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address itself.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Source {
    /// The address.
    ///
    /// # Errors
    /// When the file cannot be read, or it is no address.
    pub async fn read(&self) -> anyhow::Result<Address> {
        let text = match self {
            Self::Given(text) => text.clone(),
            Self::File(path) => tokio::fs::read_to_string(path)
                .await
                .with_context(|| format!("reading the database's address from {}", path.display()))?,
        };
        let text = text.trim();
        // The parser's own words may repeat the address.
        if ConnectionString::parse(text).is_err() {
            anyhow::bail!(
                "the database's address is not understood; it is of the form \
                 mongodb://user:password@host:27017/?option=value, with reserved characters of the password \
                 written as %XX"
            );
        }
        Ok(Address(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_address_is_refused_without_being_repeated() {
        for (text, well) in [
            ("mongodb://user:hunter2@host:27017/?tls=true", true),
            (" mongodb://host\n", true),
            ("mongodb+srv://user:hunter2@cluster.example.com/", true),
            ("amqp://user:hunter2@host", false),
            ("mongodb://user:hunter2@@host", false),
            ("mongodb://user:hunter2@host:port", false),
            ("mongodb://host/?maxPoolSize=hunter2", false),
        ] {
            let read = Source::Given(text.to_owned()).read().await;
            assert_eq!(read.is_ok(), well, "{text}");
            if let Err(error) = read {
                assert!(!format!("{error:#} {error:?}").contains("hunter2"), "{error:#}");
            }
        }
    }
}
