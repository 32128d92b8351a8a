//! The store itself, without a server around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use focus_operator::server::cluster::Cluster;
use focus_operator::server::replicas::Replicas;
use focus_operator::server::store::{Claim, JobStore, StoreArgs, StoreError};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use mongodb::bson::{Document, doc};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::database::TestDatabase;
use crate::common::until;

/// A store as a server has it, and its tasks, which end with the test.
pub async fn store(url: &str, name: &str, stop: &CancellationToken) -> (JobStore, JoinSet<()>) {
    let args = StoreArgs {
        mongodb_uri: Some(url.to_owned()),
        mongodb_uri_file: None,
        mongodb_database: name.to_owned(),
        record_days: 30,
        store_timeout_ms: 5000,
    };
    let cluster = Cluster::connect(Some("fibre".to_owned())).await.unwrap();
    let registry = prometheus::Registry::new();
    JobStore::start(&args, &registry, &cluster, &Replicas::alone("a"), || false, stop).await.unwrap()
}

/// The store's own.
pub fn deadline(store: &JobStore) -> tokio::time::Instant {
    store.deadline(tokio::time::Instant::now() + Duration::from_secs(60))
}

pub fn claim(job: &str, window: u16) -> Claim {
    Claim {
        namespace: "fibre".to_owned(),
        job: job.to_owned(),
        window,
        request: Arc::new(json!({"view_type": "WATERFALL"})),
        configured_at: Timestamp::now(),
    }
}

async fn indexes(database: &TestDatabase) -> BTreeMap<String, Document> {
    let mut cursor = database.jobs().list_indexes().await.unwrap();
    let mut found = BTreeMap::new();
    while cursor.advance().await.unwrap() {
        let index = cursor.deserialize_current().unwrap();
        let described = mongodb::bson::serialize_to_document(&index).unwrap();
        found.insert(described.get_str("name").unwrap().to_owned(), described);
    }
    found
}

pub async fn indexes_are_made_once_and_again() {
    let database = TestDatabase::new().await;
    let stop = CancellationToken::new();
    // The second finds them made.
    for _ in 0..2 {
        let (store, _tasks) = store(&database.url, &database.name, &stop).await;
        until("the store is reached", || async {
            let claim = claim(&format!("0-{}", rand::random::<u32>()), 0);
            let outcome = store.claim(&claim, deadline(&store)).await;
            matches!(outcome, Ok(()) | Err(StoreError::WindowTaken)).then_some(())
        })
        .await;
    }
    let indexes = indexes(&database).await;
    let names: Vec<&str> = indexes.keys().map(String::as_str).collect();
    assert_eq!(names, ["_id_", "expire", "live_window", "open", "recent", "slow_consumers"]);
    let expire = &indexes["expire"];
    assert_eq!(expire.get_document("key").ok(), Some(&doc! { "expireAt": 1 }));
    assert!(
        expire.get_i32("expireAfterSeconds").ok() == Some(0)
            || expire.get_i64("expireAfterSeconds").ok() == Some(0)
    );
    assert_eq!(indexes["live_window"].get_bool("unique").ok(), Some(true));
    stop.cancel();
    database.drop().await;
}

pub async fn each_window_goes_to_one_of_many_who_claim_it_at_once() {
    let database = TestDatabase::new().await;
    let stop = CancellationToken::new();
    let replicas = join_all((0..3).map(|_| store(&database.url, &database.name, &stop))).await;
    for (n, (store, _)) in replicas.iter().enumerate() {
        let first = claim(&format!("first-{n}"), 100 + u16::try_from(n).unwrap());
        until("the store is reached", || async { store.claim(&first, deadline(store)).await.ok() }).await;
    }
    let claims: Vec<(usize, Claim)> = (0..30_u16)
        .flat_map(|window| (0..3).map(move |n| (n, claim(&format!("{window}-{n}"), window))))
        .collect();
    let outcomes = join_all(claims.iter().map(|(n, claim)| {
        let store = &replicas[*n].0;
        async move { (claim.window, store.claim(claim, deadline(store)).await) }
    }))
    .await;
    for window in 0..30 {
        let of_window: Vec<_> =
            outcomes.iter().filter(|(w, _)| *w == window).map(|(_, outcome)| outcome).collect();
        let taken = of_window.iter().filter(|o| **o == &Err(StoreError::WindowTaken)).count();
        let given = of_window.iter().filter(|o| o.is_ok()).count();
        assert_eq!((given, taken), (1, 2), "window {window}: {of_window:?}");
    }
    let again = claim("first-0", 200);
    assert_eq!(replicas[0].0.claim(&again, deadline(&replicas[0].0)).await, Err(StoreError::IdTaken));
    stop.cancel();
    database.drop().await;
}

/// What is stored after the request was given up is taken back.
pub async fn a_claim_waits_no_longer_than_it_may() {
    let database = TestDatabase::new().await;
    let stop = CancellationToken::new();
    let (store, _tasks) = store(&database.url, &database.name, &stop).await;
    let first = claim("0-1", 0);
    until("the store is reached", || async { store.claim(&first, deadline(&store)).await.ok() }).await;
    let late = claim("1-1", 1);
    let begun = Instant::now();
    // A deadline that has passed: the database, however fast, cannot answer before it.
    let outcome = store.claim(&late, tokio::time::Instant::now() - Duration::from_secs(1)).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(..))), "{outcome:?}");
    // The driver's own time-outs are 30 s.
    assert!(begun.elapsed() < Duration::from_secs(5));
    until("the late record is taken back and its window free", || async {
        store.claim(&claim("1-2", 1), deadline(&store)).await.ok()
    })
    .await;
    until("the late record is gone", || async {
        database.record("fibre", "1-1").await.is_none().then_some(())
    })
    .await;
    assert!(database.record("fibre", "1-2").await.is_some());
    stop.cancel();
    database.drop().await;
}
