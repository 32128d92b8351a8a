//! `GET /stream/{job_id}`: the lines of a job for browsers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{OriginalUri, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::future::BoxFuture;
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::time::{Instant, Interval, interval, timeout};

use super::fan::{Event, Reader};
use super::open::{self, Ask, Lines, Refusal, WAIT};
use super::relay::{Told, Upstream};
use super::{ending, metadata, relay};
use crate::server::answer;
use crate::server::configure::Server;
use crate::server::error::ApiError;
use crate::server::forward::FORWARDED;
use crate::server::job::{Awaited, Job};
use crate::server::metrics::ReaderKind;
use crate::server::routes::extract;
use crate::server::wait::parse_wait;

/// Largest message that a client may send: it has nothing to say.
const MAX_MESSAGE: usize = 4 << 10;
/// How often a client is asked whether it lives.
const PING: Duration = Duration::from_secs(20);
/// A client that has said nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(90);
/// Longest time for one message; a slower client is let go.
const SEND: Duration = Duration::from_secs(30);

/// What the query says.
#[derive(serde::Deserialize)]
pub struct StreamQuery {
    last: Option<String>,
    wait: Option<String>,
}

/// The client is gone.
struct Gone;

/// Answers the upgrade. The job must be known; its consumer is awaited afterwards, for a browser cannot read a
/// refusal.
///
/// # Errors
/// 400 for a request that is no upgrade or has bad parameters, 404 for an unknown job.
pub async fn handle(
    State(server): State<Arc<Server>>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let (id, query) = (extract::path(id), extract::query(query)?);
    let earlier = metadata::parse_last(query.last.as_deref()).map_err(ApiError::Rule)?;
    let wait = query.wait.map(|wait| parse_wait(Some(&wait))).transpose().map_err(ApiError::Rule)?;
    let upgrade = upgrade.map_err(|rejection| ApiError::Rule(rejection.body_text()))?;
    let job = open::find(&server, Some(&id)).map_err(|refusal| ApiError::NoConsumer(refusal.into()))?;
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    let ask = Ask { kind: ReaderKind::WebSocket, earlier, wait: wait.unwrap_or(WAIT) };
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(upgrade
        .on_upgrade(move |socket| async move { stream(server, job, ask, (path, headers), socket).await }))
}

async fn stream(server: Arc<Server>, job: Arc<Job>, ask: Ask, said: (String, HeaderMap), socket: WebSocket) {
    let (sink, mut from_client) = socket.split();
    let mut client = Client(sink);
    let silent_since = async {
        let mut heard = Instant::now();
        loop {
            match timeout(SILENCE.saturating_sub(heard.elapsed()), from_client.next()).await {
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return,
                Ok(Some(Ok(_))) => heard = Instant::now(),
            }
        }
    };
    let passed_on = said.1.contains_key(FORWARDED);
    let relay = |address, _| -> BoxFuture<'static, _> {
        Box::pin(relay::websocket(Arc::clone(&server), address, job.name.clone(), said.clone()))
    };
    let told = async {
        // The reader keeps its place until the client has been told all.
        match open::open_anywhere(&server, &job, ask, passed_on, relay).await {
            Ok(Lines::Here(mut reader, source)) => {
                let metadata = answer::metadata(&job.name, &job.spec, &source, &server.stream);
                client.text(json!(metadata).to_string()).await?;
                let why = client.lines(&mut reader).await?;
                client.last(&why).await
            }
            Ok(Lines::There(mut upstream)) => client.relayed(&mut upstream).await,
            Err(why) => client.last(&why).await,
        }
    };
    tokio::select! {
        () = silent_since => {}
        _ = told => {}
    }
}

/// What is sent to one client.
struct Client(SplitSink<WebSocket, Message>);

impl Client {
    /// Each line, until there are no more; says why.
    async fn lines(&mut self, reader: &mut Reader) -> Result<Awaited, Gone> {
        let mut ping = interval(PING);
        loop {
            match self.while_pinged(&mut ping, reader.next()).await? {
                Event::Line { item, lost } => {
                    if lost > 0 {
                        self.text(json!({ "lost": lost }).to_string()).await?;
                    }
                    self.send(Message::Binary(item.whole())).await?;
                }
                Event::End(why) => return Ok(why),
            }
        }
    }

    /// Each message of another replica, to the last.
    async fn relayed(&mut self, upstream: &mut Upstream) -> Result<(), Gone> {
        let mut ping = interval(PING);
        loop {
            match self.while_pinged(&mut ping, upstream.next()).await? {
                Told::Message(message) => self.send(message).await?,
                Told::Last(message) => {
                    self.send(message).await?;
                    return self.send(Message::Close(None)).await;
                }
                Told::Gone(why) => return self.last(&why).await,
            }
        }
    }

    /// What `news` brings; meanwhile the client is asked whether it lives.
    async fn while_pinged<T>(
        &mut self,
        ping: &mut Interval,
        news: impl Future<Output = T>,
    ) -> Result<T, Gone> {
        tokio::pin!(news);
        loop {
            tokio::select! {
                news = &mut news => return Ok(news),
                _ = ping.tick() => self.send(Message::Ping(Default::default())).await?,
            }
        }
    }

    /// Why there is no more, and the end of the connection.
    async fn last(&mut self, why: &Awaited) -> Result<(), Gone> {
        self.text(ending::json(why).to_string()).await?;
        self.send(Message::Close(None)).await
    }

    async fn text(&mut self, text: String) -> Result<(), Gone> {
        self.send(Message::Text(Utf8Bytes::from(text))).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        timeout(SEND, self.0.send(message)).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }
}

impl From<Refusal> for Awaited {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoLines(why) => why,
            Refusal::Unnamed(_) | Refusal::Full => Self::new("server", "TooManyReaders", refusal.to_string()),
        }
    }
}
