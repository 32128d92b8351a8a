//! The replicas of the server: each tells of itself in a Lease, and each knows which of them consumes for a job.
//!
//! The broker has the last word: a consumer is exclusive, so that two replicas which disagree for a moment do not
//! both take a job's lines.

pub mod dial;
mod ended;
mod leases;
pub mod members;
pub mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use leases::Leases;

/// How often a replica gives a sign of life.
const RENEW: Duration = Duration::from_secs(1);
/// How long a sign is good for: the others take over after this.
const LASTS: Duration = Duration::from_secs(3);
/// The sign of a replica that has been silent so long is removed.
const SILENT: Duration = Duration::from_secs(120);

/// The replicas that are alive: name and address.
pub type Alive = BTreeMap<String, String>;

/// Where a job's consumer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this replica.
    Here,
    /// In the replica at this address: `http://host:port`, or `https` with TLS.
    There(String),
    /// In none: no replica is alive as far as this one can see.
    Nowhere,
}

/// All replicas, as this one sees them. Cheap to clone.
#[derive(Clone)]
pub struct Replicas {
    own: Arc<str>,
    alive: watch::Receiver<Alive>,
    alone: bool,
}

impl Replicas {
    /// A server that has no others beside it.
    pub fn alone(own: &str) -> Self {
        let (_, alive) = watch::channel(Alive::from([(own.to_owned(), String::new())]));
        Self { own: own.into(), alive, alone: true }
    }

    /// Joins the replicas of `namespace` as `own`, reached by the others at `address`, until `stop`. The task
    /// takes leave at its end.
    pub fn join(
        client: &kube::Client,
        namespace: &str,
        own: &str,
        address: String,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (alive, seen) = watch::channel(Alive::new());
        let leases = Leases::new(client.clone(), namespace, own, address);
        let replicas = Self { own: own.into(), alive: seen, alone: false };
        (replicas, leases.run(alive, stop))
    }

    /// The name of this replica.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Whether there are no others by design.
    pub fn are_one(&self) -> bool {
        self.alone
    }

    /// Whether this replica has given its first sign of life.
    pub fn joined(&self) -> bool {
        self.alive.borrow().contains_key(&*self.own)
    }

    /// Where the consumer of the job with `uid` is, which is `bound` to a replica.
    pub fn place(&self, bound: Option<&str>, uid: &str) -> Place {
        let alive = self.alive.borrow();
        match members::owner(bound, uid, &alive) {
            Some(owner) if owner == &*self.own => Place::Here,
            Some(owner) => Place::There(alive.get(owner).cloned().unwrap_or_default()),
            None => Place::Nowhere,
        }
    }

    /// Changes whenever a replica comes or goes.
    pub fn changes(&self) -> watch::Receiver<Alive> {
        self.alive.clone()
    }
}

/// The pod that this replica runs in, if it is of `namespace`: what it writes there goes with it, also when the
/// replica has no time or no right to clear up. The chart sets the variables.
fn pod(namespace: &str) -> Option<OwnerReference> {
    let variable = |name| std::env::var(name).ok();
    variable("POD_NAMESPACE").filter(|own| own == namespace)?;
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: variable("POD_NAME")?,
        uid: variable("POD_UID")?,
        ..OwnerReference::default()
    })
}
