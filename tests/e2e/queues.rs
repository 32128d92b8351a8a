//! Queues that are missing for long: an operator that is away, jobs that are forgotten. The client library loses the
//! number of each channel that a missing queue has closed, and a connection has 2,047 of them.

use std::time::{Duration, Instant};

use focus_operator::api::focusjob::QueueType;
use focus_operator::broker::BrokerArgs;
use focus_operator::broker::consume::{Broker, BrokerError, ConsumeMetrics, Look, Subscriber};
use focus_operator::broker::queues;
use futures::StreamExt;
use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::common::broker::{TestBroker, url};
use crate::common::until;

/// More than a connection has channels.
const MANY: usize = 2500;
/// A queue that nobody makes.
const MISSING: &str = "focus.test.nonesuch";

/// The broker as a server has it, and what ends it.
async fn broker() -> (Broker, CancellationToken) {
    let address = BrokerArgs { url: Some(url().into()), ..BrokerArgs::default() }.address().unwrap();
    let gauge = || IntGauge::new("a", "a").unwrap();
    let broker = Broker::new(ConsumeMetrics { connected: gauge(), events: gauge() });
    let stop = CancellationToken::new();
    tokio::spawn(broker.clone().run(address, "focus-test".to_owned(), stop.clone()));
    until("the broker is connected", || async { broker.look(MISSING).await }).await;
    until("the broker is connected", || async { broker.connected().then_some(()) }).await;
    (broker, stop)
}

/// Makes a queue as the operator does; gives its name.
async fn make() -> String {
    let name = format!("focus.test.{:08x}", rand::random::<u32>());
    let connection = lapin::Connection::connect(&url(), Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    queues::declare(&channel, &name, QueueType::Classic).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_found_however_often_others_were_missing() {
    let (broker, stop) = broker().await;
    let found = futures::stream::iter(0..MANY)
        .map(|_| broker.look(MISSING))
        .buffer_unordered(16)
        .fold([0; 2], |[missing, unknown], look| async move {
            assert!(matches!(look, None | Some(Look::Missing)), "{look:?}");
            if look.is_some() { [missing + 1, unknown] } else { [missing, unknown + 1] }
        })
        .await;
    assert!(found[0] > MANY / 2, "{found:?}");
    let name = make().await;
    until("the queue is found", || async { (broker.look(&name).await == Some(Look::Free)).then_some(()) })
        .await;
    TestBroker::connect().await.delete(&name).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_attaches_however_many_others_were_refused() {
    let (broker, stop) = broker().await;
    let name = make().await;
    let links = broker.links();
    let mut refused = 0;
    let begun = Instant::now();
    while refused < MANY {
        assert!(begun.elapsed() < Duration::from_secs(120), "{refused} of {MANY} subscriptions were refused");
        let link = links.borrow().clone();
        let Some(link) = link else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let mut subscriber = Subscriber::new(MISSING, "test", 1).unwrap();
        match subscriber.subscribe(&link).await {
            Err(BrokerError::NoQueue) => refused += 1,
            // The connection is being made anew.
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    let subscription = until("a consumer is attached", || async {
        let link = links.borrow().clone()?;
        Subscriber::new(&name, "test", 1).unwrap().subscribe(&link).await.ok()
    })
    .await;
    assert_eq!(broker.look(&name).await, Some(Look::Taken));
    drop(subscription);
    TestBroker::connect().await.delete(&name).await;
    stop.cancel();
}
