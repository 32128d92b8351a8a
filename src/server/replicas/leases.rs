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
        let mut heard = Hearing::new(&self.own);
        let config =
            watcher::Config::default().fields(&format!("metadata.name={LEASE}")).timeout(WATCH_SECONDS);
        let mut signs = Box::pin(watcher(self.api.clone(), config).default_backoff());
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let lapse = heard.members.next_lapse(Instant::now());
            tokio::select! {
                event = signs.next() => match event {
                    Some(Ok(event)) => heard.event(event),
                    Some(Err(error)) => warn!(%error, "watching the Lease of the replicas; trying again"),
                    None => return,
                },
                _ = renew.tick() => self.renew(&mut heard).await,
                // Whoever takes over does not wait for the time of its own next sign.
                () = sleep_until(lapse) => self.renew(&mut heard).await,
                () = stop.cancelled() => return self.leave(&alive).await,
            }
            let now = heard.alive();
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
    async fn renew(&self, heard: &mut Hearing<'_>) {
        let asked = Instant::now();
        let sign = Sign {
            name: self.own.clone(),
            address: self.address.clone(),
            renewed: Timestamp::now().to_string(),
            lasts: LASTS,
        };
        match tokio::time::timeout(ANSWER_WITHIN, self.apply(Some(&sign))).await {
            // It is good from when it was asked for, not from when the answer came.
            Ok(Ok(lease)) => heard.answered(sign, asked, &lease),
            Ok(Err(error)) => warn!(%error, "giving a sign of life failed; trying again"),
            Err(_) => warn!("giving a sign of life failed: the API server did not answer in time"),
        }
        for name in heard.members.silent(SILENT, asked) {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation(&name): null}}}));
            let params = PatchParams::default();
            let removed = self.api.patch_metadata(LEASE, &params, &patch);
            if matches!(tokio::time::timeout(ANSWER_WITHIN, removed).await, Ok(Ok(_))) {
                info!(name, "removed the sign of a replica that has been silent for long");
            }
            heard.members.left(&name);
        }
    }

    async fn leave(&self, alive: &watch::Sender<Alive>) {
        if !matches!(tokio::time::timeout(LEAVE_WITHIN, self.apply(None)).await, Ok(Ok(_))) {
            warn!("could not take leave of the other replicas: they will notice after {} s", LASTS.as_secs());
        }
        alive.send_modify(|alive| {
            alive.remove(&self.own);
        });
    }

    /// Makes `sign` this replica's part of the Lease, which goes with the last of the replicas' pods; gives the whole.
    async fn apply(&self, sign: Option<&Sign>) -> kube::Result<Lease> {
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
        self.api.patch(LEASE, &params, &Patch::Apply(&lease)).await
    }
}

/// What this replica has heard, by its watch and by the answers to its own signs: whichever comes first.
struct Hearing<'a> {
    own: &'a str,
    members: Members,
    /// The newest version of the Lease that was read; None: the next is taken whatever its version.
    version: Option<u64>,
}

impl<'a> Hearing<'a> {
    fn new(own: &'a str) -> Self {
        Self { own, members: Members::default(), version: None }
    }

    /// Takes in that this replica's `sign`, given at `asked`, was taken, with the Lease as it then was: the answer tells
    /// of all, for the watch may have died without a word.
    fn answered(&mut self, sign: Sign, asked: Instant, lease: &Lease) {
        self.members.heard_own(sign, asked);
        self.lease(lease);
    }

    /// Who is alive. Only an API server that answers proves that somebody is silent: the moment that counts is that of
    /// the last answer, so that one which is away leaves all as it was, whoever's sign lapses first.
    fn alive(&self) -> Alive {
        self.members.told_at().map(|at| self.members.alive(at)).unwrap_or_default()
    }

    /// Takes in what the watch tells.
    fn event(&mut self, event: Event<Lease>) {
        match event {
            Event::Apply(lease) | Event::InitApply(lease) => self.lease(&lease),
            // The watch begins anew: the API server may have been taken back to an older state.
            Event::Init => self.version = None,
            // It is made again by whoever lives; a sign that does not come lapses by itself.
            Event::Delete(_) | Event::InitDone => {}
        }
    }

