//! What goes wrong with the database, in words that hold no secret: the driver's own may repeat an address with its
//! password, or a whole command.

use mongodb::error::{Error, ErrorKind, WriteFailure};

/// Code of a duplicate key.
const DUPLICATE_KEY: i32 = 11000;

/// The database did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or does not answer in time; whether it did what it was asked is not known.
    #[error("{0}: {1}")]
    Unavailable(&'static str, String),
    /// It cannot be reached, and has not been asked.
    #[error("{0}: {1}")]
    NotAsked(&'static str, String),
    /// It said no.
    #[error("{0}: {1}")]
    Refused(&'static str, String),
    /// Others changed what it was to change, each time.
    #[error("{0}: others changed it each of the {1} times that it was tried")]
    Contended(&'static str, usize),
    /// Another live job has the window.
    #[error("another live job has the window")]
    WindowTaken,
    /// There is a record of this id.
    #[error("there is a record of this id already")]
    IdTaken,
}

impl StoreError {
    /// `error` of `what`.
    pub fn of(what: &'static str, error: &Error) -> Self {
        match error.kind.as_ref() {
            ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY => {
                // The index is named in the message, in all versions of the protocol.
                if write.message.contains(super::indexes::WINDOW) { Self::WindowTaken } else { Self::IdTaken }
            }
            ErrorKind::Write(WriteFailure::WriteError(write)) => {
                Self::Refused(what, format!("refused with code {}", write.code))
            }
            ErrorKind::ServerSelection { .. } => {
                Self::NotAsked(what, "no server of the database can be reached".to_owned())
            }
            ErrorKind::DnsResolve { .. } => {
                Self::NotAsked(what, "the name of the database's host cannot be resolved".to_owned())
            }
            ErrorKind::Authentication { .. } => {
                Self::NotAsked(what, "the database refuses user or password".to_owned())
            }
            kind => Self::Unavailable(what, words(kind)),
        }
    }

    /// Whether the database could be reached.
    pub fn reached(&self) -> bool {
        match self {
            Self::Unavailable(..) | Self::NotAsked(..) => false,
            Self::Refused(..) | Self::Contended(..) | Self::WindowTaken | Self::IdTaken => true,
        }
    }
}

fn words(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Command(command) if command.code == 13 => {
            "the database's user lacks a right (code 13): give it readWrite on the database".to_owned()
        }
        ErrorKind::Command(command) => format!("refused with code {} {}", command.code, command.code_name),
        ErrorKind::Write(_) => "written, but not confirmed as the write concern demands".to_owned(),
        ErrorKind::Io(error) => format!("the connection to the database failed: {}", error.kind()),
        ErrorKind::ConnectionPoolCleared { .. } => "the connection to the database was lost".to_owned(),
        ErrorKind::InvalidTlsConfig { .. } => {
            "the TLS options of the database's address are wrong, or name a file that cannot be read"
                .to_owned()
        }
        ErrorKind::IncompatibleServer { .. } => "the database is too old for this driver".to_owned(),
        _ => "the database or its driver failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_the_driver_is_repeated() {
        let secret = "mongodb://user:hunter2@host:1/?directConnection=hunter2";
        let error = mongodb::options::ConnectionString::parse(secret).map(drop).err();
        let error = error.unwrap_or_else(|| Error::custom(secret));
        let io = Error::from(std::io::Error::other(secret));
        for error in [error, Error::custom(secret), io] {
            let told = StoreError::of("storing the job", &error);
            assert!(!told.reached() && !format!("{told} {told:?}").contains("hunter2"), "{told:?}");
        }
    }
}
