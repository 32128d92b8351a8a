//! The metrics of authentication and TLS.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::telemetry::register;

/// What is read again when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Certificate and key.
    Tls,
    /// Static tokens.
    Tokens,
}

impl Source {
    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Tls => "tls",
            Source::Tokens => "tokens",
        }
    }
}

/// What became of a request's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was good.
    Admitted,
    /// There was none.
    NoToken,
    /// It was nobody's.
    BadToken,
    /// The API server did not tell.
    Unavailable,
}

impl Outcome {
    const ALL: [Outcome; 4] = [Outcome::Admitted, Outcome::NoToken, Outcome::BadToken, Outcome::Unavailable];

    fn as_str(self) -> &'static str {
        match self {
            Outcome::Admitted => "admitted",
            Outcome::NoToken => "no_token",
            Outcome::BadToken => "bad_token",
            Outcome::Unavailable => "unavailable",
        }
    }
}

/// Counts changed files.
#[derive(Clone)]
pub struct Reloads(IntCounterVec);

impl Reloads {
    /// Counts one change of `source`.
    pub fn count(&self, source: Source, used: bool) {
        let outcome = if used { "used" } else { "refused" };
        self.0.with_label_values(&[source.as_str(), outcome]).inc();
    }
}

/// All of them.
#[derive(Clone)]
pub struct SecurityMetrics {
    auth: IntCounterVec,
    /// Changed files.
    pub reloads: Reloads,
    /// When the certificate in use ends, s since the Unix epoch; 0 without TLS.
    pub certificate_expiry: IntGauge,
    /// Connections that were given up before their handshake was done.
    pub failed_handshakes: IntCounter,
}

impl SecurityMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let metrics = Self {
            auth: counters(
                "focus_server_auth_total",
                "Requests whose caller had to be known; unavailable: the API server did not say whose token it is.",
                &["outcome"],
            )?,
            reloads: Reloads(counters(
                "focus_server_reloads_total",
                "Times that mounted files had changed; refused: they could not be used, and the old ones stay.",
                &["source", "outcome"],
            )?),
            certificate_expiry: register(
                registry,
                IntGauge::new(
                    "focus_server_tls_certificate_expiry_seconds",
                    "When the certificate in use ends, since the Unix epoch; 0 without TLS.",
                )?,
            )?,
            failed_handshakes: register(
                registry,
                IntCounter::new(
                    "focus_server_tls_failed_handshakes_total",
                    "Connections given up before their TLS handshake was done.",
                )?,
            )?,
        };
        Outcome::ALL.iter().for_each(|outcome| metrics.auth.with_label_values(&[outcome.as_str()]).inc_by(0));
        for source in [Source::Tls, Source::Tokens] {
            for outcome in ["used", "refused"] {
                metrics.reloads.0.with_label_values(&[source.as_str(), outcome]).inc_by(0);
            }
        }
        Ok(metrics)
    }

    /// Counts a request.
    pub fn asked(&self, outcome: Outcome) {
        self.auth.with_label_values(&[outcome.as_str()]).inc();
    }
}
