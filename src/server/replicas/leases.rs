//! The Lease in which replicas tell of themselves and hear of each other. It is one for all, so that the server needs
//! no right on any other: each writes an annotation of its own, by server-side apply.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::members::{self, Members, Sign};
use super::{Alive, LASTS, RENEW, SILENT, pod};
use crate::api::names::label_value;

/// Name of the Lease.
const LEASE: &str = "focus-server-replicas";
/// How the annotation of each replica begins.
const SIGN: &str = "replica.focus-operator.io/";
/// How long the API server may take to answer: a sign that comes later is of no use.
const ANSWER_WITHIN: Duration = LASTS;
/// Longest time for taking leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// Length of one watch call, s.
const WATCH_SECONDS: u32 = 60;

/// This replica's part of the Lease, and the watch of all.
pub(super) struct Leases {
    api: Api<Lease>,
    own: String,
    address: String,
    pod: Option<OwnerReference>,
}

impl Leases {
    pub(super) fn new(client: Client, namespace: &str, own: &str, address: String) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, own: own.to_owned(), address, pod: pod(namespace) }
    }

    /// Gives signs of life and listens to those of the others; `alive` is told who is there. Takes leave when
    /// `stop` comes.
    pub(super) async fn run(self, alive: watch::Sender<Alive>, stop: CancellationToken) {
        let mut members = Members::default();
        let config =
            watcher::Config::default().fields(&format!("metadata.name={LEASE}")).timeout(WATCH_SECONDS);
        let mut signs = Box::pin(watcher(self.api.clone(), config).default_backoff());
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = signs.next() => match event {
                    Some(Ok(event)) => take(&mut members, &self.own, event),
                    Some(Err(error)) => warn!(%error, "watching the Lease of the replicas; trying again"),
                    None => return,
                },
                _ = renew.tick() => self.renew(&mut members).await,
                () = stop.cancelled() => return self.leave(&alive).await,
            }
            let now = members.alive(Instant::now());
            alive.send_if_modified(|before| {
                let changed = members::is_news(&self.own, before, &now);
                if changed {
                    info!(replicas = ?now.keys().collect::<Vec<_>>(), "the replicas have changed");
                    *before = now;
                }
                changed
            });
        }
    }

    /// Writes a sign of life; on success this replica has heard itself. Those of the long silent are removed.
    async fn renew(&self, members: &mut Members) {
        let asked = Instant::now();
        let sign = Sign {
            name: self.own.clone(),
            address: self.address.clone(),
            renewed: Timestamp::now().to_string(),
            lasts: LASTS,
        };
        match tokio::time::timeout(ANSWER_WITHIN, self.apply(Some(&sign))).await {
            // It is good from when it was asked for, not from when the answer came.
            Ok(Ok(())) => members.heard_own(sign, asked),
            Ok(Err(error)) => warn!(%error, "giving a sign of life failed; trying again"),
            Err(_) => warn!("giving a sign of life failed: the API server did not answer in time"),
        }
        for name in members.silent(SILENT, asked) {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation(&name): null}}}));
            let params = PatchParams::default();
            let removed = self.api.patch_metadata(LEASE, &params, &patch);
            if matches!(tokio::time::timeout(ANSWER_WITHIN, removed).await, Ok(Ok(_))) {
                info!(name, "removed the sign of a replica that has been silent for long");
            }
            members.left(&name);
        }
    }

    async fn leave(&self, alive: &watch::Sender<Alive>) {
        if !matches!(tokio::time::timeout(LEAVE_WITHIN, self.apply(None)).await, Ok(Ok(()))) {
            warn!("could not take leave of the other replicas: they will notice after {} s", LASTS.as_secs());
        }
        alive.send_modify(|alive| {
            alive.remove(&self.own);
        });
    }

    /// Makes `sign` this replica's part of the Lease, which goes with the last of the replicas' pods.
    async fn apply(&self, sign: Option<&Sign>) -> kube::Result<()> {
        let annotations = sign.map(|sign| BTreeMap::from([(annotation(&self.own), write(sign))]));
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                annotations,
                owner_references: self.pod.clone().map(|pod| vec![pod]),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let params = PatchParams::apply(&format!("focus-server-{}", label_value(&self.own))).force();
        self.api.patch(LEASE, &params, &Patch::Apply(&lease)).await.map(drop)
    }
}

