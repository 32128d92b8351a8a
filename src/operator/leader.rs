//! Leader election by a Lease: of several operators one reconciles, the others stand by with warm caches.
//!
//! Every write carries the `resourceVersion` of the Lease it was decided on, so of two takers one gets a conflict. A
//! holder is taken for gone only when its Lease has not changed for the whole duration by our own monotonic clock:
//! the clocks of two machines are never compared. (The crate `kube-lease-manager` 0.13 does neither.) A leader that
//! could not renew in time ends its process: nothing it had begun may go on beside a successor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use prometheus::IntGauge;
use rand::RngExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long giving the Lease back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(3);

/// Command line of the leader election.
#[derive(clap::Args, Debug, Clone)]
pub struct LeaderArgs {
    /// Reconcile only while holding a Lease, so that several operators may run.
    #[arg(long, env = "FOCUS_LEADER_ELECT", value_parser = clap::builder::BoolishValueParser::new())]
    leader_elect: bool,
    /// Name of the Lease. Operators of the same jobs share it.
    #[arg(long, env = "FOCUS_LEASE_NAME", default_value = "focus-operator")]
    lease_name: String,
    /// Namespace of the Lease. Default: that of the pod or of the kubeconfig.
    #[arg(long, env = "FOCUS_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,
    /// How long the others wait for a leader that has gone silent, s.
    #[arg(long, env = "FOCUS_LEASE_DURATION_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=3600))]
    lease_duration_seconds: u32,
    /// A leader that could not renew its Lease for so long ends, s. Below the duration.
    #[arg(long, env = "FOCUS_LEASE_RENEW_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=3600))]
    lease_renew_seconds: u32,
    /// Pause between two tries to take or renew the Lease, s. Below the time to renew.
    #[arg(long, env = "FOCUS_LEASE_RETRY_SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    lease_retry_seconds: u32,
}

impl LeaderArgs {
    fn check(&self) -> anyhow::Result<()> {
        let Self { lease_duration_seconds: duration, lease_renew_seconds: renew, .. } = *self;
        let retry = self.lease_retry_seconds;
        anyhow::ensure!(
            retry < renew && renew < duration,
            "a Lease cannot be kept with these times: the retry ({retry} s) must be shorter than the time to renew \
             ({renew} s), and that shorter than the Lease's duration ({duration} s)"
        );
        Ok(())
    }
}

/// Why an operator leads no longer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeaseLost {
    /// Another holds the Lease.
    #[error("lost the lease {lease} to {holder}; ending, so that two never reconcile at once")]
    Taken {
        /// `namespace/name` of the Lease.
        lease: String,
        /// Its new holder.
        holder: String,
    },
    /// It could not be renewed in time.
    #[error("could not renew the lease {lease} for {seconds} s ({why}); ending, so that another may lead")]
    NotRenewed {
        /// `namespace/name` of the Lease.
        lease: String,
        /// The time to renew, s.
        seconds: u64,
        /// What the last try met.
        why: String,
    },
}

/// Whether this operator may reconcile now.
#[derive(Clone, Debug, Default)]
pub struct Leading(Arc<AtomicBool>);

impl Leading {
    /// Whether this operator leads.
    pub fn now(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// This operator's part in the election.
pub struct Leadership {
    /// Whether it leads.
    pub leading: Leading,
    /// Tells once, when it begins to lead.
    pub begun: mpsc::Receiver<()>,
}

/// The running election; it must be given back at the end.
pub struct Election {
    task: JoinHandle<Result<(), LeaseLost>>,
    release: CancellationToken,
}

impl Election {
    /// Waits until the Lease is lost; for ever when it is not.
    pub async fn lost(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Err(lost)) => lost.into(),
            Ok(Ok(())) => std::future::pending().await,
            Err(error) => anyhow::Error::new(error).context("the leader election"),
        }
    }

    /// Gives the Lease back, so that a successor need not wait for its end. To be called when nothing of ours is
    /// under way any more.
    pub async fn release(self) {
        self.release.cancel();
        if let Ok(Err(lost)) = self.task.await {
            tracing::warn!("{lost}");
        }
    }
}

/// Starts to stand for election; without `--leader-elect` this operator leads from the start.
///
/// # Errors
/// When the times given cannot keep a Lease.
pub fn start(args: &LeaderArgs, client: &Client, gauge: IntGauge) -> anyhow::Result<(Leadership, Election)> {
    args.check().context("reading the options of the leader election")?;
    let (tell, begun) = mpsc::channel(1);
    let (leading, release) = (Leading::default(), CancellationToken::new());
    let namespace = args.lease_namespace.as_deref().unwrap_or(client.default_namespace());
    let candidate = Candidate {
        leases: Api::namespaced(client.clone(), namespace),
        lease: format!("{namespace}/{}", args.lease_name),
        identity: identity(),
        args: args.clone(),
        leading: leading.clone(),
        tell,
        gauge,
        seen: None,
        renewed: None,
        trouble: String::new(),
    };
    let until = release.clone();
    let task = tokio::spawn(async move {
        if candidate.args.leader_elect {
            return candidate.stand(until).await;
        }
        candidate.lead();
        until.cancelled().await;
        Ok(())
    });
    Ok((Leadership { leading, begun }, Election { task, release }))
}

