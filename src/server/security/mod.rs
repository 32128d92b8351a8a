//! Who may do what, and how connections are protected; docs/security.md describes it.
//!
//! `caller`, `tokens`, `cache`, `quota`, `tls` and `peers` are pure.

mod args;
pub mod caller;
mod connection;
mod digest;
pub mod gate;
pub mod layer;
pub mod listener;
pub mod metrics;
mod peers;
pub mod quota;
mod reload;
mod review;
mod tls;
mod tokens;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use kube::{Api, Client, ResourceExt};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use args::{Auth, SecurityArgs};
pub use caller::Caller;
pub use connection::Connection;
pub use layer::AuthLayer;
pub use listener::Listener;
pub use peers::PeerTls;

use super::error::ApiError;
use crate::api::{FocusJob, names};
use gate::{Gate, Way};
use listener::Accept;
use metrics::{SecurityMetrics, Source};
use peers::PeerFiles;
use quota::{Place, Quota};
use reload::Files;
use review::Reviewer;
use tls::{Tls, TlsFiles};
use tokens::Tokens;

/// What protects the server.
pub struct Security {
    gate: Option<Arc<Gate>>,
    quota: Quota,
    tls: Option<watch::Receiver<Arc<Tls>>>,
    peers: Option<watch::Receiver<Arc<PeerTls>>>,
    metrics: SecurityMetrics,
}

impl Security {
    /// Reads the files that `args` name, and follows their changes until `stop`. `client` asks the API server.
    ///
    /// # Errors
    /// When a file cannot be used, or the arguments contradict each other.
    pub async fn start(
        args: &SecurityArgs,
        client: Client,
        registry: &Registry,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        args.check()?;
        let metrics = SecurityMetrics::new(registry)?;
        let way = match args.auth {
            Auth::None => None,
            Auth::TokenReview => {
                Some(Way::Review(Box::new(Reviewer::new(Api::all(client), args.auth_audience.clone()))))
            }
            Auth::Static => Some(Way::Static(static_tokens(args, &metrics, stop).await?)),
        };
        if way.is_none() {
            info!("anyone who reaches the server may do everything: no --auth");
        }
        let gate = way.map(|way| Arc::new(Gate::new(way, args.auth_admins.clone(), metrics.clone())));
        let tls = match args.tls() {
            Some(files) => Some(follow_tls(files, &metrics, stop).await?),
            None => None,
        };
        let peers = match args.peers()? {
            Some(files) => Some(follow_peers(files, &metrics, stop).await?),
            None => None,
        };
        Ok(Self { gate, quota: Quota::new(args.jobs_per_caller), tls, peers, metrics })
    }

    /// The check of tokens, for axum's routers and tonic's.
    pub fn layer(&self) -> AuthLayer {
        AuthLayer::new(self.gate.clone())
    }

    /// Accepts the connections of `tcp`, always without TLS.
    pub fn plain_listener(&self, tcp: TcpListener) -> Listener {
        Listener::new(tcp, None, self.metrics.failed_handshakes.clone())
    }

    /// Accepts the connections of `tcp`: over TLS if there is a certificate.
    pub fn listener(&self, tcp: TcpListener) -> Listener {
        let accept =
            self.tls.clone().map(|tls| -> Accept { Box::new(move || Arc::clone(&tls.borrow().config)) });
        Listener::new(tcp, accept, self.metrics.failed_handshakes.clone())
    }

    /// Accepts the connections of other replicas of `tcp`: over TLS if this one has it.
    pub fn peer_listener(&self, tcp: TcpListener) -> Listener {
        let accept =
            self.peers.clone().map(|tls| -> Accept { Box::new(move || Arc::clone(&tls.borrow().accept)) });
        Listener::new(tcp, accept, self.metrics.failed_handshakes.clone())
    }

    /// What connections to other replicas need; None: they are plain.
    pub fn peers(&self) -> Option<watch::Receiver<Arc<PeerTls>>> {
        self.peers.clone()
    }

