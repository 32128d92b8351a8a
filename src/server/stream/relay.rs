//! Streams of jobs whose consumer is in another replica: passed on as they come from there. What is slow here makes
//! that replica's reader fall behind, which drops and counts as for any other reader.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Buf;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

use super::codec::Payload;
use crate::server::configure::Server;
use crate::server::error::ApiError;
use crate::server::forward::{FORWARDED, FORWARDED_NAME, unreachable};
use crate::server::replicas::Place;
use crate::wire::panda::StreamDataRequest;

/// How long the other replica may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Longest time for one message to a browser; a slower one is let go.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// Largest message, bytes: as large as any that a replica sends.
const MAX_MESSAGE: usize = 64 << 20;
/// The call.
const STREAM_DATA: &str = "/pandadatastream.DataStreamService/StreamData";

/// A connection to another replica's WebSocket.
pub type Upstream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The address of the replica that has the consumer of the job of this id, when it is another one. A request that
/// was passed on already is answered here.
pub fn elsewhere(server: &Server, id: &str, passed_on: bool) -> Option<String> {
    match server.jobs.place(id)? {
        Place::There(address) if !passed_on => Some(address),
        Place::There(_) | Place::Here | Place::Nowhere => None,
    }
}

/// The stream of `job` from the replica at `address`; `place` is kept as long as it lasts.
///
/// # Errors
/// What that replica answers, or that it does not.
pub async fn grpc(
    server: &Server,
    address: String,
    job: &str,
    request: Request<StreamDataRequest>,
    place: OwnedSemaphorePermit,
) -> Result<Response<BoxStream<'static, Result<Payload, Status>>>, Status> {
    let gone = |error: &dyn std::fmt::Display| {
        tracing::debug!(job, %error, "the replica with the job's consumer does not answer");
        Status::unavailable(unreachable().message)
    };
    let endpoint = Endpoint::from_shared(address).map_err(|error| gone(&error))?;
    let channel = endpoint.connect_timeout(CONNECT_WITHIN).connect().await.map_err(|error| gone(&error))?;
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
    client.ready().await.map_err(|error| gone(&error))?;
    let (mut metadata, _, asked) = request.into_parts();
    let name =
        |text: &str| MetadataValue::try_from(text).map_err(|_| Status::internal("a name is not ASCII"));
    metadata.insert(FORWARDED_NAME, name(server.shared.replicas.own())?);
    metadata.insert("job-id", name(job)?);
    let mut passed_on = Request::new(asked);
    *passed_on.metadata_mut() = metadata;
    let path = axum::http::uri::PathAndQuery::from_static(STREAM_DATA);
    let answer = client.server_streaming(passed_on, path, AsTheyCome).await?;
    Ok(answer.map(|messages| {
        stream::unfold((messages, place), |(mut messages, place)| async move {
            Some((messages.next().await?, (messages, place)))
        })
        .boxed()
    }))
}

/// The WebSocket of the replica at `address` for `path`, with the client's own token.
///
/// # Errors
/// 404, with the reason, when that replica does not answer.
pub async fn connect(
    server: &Server,
    address: &str,
    path: &str,
    headers: &HeaderMap,
) -> Result<Upstream, ApiError> {
    let gone = || ApiError::NoConsumer(unreachable());
    let url = format!("{}{path}", address.replacen("http", "ws", 1));
    let mut request = url.into_client_request().map_err(|_| gone())?;
    let own = HeaderValue::from_str(server.shared.replicas.own()).map_err(|_| gone())?;
    request.headers_mut().insert(FORWARDED, own);
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
    }
    match timeout(CONNECT_WITHIN, connect_async(request)).await {
        Ok(Ok((upstream, _))) => Ok(upstream),
        Ok(Err(error)) => {
            tracing::debug!(address, %error, "the replica with the job's consumer does not take a WebSocket");
            Err(gone())
        }
        Err(_) => Err(gone()),
    }
}

/// Passes messages on, both ways, until one side ends; `place` is kept as long.
pub async fn websocket(mut upstream: Upstream, mut client: WebSocket, place: OwnedSemaphorePermit) {
    loop {
        tokio::select! {
            from_there = upstream.next() => {
                let Some(Ok(message)) = from_there else { break };
                let Some(message) = downstream(message) else { continue };
                let end = matches!(message, Message::Close(_));
                let sent = timeout(SEND_WITHIN, client.send(message)).await;
                if end || !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            // A client has nothing to say but that it lives or leaves.
            from_client = client.next() => match from_client {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    let _ = timeout(CONNECT_WITHIN, upstream.close(None)).await;
    let _ = timeout(CONNECT_WITHIN, client.send(Message::Close(None))).await;
    drop(place);
}

/// What a message of another replica is to the client; None: it was only for this replica.
fn downstream(message: tungstenite::Message) -> Option<Message> {
    Some(match message {
        tungstenite::Message::Text(text) => Message::Text(text.as_str().into()),
        tungstenite::Message::Binary(bytes) => Message::Binary(bytes),
        tungstenite::Message::Ping(bytes) => Message::Ping(bytes),
        tungstenite::Message::Close(_) => Message::Close(None),
        tungstenite::Message::Pong(_) | tungstenite::Message::Frame(_) => return None,
    })
}

/// A place among the readers.
///
/// # Errors
/// When all are taken.
pub fn place(server: &Server) -> Result<OwnedSemaphorePermit, super::open::Refusal> {
    Arc::clone(&server.readers).try_acquire_owned().map_err(|_| super::open::Refusal::Full)
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
