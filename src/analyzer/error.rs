//! Why an analyzer ends without having finished: one sentence for a person, one word for a machine.

use std::io::Write;
use std::path::Path;

/// The exit code for an environment that the operator should not have given: `EX_USAGE`.
pub const EXIT_BAD_ENVIRONMENT: u8 = 64;
/// The exit code for input which cannot work, so that a retry is useless: `EX_DATAERR`.
pub const EXIT_BAD_INPUT: u8 = 65;

/// An end that the operator must learn of.
///
/// The text of each variant tells what was being done, with what, why it failed and what to do.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzerError {
    /// A variable is absent or cannot be understood.
    #[error("reading the environment: {variable} {why}; {remedy}")]
    BadEnvironment {
        /// Name of the variable.
        variable: &'static str,
        /// What is wrong with it; never its value when that is secret.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The port for probes and metrics cannot be bound.
    #[error(
        "listening on {addr} for probes and metrics: {source}; choose a free address with FOCUS_HEALTH_ADDR"
    )]
    HealthPort {
        /// The address.
        addr: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The process cannot listen to signals or start a thread.
    #[error("starting the analyzer: {what} failed: {source}; look at the limits of the pod")]
    Start {
        /// What was asked of the operating system.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The view and the declared source do not go together.
    #[error("starting the view: {why}; create a FocusJob that fits the source of its pool")]
    ViewOutsideSource {
        /// Which rule is broken, for the machine.
        reason: &'static str,
        /// Which rule is broken.
        why: String,
    },
    /// The source cannot be opened or read.
    #[error(transparent)]
    Source(#[from] super::source::SourceError),
}

impl AnalyzerError {
    /// One CamelCase word for the cause.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadEnvironment { .. } => "BadEnvironment",
            Self::HealthPort { .. } => "HealthPortUnavailable",
            Self::Start { .. } => "StartFailed",
            Self::ViewOutsideSource { reason, .. } => reason,
            Self::Source(error) => error.reason(),
        }
    }

    /// 64 for the environment, 65 for input that cannot work, 1 for the machine, where a retry may help.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::BadEnvironment { .. } | Self::HealthPort { .. } => EXIT_BAD_ENVIRONMENT,
            Self::ViewOutsideSource { .. } | Self::Source(_) => EXIT_BAD_INPUT,
            Self::Start { .. } => 1,
        }
    }

    /// `Reason: sentence`, on one line, as the termination log carries it.
    pub fn sentence(&self) -> String {
        format!("{}: {self}", self.reason()).replace('\n', " ")
    }
}

/// Tells the operator why: the termination log, and standard error. A log that cannot be written is left alone.
pub fn report(error: &AnalyzerError, termination_log: &Path) {
    let sentence = error.sentence();
    eprintln!("{sentence}");
    // Never created: outside a pod there is no such file, and nobody would read it.
    let log = std::fs::OpenOptions::new().write(true).truncate(true).open(termination_log);
    if let Ok(mut file) = log {
        let _ = file.write_all(sentence.as_bytes());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused() -> AnalyzerError {
        AnalyzerError::ViewOutsideSource {
            reason: "ChannelOutOfRange",
            why: "there is no channel 7".to_owned(),
        }
    }

    #[test]
    fn the_termination_log_has_one_sentence() {
        let path = std::env::temp_dir().join(format!("focus-termination-{}", std::process::id()));
        std::fs::write(&path, "what an earlier analyzer said, which was longer than any sentence of ours could be, ever, so that it must be cut away before ours is written into the file").unwrap();
        let error = refused();
        report(&error, &path);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, error.sentence());
        assert!(
            text.starts_with("ChannelOutOfRange: starting the view: there is no channel 7; create"),
            "{text}"
        );
        assert_eq!(error.exit_code(), 65);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_ignored() {
        report(&refused(), Path::new("/nonexistent/log"));
    }
}
