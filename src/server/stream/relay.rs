//! Streams of jobs whose consumer is in another replica: passed on as they come from there. What is slow here makes
//! that replica's reader fall behind, which drops and counts as for any other reader. A relay ends with that replica:
//! who reads connects again, as it must when this one ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Message;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use bytes::Buf;
use futures::{Stream, StreamExt, stream};
use prost::Message as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};
use tower::Service;

use super::codec::Payload;
use super::{grpc, open};
use crate::server::configure::Server;
use crate::server::error::PHASE;
use crate::server::forward::{FORWARDED, FORWARDED_NAME, Owner, unreachable};
use crate::server::job::{Awaited, REPLICA};
use crate::server::security::Connection;
use crate::wire::panda::StreamDataRequest;

/// How long the other replica may take for its first word beyond the time that the reader waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Largest message, bytes: as large as any that a replica sends.
const MAX_MESSAGE: usize = 64 << 20;
/// Bytes that may be on the way from the other replica, of one stream: what waits here for a slow reader is not in its
/// place among the lines.
const AHEAD: u32 = 256 << 10;
/// The call.
const STREAM_DATA: &str = "/pandadatastream.DataStreamService/StreamData";
/// How a WebSocket's last message begins.
const LAST: &str = r#"{"ended":"#;
/// A phase that only the replica which says it is in: it takes its leave.
const STOPPING: &str = "server";

/// The stream of `job` from the replica at `address`, for a reader with this `metadata`, who waits for its consumer.
///
/// # Errors
/// What that replica refuses; None: it is gone, or has given the job away.
pub async fn grpc(
    server: Arc<Server>,
    address: String,
    job: String,
    (metadata, request): (MetadataMap, StreamDataRequest),
    wait: Duration,
) -> Result<Relay, Option<Status>> {
    let place = open::place(&server).map_err(|refusal| Some(refusal.into()))?;
    let mut owner = Owner::new(Arc::clone(&server), job, address);
    let address: Uri = owner.address().parse().map_err(|error| owner.gone(&error))?;
    let endpoint = Endpoint::from(without_tls(&address).ok_or_else(|| owner.gone(&"it has no address"))?)
        .initial_stream_window_size(AHEAD)
        .initial_connection_window_size(AHEAD);
    let dialer = server.dialer.clone();
    let dial = tower::service_fn(move |_| dialer.clone().call(address.clone()));
    let channel = endpoint.connect_with_connector(dial).await;
    let channel = channel.map_err(|error| owner.gone(&error))?;
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
    client.ready().await.map_err(|error| owner.gone(&error))?;
    let mut request = Request::new(request);
    *request.metadata_mut() = passed_on(&server, owner.job(), &metadata, wait).map_err(Some)?;
    let path = axum::http::uri::PathAndQuery::from_static(STREAM_DATA);
    let asked = timeout(wait + ANSWER_WITHIN, client.server_streaming(request, path, AsTheyCome));
    let answer = tokio::select! {
        answer = asked => answer.map_err(|late| owner.gone(&late))?,
        why = owner.lost() => return Err(owner.gone(&why.reason)),
    };
    match answer {
        Ok(answer) => Ok(Relay { messages: Some(answer.into_inner()), owner, _place: place }),
        Err(status) if is_gone(&status) => Err(owner.gone(&status)),
        Err(status) => Err(Some(status)),
    }
}

/// The address as tonic is told it: over an `https` one it would want to speak TLS itself, on top of the dialer's.
fn without_tls(address: &Uri) -> Option<Uri> {
    Uri::builder().scheme("http").authority(address.authority()?.clone()).path_and_query("/").build().ok()
}

/// What a reader says, as it is said to another replica.
fn passed_on(
    server: &Server,
    job: &str,
    metadata: &MetadataMap,
    wait: Duration,
) -> Result<MetadataMap, Status> {
    let mut passed_on = MetadataMap::new();
    for name in ["authorization", "last"] {
        if let Some(value) = metadata.get(name) {
            passed_on.insert(name, value.clone());
        }
    }
    let wait = format!("{}ms", wait.as_millis());
    for (name, text) in
        [(FORWARDED_NAME, server.shared.replicas.own()), ("job-id", job), ("wait", wait.as_str())]
    {
        let value = MetadataValue::try_from(text).map_err(|_| Status::internal("a name is not ASCII"))?;
        passed_on.insert(name, value);
    }
    Ok(passed_on)
}

/// Whether it is not the job's end that `status` tells of but the replica's, before a stream has begun.
fn is_gone(status: &Status) -> bool {
    match status.metadata().get(PHASE.as_str()) {
        Some(phase) => phase == REPLICA || phase == STOPPING,
        // Made here, of a connection that broke.
        None => std::error::Error::source(status).is_some() || status.code() == Code::Unknown,
    }
}

/// A gRPC stream of another replica.
pub struct Relay {
    messages: Option<Streaming<Payload>>,
    owner: Owner,
    _place: OwnedSemaphorePermit,
}

impl Relay {
    /// Its messages, and at last the status that ends it.
    pub fn messages(self) -> impl Stream<Item = Result<Payload, Status>> {
        stream::unfold(self, |mut relay| async move {
            let next = relay.next().await?;
            if next.is_err() {
                relay.messages = None;
            }
            Some((next, relay))
        })
    }

