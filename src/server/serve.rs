//! Serves HTTP on a listener's connections: bounded in number, and in the time that each may take to ask.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::http::Request;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::{debug, warn};

use super::SHUTDOWN;
use super::security::{Connection, Listener};
use super::stream::open::MAX_READERS;

/// The bounds of one port.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections at once; further ones wait in the kernel.
    connections: usize,
    /// Longest time to the head of the first request.
    first: Duration,
    /// Longest time to the head of each further one, or without any.
    head: Duration,
}

/// Those of every port.
const LIMITS: Limits =
    Limits { connections: 8192, first: Duration::from_secs(10), head: Duration::from_secs(30) };
/// A connection of HTTP/2 that is silent for so long is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Longest time for the answer to that.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);

/// Breaks the connection that a request came on; in the extensions of each.
#[derive(Clone)]
pub struct End(pub CancellationToken);

/// Serves `router` until `stop`, and then until the last answer or the end of the time for it.
pub async fn serve(listener: Listener, router: Router, stop: CancellationToken) {
    serve_within(LIMITS, listener, router, stop).await;
}

async fn serve_within(limits: Limits, mut listener: Listener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (connection, place) = accept(&mut listener, &places) => {
                connections.spawn(answer(limits, connection, router.clone(), stop.clone(), place));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    let told = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN, told).await.is_err() {
        warn!("shutting down with requests unanswered");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &mut Listener,
    places: &Arc<Semaphore>,
) -> (Connection, Option<OwnedSemaphorePermit>) {
    // It is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (connection, _) = axum::serve::Listener::accept(listener).await;
    (connection, place)
}

/// Answers the requests of one connection.
async fn answer(
    limits: Limits,
    connection: Connection,
    router: Router,
    stop: CancellationToken,
    _place: Option<OwnedSemaphorePermit>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    // Without copies in between, what an answer holds is held until it has been sent.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).writev(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_READERS)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER);
    let (asked, end) = (CancellationToken::new(), CancellationToken::new());
    let service = Named { router, asked: asked.clone(), end: End(end.clone()) };
    let io = TokioIo::new(connection);
    let mut serving = pin!(builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service)));
    let silent = async {
        if tokio::time::timeout(limits.first, asked.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let mut silent = pin!(silent);
    let mut told = false;
    loop {
        tokio::select! {
            served = serving.as_mut() => {
                if let Err(error) = served {
                    debug!(%error, "a connection has ended");
                }
                return;
            }
            () = &mut silent => return debug!("a connection is closed that asked for nothing"),
            () = end.cancelled() => return debug!("a connection is closed whose client does not take its answer"),
            () = stop.cancelled(), if !told => {
                told = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The router, which is told by which connection it is asked.
#[derive(Clone)]
struct Named {
    router: Router,
    /// Cancelled at the first request.
    asked: CancellationToken,
    end: End,
}

impl<B> Service<Request<B>> for Named
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> RouteFuture<Infallible> {
        self.asked.cancel();
        request.extensions_mut().insert(self.end.clone());
        self.router.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::time::Instant;

    use axum::Extension;
    use axum::routing::get;
    use prometheus::IntCounter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use crate::server::answer_room::{Room, held};

    const SOON: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(60);
    const TEST: Limits = Limits { connections: 1, first: SOON, head: Duration::from_millis(300) };

    async fn started(limits: Limits, router: Router) -> (SocketAddr, CancellationToken) {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        let failed = IntCounter::new("failed", "Failed.").expect("a counter");
        let stop = CancellationToken::new();
        tokio::spawn(serve_within(limits, Listener::new(tcp, None, failed), router, stop.clone()));
        (address, stop)
    }

    fn word() -> Router {
        Router::new().route("/", get(|| async { "word" }))
    }

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// How long the server keeps the connection on which it is told `said`.
    async fn kept(address: SocketAddr, said: &[u8]) -> Duration {
        let started = Instant::now();
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(said).await.expect("sent");
        let mut told = Vec::new();
        let read = stream.read_to_end(&mut told);
        let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("the server lets go of it");
        started.elapsed()
    }

    #[tokio::test]
    async fn who_does_not_ask_is_let_go() {
        let (address, _stop) = started(TEST, word()).await;
        for said in [&b""[..], b"GET / HT", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            assert!(kept(address, said).await >= SOON / 2, "{said:?}");
        }
        // Who has asked may ask again, but not wait for ever.
        let (address, _stop) = started(Limits { first: LONG, ..TEST }, word()).await;
        let mut two = ASK.to_vec();
        two.extend_from_slice(b"GET / HT");
        for said in [ASK, &two] {
            assert!(kept(address, said).await >= TEST.head / 2, "{said:?}");
        }
    }

    #[tokio::test]
    async fn one_connection_too_many_waits() {
        let limits = Limits { first: LONG, ..TEST };
        let (address, stop) = started(limits, word()).await;
        let first = TcpStream::connect(address).await.expect("a connection");
        let mut second = TcpStream::connect(address).await.expect("a connection");
        second.write_all(ASK).await.expect("sent");
        let mut byte = [0];
        assert!(tokio::time::timeout(SOON, second.read_exact(&mut byte)).await.is_err(), "it is answered");
        drop(first);
        let answered = tokio::time::timeout(Duration::from_secs(20), second.read_exact(&mut byte)).await;
        assert!(matches!(answered, Ok(Ok(_))), "it is not answered");
        stop.cancel();
    }

    #[tokio::test]
    async fn an_answer_is_held_until_it_is_taken_or_its_time_is_over() {
        const LARGE: usize = 32 << 20;
        let room = Room::new(LARGE);
        let answer = |room: Room, within: Duration| {
            get(move |Extension(end): Extension<End>| async move {
                let part = room.take(LARGE).await.expect("room");
                held(vec![b'x'; LARGE], part, Some(end), within)
            })
        };
        let router = Router::new()
            .route("/", answer(room.clone(), Duration::from_secs(2)))
            .route("/long", answer(room.clone(), LONG));
        let (address, _stop) = started(Limits { connections: 9, first: LONG, head: LONG }, router).await;
        let mut idle = TcpStream::connect(address).await.expect("a connection");
        idle.write_all(ASK).await.expect("sent");
        idle.read_exact(&mut [0]).await.expect("it begins to be answered");
        assert_eq!(room.left(), 0, "it is let go of before it is taken");
        let started = Instant::now();
        while room.left() == 0 {
            assert!(started.elapsed() < Duration::from_secs(20), "it is kept for ever");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Its client finds a connection that broke.
        let rest = idle.read_to_end(&mut Vec::new()).await.unwrap_or_default();
        assert!(rest < LARGE, "{rest}");

        let mut fast = TcpStream::connect(address).await.expect("a connection");
        fast.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sent");
        let mut answer = Vec::new();
        fast.read_to_end(&mut answer).await.expect("an answer");
        assert!(answer.len() > LARGE && answer.starts_with(b"HTTP/1.1 200"));
        let text = String::from_utf8_lossy(&answer[..200]).to_lowercase();
        assert!(text.contains(&format!("content-length: {LARGE}")), "{text}");
    }
}