    /// Takes in the whole Lease, unless a newer one has been read: who is missing in an older one has not left.
    fn lease(&mut self, lease: &Lease) {
        let version = lease.resource_version().and_then(|version| version.parse().ok());
        if matches!((version, self.version), (Some(this), Some(newest)) if this < newest) {
            return;
        }
        self.version = version;
        let (now, clock) = (Instant::now(), Timestamp::now());
        let told = signs(lease);
        // What this replica says of itself it knows better.
        self.members.only(|name| name == self.own || told.iter().any(|sign| sign.name == name));
        for sign in told {
            // One that was silent for long already when it was first read is not waited for.
            self.members.heard(sign, now, |sign| is_old(sign, clock));
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
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

    fn ago(seconds: i64) -> String {
        (Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_secs(seconds)).to_string()
    }

    fn alive(heard: &Hearing<'_>) -> Vec<String> {
        heard.members.alive(Instant::now()).into_keys().collect()
    }

    #[test]
    fn who_is_no_longer_told_of_has_left_and_the_long_silent_are_not_heard() {
        let mut heard = Hearing::new("a");
        let both = lease(&[sign("a", &ago(0)), sign("b", &ago(0)), sign("c", &ago(60))]);
        heard.event(Event::InitApply(both));
        assert_eq!(alive(&heard), ["a", "b"]);
        heard.event(Event::Delete(lease(&[])));
        assert_eq!(alive(&heard), ["a", "b"]);
        heard.event(Event::Apply(lease(&[])));
        assert_eq!(alive(&heard), ["a"]);
    }

    #[test]
    fn a_replica_whose_clock_is_a_minute_behind_is_heard_once_its_sign_changes() {
        let mut heard = Hearing::new("a");
        heard.event(Event::InitApply(lease(&[sign("a", &ago(0)), sign("b", &ago(60))])));
        assert_eq!(alive(&heard), ["a"]);
        heard.event(Event::Apply(lease(&[sign("a", &ago(0)), sign("b", &ago(59))])));
        assert_eq!(alive(&heard), ["a", "b"]);
    }

    #[test]
    fn only_an_answer_proves_that_another_is_silent() {
        let start = Instant::now();
        let mut heard = Hearing::new("a");
        let other = sign("b", &ago(0));
        heard.event(Event::InitApply(lease(std::slice::from_ref(&other))));
        assert_eq!(heard.alive(), Alive::new(), "it has not told of itself");
        let names = |heard: &Hearing<'_>| heard.alive().into_keys().collect::<Vec<_>>();
        for second in 0..5 {
            let own = sign("a", &second.to_string());
            let both = lease(&[own.clone(), other.clone()]);
            heard.answered(own, start + Duration::from_secs(second), &both);
            // However late it is now: what was not answered tells nothing.
            assert_eq!(names(&heard), if second < 3 { vec!["a", "b"] } else { vec!["a"] }, "{second}");
        }
    }

    #[test]
    fn the_watch_and_the_answers_to_signs_do_not_undo_each_other() {
        let at = |version: &str, signs: &[Sign]| {
            let mut lease = lease(signs);
            lease.metadata.resource_version = Some(version.to_owned());
            lease
        };
        let (own, other) = (sign("a", &ago(0)), sign("b", &ago(0)));
        let mut heard = Hearing::new("a");
        heard.lease(&at("10", &[own.clone(), other.clone()]));
        heard.event(Event::Apply(at("9", std::slice::from_ref(&own))));
        assert_eq!(alive(&heard), ["a", "b"], "what the watch tells late is not believed");
        heard.event(Event::Apply(at("100", std::slice::from_ref(&own))));
        assert_eq!(alive(&heard), ["a"], "versions are numbers");
        heard.event(Event::Init);
        heard.event(Event::InitApply(at("9", &[own, other])));
        assert_eq!(alive(&heard), ["a", "b"], "a new beginning is believed");
    }
}