/// The pod's name, so that a person finds it, and a random part: a restarted pod is another holder.
fn identity() -> String {
    let name = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    format!("{}_{:08x}", name.unwrap_or_else(|| "focus-operator".to_owned()), rand::random::<u32>())
}

struct Candidate {
    leases: Api<Lease>,
    /// `namespace/name`, for messages.
    lease: String,
    identity: String,
    args: LeaderArgs,
    leading: Leading,
    tell: mpsc::Sender<()>,
    gauge: IntGauge,
    /// The Lease's version, and when it was first seen.
    seen: Option<(String, Instant)>,
    /// When the last successful write of our own was begun.
    renewed: Option<Instant>,
    /// What the last try met.
    trouble: String,
}

impl Candidate {
    async fn stand(mut self, release: CancellationToken) -> Result<(), LeaseLost> {
        let mut freed = Box::pin(freed(self.leases.clone(), &self.args.lease_name));
        loop {
            self.round().await?;
            let pause = self.retry().mul_f64(rand::rng().random_range(0.9..1.1));
            tokio::select! {
                () = release.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                // Not asked while leading: our own writes are no news.
                Some(()) = freed.next(), if self.renewed.is_none() => {}
            }
        }
        if self.renewed.is_some() {
            self.give_back().await;
        }
        Ok(())
    }

    /// One try to take or renew the Lease.
    async fn round(&mut self) -> Result<(), LeaseLost> {
        let began = Instant::now();
        let renew = Duration::from_secs(self.args.lease_renew_seconds.into());
        // A call that hangs must leave time for another.
        let patience =
            self.renewed.map_or(renew / 2, |at| (at + renew).saturating_duration_since(began).min(renew / 2));
        match timeout(patience, self.hold()).await {
            Ok(Ok(None)) => {
                if self.renewed.replace(began).is_none() {
                    self.lead();
                }
                return Ok(());
            }
            Ok(Ok(Some(holder))) if self.renewed.is_some() => {
                self.stop_leading();
                return Err(LeaseLost::Taken { lease: self.lease.clone(), holder });
            }
            Ok(Ok(Some(_))) => {}
            Ok(Err(error)) => self.note(error.to_string()),
            Err(_) => self.note(format!("no answer within {:.1} s", patience.as_secs_f64())),
        }
        if self.renewed.is_some_and(|at| at.elapsed() >= renew) {
            self.stop_leading();
            let why = std::mem::take(&mut self.trouble);
            return Err(LeaseLost::NotRenewed { lease: self.lease.clone(), seconds: renew.as_secs(), why });
        }
        Ok(())
    }

    /// Takes or renews the Lease where it is free, ours or abandoned; else names its holder.
    async fn hold(&mut self) -> kube::Result<Option<String>> {
        let (name, params) = (self.args.lease_name.clone(), PostParams::default());
        let Some(mut lease) = self.leases.get_opt(&name).await? else {
            let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
            let spec = self.claim(&LeaseSpec::default(), false);
            self.leases.create(&params, &Lease { metadata, spec }).await?;
            return Ok(None);
        };
        let abandoned = self.is_abandoned(&lease);
        let spec = lease.spec.take().unwrap_or_default();
        match self.claim(&spec, abandoned) {
            Some(claimed) => {
                // With the resourceVersion that was read: of two takers one gets a conflict.
                lease.spec = Some(claimed);
                self.leases.replace(&name, &params, &lease).await?;
                Ok(None)
            }
            None => Ok(Some(spec.holder_identity.unwrap_or_default())),
        }
    }

    fn claim(&self, spec: &LeaseSpec, abandoned: bool) -> Option<LeaseSpec> {
        let seconds = i32::try_from(self.args.lease_duration_seconds).unwrap_or(i32::MAX);
        claim(spec, &self.identity, abandoned, seconds, Timestamp::now())
    }

    /// Whether the Lease has not changed for the whole duration that its holder promised.
    fn is_abandoned(&mut self, lease: &Lease) -> bool {
        let version = lease.resource_version().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
        let promised = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let promised = promised.and_then(|seconds| u32::try_from(seconds).ok());
        let duration = Duration::from_secs(promised.unwrap_or(self.args.lease_duration_seconds).into());
        self.seen.as_ref().is_some_and(|(_, at)| at.elapsed() >= duration)
    }