/// Takes in what the watch tells. What this replica, called `own`, says of itself it knows better.
fn take(members: &mut Members, own: &str, event: Event<Lease>) {
    let (now, clock) = (Instant::now(), Timestamp::now());
    match event {
        Event::Apply(lease) | Event::InitApply(lease) => {
            let told = signs(&lease);
            members.only(|name| name == own || told.iter().any(|sign| sign.name == name));
            // One that was silent for long already when it was first read is not waited for.
            let fresh = told.into_iter().filter(|sign| !is_old(sign, clock));
            fresh.for_each(|sign| members.heard(sign, now));
        }
        // It is made again by whoever lives; a sign that does not come lapses by itself.
        Event::Delete(_) | Event::Init | Event::InitDone => {}
    }
}

fn is_old(sign: &Sign, now: Timestamp) -> bool {
    let lasts = i64::try_from(sign.lasts.as_secs()).unwrap_or(i64::MAX);
    sign.renewed
        .parse::<Timestamp>()
        .is_ok_and(|at| now.duration_since(at).as_secs() > lasts.saturating_mul(4))
}

/// Name of the annotation of the replica called `name`.
fn annotation(name: &str) -> String {
    format!("{SIGN}{}", label_value(name))
}

fn write(sign: &Sign) -> String {
    let Sign { name, address, renewed, lasts } = sign;
    json!({"name": name, "address": address, "renewed": renewed, "lastsSeconds": lasts.as_secs()}).to_string()
}

/// The signs in `lease`; what is none, such as one of another version, is left out.
fn signs(lease: &Lease) -> Vec<Sign> {
    let annotations = lease.annotations().iter().filter(|(name, _)| name.starts_with(SIGN));
    annotations.filter_map(|(_, text)| read(text)).collect()
}

fn read(text: &str) -> Option<Sign> {
    let sign: serde_json::Value = serde_json::from_str(text).ok()?;
    let word = |field: &str| sign[field].as_str().map(str::to_owned);
    Some(Sign {
        name: word("name")?,
        address: word("address")?,
        renewed: word("renewed")?,
        lasts: Duration::from_secs(sign["lastsSeconds"].as_u64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(name: &str, renewed: &str) -> Sign {
        let address = format!("http://{name}:1");
        Sign { name: name.to_owned(), address, renewed: renewed.to_owned(), lasts: LASTS }
    }

    fn lease(signs: &[Sign]) -> Lease {
        let annotations = signs.iter().map(|sign| (annotation(&sign.name), write(sign)));
        let others = [("other", "text"), (&annotation("broken"), "text")];
        let others = others.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let metadata =
            ObjectMeta { annotations: Some(annotations.chain(others).collect()), ..ObjectMeta::default() };
        Lease { metadata, spec: None }
    }

    #[test]
    fn signs_are_read_as_they_were_written_and_nothing_else_is() {
        let told = vec![sign("a", "2026-01-02T03:04:05Z"), sign("b", "2026-01-02T03:04:06Z")];
        assert_eq!(signs(&lease(&told)), told);
        assert_eq!(signs(&Lease::default()), []);
    }

    #[test]
    fn who_is_no_longer_told_of_has_left_and_the_long_silent_are_not_heard() {
        let now = Timestamp::now();
        let ago = |seconds: i64| (now - k8s_openapi::jiff::SignedDuration::from_secs(seconds)).to_string();
        let alive = |members: &Members| members.alive(Instant::now()).into_keys().collect::<Vec<_>>();
        let mut members = Members::default();
        let both = lease(&[sign("a", &ago(0)), sign("b", &ago(0)), sign("c", &ago(60))]);
        take(&mut members, "a", Event::InitApply(both));
        assert_eq!(alive(&members), ["a", "b"]);
        take(&mut members, "a", Event::Delete(lease(&[])));
        assert_eq!(alive(&members), ["a", "b"]);
        take(&mut members, "a", Event::Apply(lease(&[])));
        assert_eq!(alive(&members), ["a"]);
    }
}
