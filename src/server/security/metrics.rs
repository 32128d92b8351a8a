//! The metrics of authentication and TLS.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::telemetry::register;

/// What is read again when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Certificate and key.
    Tls,
    /// Certificate and key, and the authorities of the other replicas.
    PeerTls,
    /// Static tokens.
    Tokens,
}

impl Source {
    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Tls => "tls",
            Source::PeerTls => "peer_tls",
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

/// Counts changed files, and tells whether those that are mounted are refused.
#[derive(Clone)]
pub struct Reloads {
    changes: IntCounterVec,
    refused: IntGaugeVec,
}

impl Reloads {
    /// Counts one change of `source`.
    pub fn count(&self, source: Source, used: bool) {
        let outcome = if used { "used" } else { "refused" };
        self.changes.with_label_values(&[source.as_str(), outcome]).inc();
        self.stands(source, !used);
    }

    /// Tells whether what is mounted is `refused`, and others are in use.
    pub fn stands(&self, source: Source, refused: bool) {
        self.refused.with_label_values(&[source.as_str()]).set(i64::from(refused));
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
            reloads: Reloads {
                changes: counters(
                    "focus_server_reloads_total",
                    "Times that mounted files had changed; refused: they could not be used, and the old ones stay.",
                    &["source", "outcome"],
                )?,
                refused: register(
                    registry,
                    IntGaugeVec::new(
                        Opts::new(
                            "focus_server_reload_refused",
                            "1 while the files that are mounted cannot be used, and older ones are in use: a process \
                             that starts now would not start.",
                        ),
                        &["source"],
                    )?,
                )?,
            },
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
        for source in [Source::Tls, Source::PeerTls, Source::Tokens] {
            for outcome in ["used", "refused"] {
                metrics.reloads.changes.with_label_values(&[source.as_str(), outcome]).inc_by(0);
            }
            metrics.reloads.stands(source, false);
        }
        Ok(metrics)
    }

    /// Counts a request.
    pub fn asked(&self, outcome: Outcome) {
        self.auth.with_label_values(&[outcome.as_str()]).inc();
    }
}
