//! `GET /stream/{job_id}`: the lines of a job for browsers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::time::{Instant, interval, timeout};

use super::fan::{Event, Reader};
use super::open::{self, Ask, Refusal, WAIT};
use super::{ending, metadata, relay};
use crate::server::answer;
use crate::server::configure::Server;
use crate::server::error::ApiError;
use crate::server::forward::FORWARDED;
use crate::server::job::{Awaited, Job};
use crate::server::metrics::ReaderKind;
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
    Path(id): Path<String>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::Rule(rejection.body_text()))?;
    let earlier = metadata::parse_last(query.last.as_deref()).map_err(ApiError::Rule)?;
    let wait = query.wait.map(|wait| parse_wait(Some(&wait))).transpose().map_err(ApiError::Rule)?;
    let upgrade = upgrade.map_err(|rejection| ApiError::Rule(rejection.body_text()))?;
    let job = open::find(&server, Some(&id)).map_err(|refusal| ApiError::NoConsumer(in_words(refusal)))?;
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    if let Some(address) = relay::elsewhere(&server, &job.name, headers.contains_key(FORWARDED)) {
        let place = relay::place(&server).map_err(|refusal| ApiError::NoConsumer(in_words(refusal)))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let upstream = relay::connect(&server, &address, path, &headers).await?;
        return Ok(upgrade.on_upgrade(move |socket| relay::websocket(upstream, socket, place)));
    }
    let ask = Ask { kind: ReaderKind::WebSocket, earlier, wait: wait.unwrap_or(WAIT) };
    Ok(upgrade.on_upgrade(move |socket| async move { stream(server, job, ask, socket).await }))
}

async fn stream(server: Arc<Server>, job: Arc<Job>, ask: Ask, socket: WebSocket) {
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
    let told = async {
        // The reader keeps its place until the client has been told all.
        let (why, _reader) = match open::open(&server, job, ask).await {
            Ok((mut reader, source)) => {
                let job = reader.job();
                let metadata = answer::metadata(&job.name, &job.spec, &source, &server.stream);
                client.text(json!(metadata).to_string()).await?;
                (client.lines(&mut reader).await?, Some(reader))
            }
            Err(refusal) => (in_words(refusal), None),
        };
        client.text(ending::json(&why).to_string()).await?;
        client.send(Message::Close(None)).await
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
            let event = tokio::select! {
                event = reader.next() => event,
                _ = ping.tick() => {
                    self.send(Message::Ping(Default::default())).await?;
                    continue;
                }
            };
            match event {
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

    async fn text(&mut self, text: String) -> Result<(), Gone> {
        self.send(Message::Text(Utf8Bytes::from(text))).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        timeout(SEND, self.0.send(message)).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }
}

fn in_words(refusal: Refusal) -> Awaited {
    match refusal {
        Refusal::NoLines(why) => why,
        Refusal::Unnamed(_) | Refusal::Full => Awaited::new("server", "TooManyReaders", refusal.to_string()),
    }
}