    fn lead(&self) {
        tracing::info!(lease = self.lease, identity = self.identity, "leading");
        self.leading.0.store(true, Ordering::Release);
        self.gauge.set(1);
        // Full: it has been told.
        let _ = self.tell.try_send(());
    }

    fn stop_leading(&self) {
        self.leading.0.store(false, Ordering::Release);
        self.gauge.set(0);
    }

    fn note(&mut self, trouble: String) {
        tracing::warn!(
            lease = self.lease,
            leading = self.renewed.is_some(),
            "the lease: {trouble}; trying again"
        );
        self.trouble = trouble;
    }

    fn retry(&self) -> Duration {
        Duration::from_secs(self.args.lease_retry_seconds.into())
    }

    /// Frees the Lease, if it is still ours.
    async fn give_back(&self) {
        self.stop_leading();
        let name = &self.args.lease_name;
        let freeing = async {
            let mut lease = self.leases.get(name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            self.leases.replace(name, &PostParams::default(), &lease).await.map(drop)
        };
        match timeout(RELEASE_WITHIN, freeing).await {
            Ok(Ok(())) => tracing::info!(lease = self.lease, "gave the lease back"),
            Ok(Err(error)) => tracing::warn!(lease = self.lease, %error, "could not give the lease back"),
            Err(_) => tracing::warn!(lease = self.lease, "could not give the lease back in time"),
        }
    }
}

/// The Lease as we would hold it; None while another holds it.
fn claim(
    spec: &LeaseSpec,
    identity: &str,
    abandoned: bool,
    seconds: i32,
    now: Timestamp,
) -> Option<LeaseSpec> {
    let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
    let renewed =
        LeaseSpec { lease_duration_seconds: Some(seconds), renew_time: Some(MicroTime(now)), ..spec.clone() };
    match holder {
        Some(holder) if holder == identity => Some(renewed),
        Some(_) if !abandoned => None,
        _ => Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            acquire_time: Some(MicroTime(now)),
            lease_transitions: Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1))),
            ..renewed
        }),
    }
}

/// Tells each time the Lease has become free, so that a successor need not wait for its next try. Only a hint.
fn freed(leases: Api<Lease>, name: &str) -> impl Stream<Item = ()> + Send + use<> {
    watcher::watch_object(leases, name).default_backoff().filter_map(|event| async move {
        let lease = event.ok()?;
        let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
        holder.is_none_or(|holder| holder.is_empty()).then_some(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: LeaderArgs,
    }

    #[test]
    fn who_may_hold_the_lease() {
        let (then, now) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(100).unwrap());
        let held = |holder: Option<&str>, transitions| LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            acquire_time: Some(MicroTime(then)),
            renew_time: Some(MicroTime(then)),
            lease_duration_seconds: Some(30),
            lease_transitions: transitions,
            ..LeaseSpec::default()
        };
        // What is there, whether it is abandoned; when it was acquired and how often it has changed hands.
        for (what, spec, abandoned, expected) in [
            ("none yet", LeaseSpec::default(), false, Some((now, 0))),
            ("ours", held(Some("us"), Some(3)), false, Some((then, 3))),
            ("ours, after a long pause", held(Some("us"), Some(3)), true, Some((then, 3))),
            ("another's", held(Some("them"), Some(3)), false, None),
            ("another's, abandoned", held(Some("them"), Some(3)), true, Some((now, 4))),
            ("given back", held(None, Some(3)), false, Some((now, 4))),
            ("given back with an empty name", held(Some(""), Some(i32::MAX)), false, Some((now, i32::MAX))),
        ] {
            let claimed = claim(&spec, "us", abandoned, 15, now);
            let found = claimed.as_ref().map(|spec| {
                (spec.acquire_time.clone().unwrap().0, spec.lease_transitions.unwrap_or_default())
            });
            assert_eq!(found, expected, "{what}");
            if let Some(spec) = claimed {
                assert_eq!(spec.holder_identity.as_deref(), Some("us"), "{what}");
                assert_eq!(spec.renew_time, Some(MicroTime(now)), "{what}");
                assert_eq!(spec.lease_duration_seconds, Some(15), "{what}");
            }
        }
    }

    #[test]
    fn the_times_must_fit_into_each_other() {
        for (line, fits) in [
            (&["o"][..], true),
            (
                &[
                    "o",
                    "--leader-elect",
                    "--lease-duration-seconds",
                    "3",
                    "--lease-renew-seconds",
                    "2",
                    "--lease-retry-seconds",
                    "1",
                ],
                true,
            ),
            (&["o", "--lease-renew-seconds", "15"], false),
            (&["o", "--lease-retry-seconds", "10"], false),
        ] {
            assert_eq!(Cli::parse_from(line).args.check().is_ok(), fits, "{line:?}");
        }
        assert!(!Cli::parse_from(["o"]).args.leader_elect);
        assert!(Cli::parse_from(["o", "--leader-elect"]).args.leader_elect);
    }
}
