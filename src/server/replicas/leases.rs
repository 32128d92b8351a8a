//! The Leases by which replicas tell of themselves and hear of each other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::members::{Members, Sign};
use super::{LASTS, RENEW, SILENT, pod};
use crate::api::names::{COMPONENT_LABEL, label_value};

/// Value of [`COMPONENT_LABEL`] on the Leases.
const COMPONENT: &str = "focus-server-replica";
/// Annotation: where the others reach the replica.
const ADDRESS: &str = "focus-operator.io/address";
/// How long the API server may take to answer: a sign that comes later is of no use.
const ANSWER_WITHIN: Duration = LASTS;
/// Length of one watch call, s.
const WATCH_SECONDS: u32 = 60;

/// The Lease of this replica, and the watch of all.
pub(super) struct Leases {
    api: Api<Lease>,
    name: String,
    own: String,
    address: String,
    pod: Option<OwnerReference>,
}

impl Leases {
    pub(super) fn new(client: Client, namespace: &str, own: &str, address: String) -> Self {
        let name = format!("focus-server-{}", label_value(own).to_lowercase());
        let api = Api::namespaced(client, namespace);
        Self { api, name, own: own.to_owned(), address, pod: pod(namespace) }
    }

    /// Gives signs of life and listens to those of the others; `alive` is told who is there. Takes leave when
    /// `stop` comes.
    pub(super) async fn run(self, alive: watch::Sender<BTreeMap<String, String>>, stop: CancellationToken) {
        let mut members = Members::default();
        let config = watcher::Config::default()
            .labels(&format!("{COMPONENT_LABEL}={COMPONENT}"))
            .timeout(WATCH_SECONDS);
        let mut signs = Box::pin(watcher(self.api.clone(), config).default_backoff());
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = signs.next() => match event {
                    Some(Ok(event)) => take(&mut members, event),
                    Some(Err(error)) => warn!(%error, "watching the Leases of the replicas; trying again"),
                    None => return,
                },
                _ = renew.tick() => self.renew(&mut members).await,
                () = stop.cancelled() => return self.leave(&alive).await,
            }
            let now = members.alive(Instant::now());
            alive.send_if_modified(|before| {
                let changed = *before != now;
                if changed {
                    info!(replicas = ?now.keys().collect::<Vec<_>>(), "the replicas have changed");
                    *before = now;
                }
                changed
            });
        }
    }

    /// Writes a sign of life; on success this replica has heard itself. The Leases of the long silent are removed.
    async fn renew(&self, members: &mut Members) {
        let now = Timestamp::now();
        let asked = Instant::now();
        let lease = self.lease(now);
        let params = PatchParams::apply("focus-server").force();
        let patch = Patch::Apply(&lease);
        match tokio::time::timeout(ANSWER_WITHIN, self.api.patch(&self.name, &params, &patch)).await {
            // It is good from when it was asked for, not from when the answer came.
            Ok(Ok(written)) => sign(&written).into_iter().for_each(|sign| members.heard(sign, asked)),
            Ok(Err(error)) => warn!(%error, "giving a sign of life failed; trying again"),
            Err(_) => warn!("giving a sign of life failed: the API server did not answer in time"),
        }
        for name in members.silent(SILENT, asked) {
            let lease = format!("focus-server-{}", label_value(&name).to_lowercase());
            let params = DeleteParams::default();
            let deleted = self.api.delete(&lease, &params);
            if matches!(tokio::time::timeout(ANSWER_WITHIN, deleted).await, Ok(Ok(_))) {
                info!(name, "removed the Lease of a replica that has been silent for long");
            }
            members.left(&name);
        }
    }

    async fn leave(&self, alive: &watch::Sender<BTreeMap<String, String>>) {
        let params = DeleteParams::default();
        let deleted = self.api.delete(&self.name, &params);
        if !matches!(tokio::time::timeout(Duration::from_secs(1), deleted).await, Ok(Ok(_))) {
            warn!("could not take leave of the other replicas: they will notice after {} s", LASTS.as_secs());
        }
        alive.send_modify(|alive| {
            alive.remove(&self.own);
        });
    }

    fn lease(&self, now: Timestamp) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(BTreeMap::from([(COMPONENT_LABEL.to_owned(), COMPONENT.to_owned())])),
                annotations: Some(BTreeMap::from([(ADDRESS.to_owned(), self.address.clone())])),
                owner_references: self.pod.clone().map(|pod| vec![pod]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.own.clone()),
                lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn take(members: &mut Members, event: Event<Lease>) {
    let now = Instant::now();
    match event {
        Event::Apply(lease) | Event::InitApply(lease) => {
            // One that was silent for long already when it was first read is not waited for.
            let old = |sign: &Sign| {
                let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
                renewed.is_some_and(|at| {
                    Timestamp::now().duration_since(at.0).as_secs() > 4 * sign.lasts.as_secs() as i64
                })
            };
            sign(&lease).filter(|sign| !old(sign)).into_iter().for_each(|sign| members.heard(sign, now));
        }
        Event::Delete(lease) => {
            if let Some(sign) = sign(&lease) {
                members.left(&sign.name);
            }
        }
        Event::Init | Event::InitDone => {}
    }
}

fn sign(lease: &Lease) -> Option<Sign> {
    let spec = lease.spec.as_ref()?;
    Some(Sign {
        name: spec.holder_identity.clone()?,
        address: lease.annotations().get(ADDRESS)?.clone(),
        renewed: spec.renew_time.as_ref()?.0.to_string(),
        lasts: Duration::from_secs(u64::try_from(spec.lease_duration_seconds?).ok()?),
    })
}
