//! What the API server and the database need for the bare thing, all the while that a benchmark runs.

use std::time::Duration;

use anyhow::Context;
use mongodb::bson::doc;
use mongodb::{Client, Collection, Database, bson::Document};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::broker::address::Secret;
use crate::probe::cluster::Cluster;
use crate::probe::load::setup::create_floor;
use crate::probe::report::{Report, Row};

/// Pause between two samples.
const PAUSE: Duration = Duration::from_millis(250);
/// How long one call of the database may take.
const CALL: Duration = Duration::from_secs(10);

/// The floor, which is measured until it is finished.
pub struct Floor {
    stop: CancellationToken,
    creates: JoinHandle<anyhow::Result<Vec<f64>>>,
    inserts: Option<JoinHandle<anyhow::Result<Vec<f64>>>>,
}

impl Floor {
    /// Begins.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn start(cluster: &Cluster, database: Option<&Secret>) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let inserts = match database {
            Some(uri) => Some(tokio::spawn(insert(Scratch::open(uri).await?, stop.clone()))),
            None => None,
        };
        let creates = tokio::spawn(create(cluster.clone(), stop.clone()));
        Ok(Self { stop, creates, inserts })
    }

    /// Ends, and enters what was found.
    pub async fn finish(self, report: &mut Report) {
        self.stop.cancel();
        let mut enter = |name: &str, found: Result<anyhow::Result<Vec<f64>>, _>| match found
            .map_err(anyhow::Error::from)
            .and_then(|samples| samples)
        {
            Ok(samples) => report.floor.push(Row::new(name, samples)),
            Err(error) => report.notes.push(format!("no floor of {name}: {error:#}")),
        };
        enter("bare ConfigMap: create -> answer", self.creates.await);
        if let Some(inserts) = self.inserts {
            enter("bare document: insert -> answer", inserts.await);
        }
    }
}

async fn create(cluster: Cluster, stop: CancellationToken) -> anyhow::Result<Vec<f64>> {
    let (mut samples, mut ticks) = (Vec::new(), interval(PAUSE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        samples.extend(create_floor(&cluster, 1).await?);
    }
    Ok(samples)
}

async fn insert(scratch: Scratch, stop: CancellationToken) -> anyhow::Result<Vec<f64>> {
    let (mut samples, mut ticks) = (Vec::new(), interval(PAUSE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outcome = Ok(());
    while outcome.is_ok() && stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let start = Instant::now();
        let insert = scratch.collection.insert_one(doc! {"window": 1, "live": true});
        outcome = call("inserting a bare document", insert.into_future()).await;
        samples.extend(outcome.is_ok().then(|| start.elapsed().as_secs_f64()));
    }
    call("dropping the floor's database", scratch.database.drop().into_future()).await?;
    outcome.map(|()| samples)
}

/// A database of the floor's own.
struct Scratch {
    database: Database,
    collection: Collection<Document>,
}

impl Scratch {
    async fn open(uri: &Secret) -> anyhow::Result<Self> {
        // The driver's words may repeat the address, which may hold a password.
        let client =
            Client::with_uri_str(uri.expose()).await.ok().context("--mongodb-uri is no such address")?;
        let database = client.database(&format!("focus-bench-{:08x}", rand::random::<u32>()));
        let collection = database.collection("floor");
        call("inserting a first document", collection.insert_one(doc! {"window": 0}).into_future()).await?;
        Ok(Self { database, collection })
    }
}

async fn call<T>(
    what: &'static str,
    call: impl Future<Output = mongodb::error::Result<T>>,
) -> anyhow::Result<()> {
    let answer = timeout(CALL, call).await.with_context(|| format!("{what}: no answer in 10 s"))?;
    answer.map(drop).context(what)
}