    /// Room for one more job of `caller`, to be kept until it is entered; `live` gives the windows of the jobs that
    /// the caller of this name has.
    ///
    /// # Errors
    /// 429 when the caller has as many as are allowed.
    pub fn place(
        &self,
        caller: Option<&Caller>,
        window: u16,
        live: impl FnOnce(&str) -> BTreeSet<u16>,
    ) -> Result<Option<Place>, ApiError> {
        let Some(caller) = caller else { return Ok(None) };
        let place = self.quota.place(caller.name(), window, || live(caller.name()));
        place.map(Some).ok_or(ApiError::CallerLimit(self.quota.most()))
    }
}

async fn static_tokens(
    args: &SecurityArgs,
    metrics: &SecurityMetrics,
    stop: &CancellationToken,
) -> anyhow::Result<watch::Receiver<Arc<Tokens>>> {
    let path = args.auth_tokens_file.clone().context("--auth static needs --auth-tokens-file")?;
    let files = Files {
        source: Source::Tokens,
        paths: vec![path.clone()],
        make: move |content: &reload::Content| Tokens::parse(&path, content),
        reloads: metrics.reloads.clone(),
    };
    let tokens = files.start(stop.clone()).await.context("the tokens of --auth-tokens-file")?;
    let count = tokens.borrow().len();
    if count == 0 {
        warn!("there is no token: nobody will be let in");
    }
    info!(count, "static tokens");
    Ok(tokens)
}

async fn follow_tls(
    files: TlsFiles,
    metrics: &SecurityMetrics,
    stop: &CancellationToken,
) -> anyhow::Result<watch::Receiver<Arc<Tls>>> {
    let (paths, expiry) = (files.paths(), metrics.certificate_expiry.clone());
    let make = move |content: &reload::Content| {
        let tls = files.load(content);
        if let Ok(tls) = &tls {
            expiry.set(tls.not_after);
        }
        tls
    };
    let files = Files { source: Source::Tls, paths, make, reloads: metrics.reloads.clone() };
    files.start(stop.clone()).await.context("the certificate of --tls-cert")
}

async fn follow_peers(
    files: PeerFiles,
    metrics: &SecurityMetrics,
    stop: &CancellationToken,
) -> anyhow::Result<watch::Receiver<Arc<PeerTls>>> {
    let paths = files.paths();
    let make = move |content: &reload::Content| files.load(content, UnixTime::now());
    let files = Files { source: Source::PeerTls, paths, make, reloads: metrics.reloads.clone() };
    files.start(stop.clone()).await.context("TLS between the replicas")
}

/// Whether `caller` may end the job of `object`: its owner and admins may; without authentication, anyone.
///
/// # Errors
/// 403.
pub fn may_end(caller: Option<&Caller>, object: &FocusJob) -> Result<(), ApiError> {
    let Some(caller) = caller else { return Ok(()) };
    let owner = owner(object);
    if caller.is_admin() || owner == Some(caller.name()) {
        return Ok(());
    }
    Err(ApiError::Forbidden(match owner {
        Some(owner) => format!("the job belongs to {owner}: only that caller and admins may end it"),
        None => "the job was not configured by a known caller: only admins may end it".to_owned(),
    }))
}

/// The name of the caller that configured the job.
pub fn owner(object: &FocusJob) -> Option<&str> {
    object.annotations().get(names::CALLER).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::tests::spec;

    #[test]
    fn a_job_is_ended_by_its_owner_or_an_admin() {
        let job = |owner: Option<&str>| {
            let mut job = FocusJob::new("0-1", spec(8));
            job.metadata.annotations = owner.map(|o| [(names::CALLER.to_owned(), o.to_owned())].into());
            job
        };
        let (ann, root) = (Caller::new("ann", false), Caller::new("root", true));
        for (caller, owner, may) in [
            (None, None, true),
            (None, Some("ann"), true),
            (Some(&ann), Some("ann"), true),
            (Some(&ann), Some("bob"), false),
            (Some(&ann), Some("an"), false),
            (Some(&ann), None, false),
            (Some(&root), Some("ann"), true),
            (Some(&root), None, true),
        ] {
            assert_eq!(may_end(caller, &job(owner)).is_ok(), may, "{caller:?} {owner:?}");
        }
    }
}
