//! Keeps one connection to the broker alive: connects, lends it to a session, and connects again with growing,
//! jittered pauses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::Event;
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::connection::{CLOSE_WITHIN, LiveConnection};
use crate::backoff::Backoff;

/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A session that lasted so long was a good one: the next attempt comes soon.
const GOOD_SESSION: Duration = Duration::from_secs(5);
/// How often a connection is asked whether it lives.
const ALIVE: Duration = Duration::from_secs(1);

/// What is done with a connection.
pub trait Session: Send {
    /// Uses `connection` until it cannot go on, and says why. It is dropped when the connection is lost or the
    /// role stops.
    fn hold(&mut self, connection: Arc<LiveConnection>) -> impl Future<Output = String> + Send;

    /// There is no connection, for the reason given.
    fn lost(&mut self, why: String) -> impl Future<Output = ()> + Send;
}

/// Lends connections to `address`, made under `name`, to `session` until `stop`.
pub async fn keep(address: Address, name: String, mut session: impl Session, stop: CancellationToken) {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    while !stop.is_cancelled() {
        let why = match stop.run_until_cancelled(address.connect(&name)).await {
            None => break,
            Some(Err(error)) => error.to_string(),
            Some(Ok(connection)) => {
                let begun = Instant::now();
                let why = lend(Arc::new(connection), &mut session, &stop).await;
                if begun.elapsed() > GOOD_SESSION {
                    backoff.reset();
                }
                why
            }
        };
        if !stop.is_cancelled() {
            tracing::warn!(connection = name, %why, "the broker is not connected; trying again");
        }
        session.lost(why).await;
        stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await;
    }
}

/// Lends `connection` until the session ends, the connection is lost or `stop`; says which.
async fn lend(
    connection: Arc<LiveConnection>,
    session: &mut impl Session,
    stop: &CancellationToken,
) -> String {
    tokio::select! {
        why = session.hold(connection.clone()) => why,
        why = loss(&connection) => why,
        () = stop.cancelled() => {
            let _ = tokio::time::timeout(CLOSE_WITHIN, connection.close(200, "shutting down".into())).await;
            "shutting down".to_owned()
        }
    }
}

/// Returns when `connection` is lost, with the cause.
async fn loss(connection: &LiveConnection) -> String {
    let mut happenings = Box::pin(connection.events_listener());
    let mut alive = tokio::time::interval(ALIVE);
    loop {
        tokio::select! {
            happening = happenings.next() => match happening {
                Some(Event::Error(error)) if !connection.status().connected() => return error.to_string(),
                Some(Event::ConnectionBlocked(reason)) => tracing::warn!(%reason, "the broker blocks publishers"),
                Some(_) => {}
                None => return "the connection has ended".to_owned(),
            },
            () = connection.closed() => return "its channels' numbers are spent".to_owned(),
            _ = alive.tick() => if !connection.status().connected() {
                return "the connection was lost".to_owned();
            }
        }
    }
}