    async fn next(&mut self) -> Option<Result<Payload, Status>> {
        let messages = self.messages.as_mut()?;
        let next = tokio::select! {
            next = messages.message() => next,
            why = self.owner.lost() => return Some(Err(grpc::status(&why, None))),
        };
        Some(match next {
            Ok(Some(payload)) => Ok(payload),
            Ok(None) => {
                let trailers = messages.trailers().await.ok().flatten().unwrap_or_default();
                Err(last_word(Status::from_header_map(&trailers.into_headers())))
            }
            Err(status) => Err(last_word(Some(status))),
        })
    }
}

/// The status of another replica; where that has not said why it ends, that it is gone.
fn last_word(status: Option<Status>) -> Status {
    let told = status.filter(|status| status.metadata().contains_key(PHASE.as_str()));
    told.unwrap_or_else(|| grpc::status(&unreachable(), None))
}

/// The WebSocket of the replica at `address` for `path`, with the client's own token.
///
/// # Errors
/// None: that replica is gone, or does not take it.
pub async fn websocket(
    server: Arc<Server>,
    address: String,
    job: String,
    (path, headers): (String, HeaderMap),
) -> Result<Upstream, Option<Awaited>> {
    let place = open::place(&server).map_err(|refusal| Some(refusal.into()))?;
    let owner = Owner::new(Arc::clone(&server), job, address);
    let address: Uri = owner.address().parse().map_err(|error| owner.gone(&error))?;
    let url = format!("ws{}{path}", owner.address().strip_prefix("http").unwrap_or_default());
    let mut request = url.into_client_request().map_err(|error| owner.gone(&error))?;
    let own = HeaderValue::from_str(server.shared.replicas.own()).map_err(|error| owner.gone(&error))?;
    request.headers_mut().insert(FORWARDED, own);
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
    }
    let connection = server.dialer.dial(address).await.map_err(|error| owner.gone(&error))?;
    match timeout(ANSWER_WITHIN, client_async(request, connection)).await {
        Ok(Ok((socket, _))) => Ok(Upstream { socket, owner, _place: place }),
        Ok(Err(error)) => Err(owner.gone(&error)),
        Err(late) => Err(owner.gone(&late)),
    }
}

/// A WebSocket of another replica.
pub struct Upstream {
    socket: WebSocketStream<Connection>,
    owner: Owner,
    _place: OwnedSemaphorePermit,
}

/// What another replica tells a WebSocket's client.
pub enum Told {
    /// A message.
    Message(Message),
    /// The last one.
    Last(Message),
    /// That it is gone.
    Gone(Awaited),
}

impl Upstream {
    /// The next thing that it tells. Nothing is lost when this is dropped before it is done.
    pub async fn next(&mut self) -> Told {
        loop {
            let next = tokio::select! {
                next = self.socket.next() => next,
                why = self.owner.lost() => return Told::Gone(why),
            };
            return match next {
                Some(Ok(tungstenite::Message::Text(text))) => {
                    let message = Message::Text(text.as_str().into());
                    if text.starts_with(LAST) { Told::Last(message) } else { Told::Message(message) }
                }
                Some(Ok(tungstenite::Message::Binary(bytes))) => Told::Message(Message::Binary(bytes)),
                // Meant for this replica, and answered by the library.
                Some(Ok(
                    tungstenite::Message::Ping(_)
                    | tungstenite::Message::Pong(_)
                    | tungstenite::Message::Frame(_),
                )) => continue,
                Some(Ok(tungstenite::Message::Close(_)) | Err(_)) | None => Told::Gone(unreachable()),
            };
        }
    }
}

/// Writes requests as prost does and reads messages as they are.
struct AsTheyCome;

impl Codec for AsTheyCome {
    type Encode = StreamDataRequest;
    type Decode = Payload;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsTheyCome {
    type Item = StreamDataRequest;
    type Error = Status;

    fn encode(&mut self, item: StreamDataRequest, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for AsTheyCome {
    type Item = Payload;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Payload>, Status> {
        let whole = buffer.remaining();
        // How many rows were lost is in the message itself.
        Ok(Some(Payload { message: buffer.copy_to_bytes(whole), lost: 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_is_gone_is_told_from_a_job_that_is() {
        let told = |phase: &'static str| grpc::status(&Awaited::new(phase, "Reason", "words"), None);
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        for (status, gone) in [
            (told("replica"), true),
            (told("server"), true),
            (told("finished"), false),
            (told("queue"), false),
            (Status::invalid_argument("wait must be"), false),
            (Status::not_found("no stream 3"), false),
            (broken, true),
        ] {
            assert_eq!(is_gone(&status), gone, "{status}");
        }
    }

    #[test]
    fn the_last_word_is_the_other_replica_s_or_that_it_is_gone() {
        let why = Awaited::new("finished", "Completed", "the end");
        let mut trailers = axum::http::HeaderMap::new();
        grpc::status(&why, Some(7)).add_header(&mut trailers).expect("trailers");
        let told = last_word(Status::from_header_map(&trailers));
        assert_eq!((told.code(), told.message()), (Code::Ok, "Completed: the end"));
        assert_eq!(told.metadata().get("focus-lost-rows").and_then(|v| v.to_str().ok()), Some("7"));
        for silent in [None, Some(Status::internal("h2"))] {
            let told = last_word(silent);
            assert_eq!(told.code(), Code::Unavailable);
            assert_eq!(
                told.metadata().get("focus-reason").and_then(|v| v.to_str().ok()),
                Some("ReplicaUnreachable")
            );
        }
    }
}
