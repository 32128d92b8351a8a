//! Readers of streams: gRPC clients that look at every line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::uri::PathAndQuery;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use super::publisher::StreamJob;
use super::spread::Spread;
use super::tally::Tally;
use super::view::is_whole;
use crate::wire::panda::{DataStream, StreamDataRequest};

/// The call.
const STREAM_DATA: &str = "/pandadatastream.DataStreamService/StreamData";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes that the server may send ahead on one stream and on one connection.
const WINDOWS: (u32, u32) = (1 << 20, 16 << 20);

/// What all readers share.
pub struct Readers {
    /// How many have had their header.
    pub ready: AtomicUsize,
    /// Lines that they are past, all together.
    pub passed: AtomicU64,
    /// How long after its publication a line was there.
    pub latency: Spread,
    /// Ends them.
    pub done: CancellationToken,
}

/// One of them.
pub struct Reader {
    /// Its number.
    pub number: usize,
    /// What it reads.
    pub job: Arc<StreamJob>,
    /// Which stream of it.
    pub stream: i32,
    /// A connection, which it shares.
    pub channel: Channel,
    /// What it shares with the others.
    pub shared: Arc<Readers>,
}

/// Opens `count` connections to the server's gRPC at `address`.
///
/// # Errors
/// When it does not answer.
pub async fn connect(address: &str, count: u32) -> anyhow::Result<Vec<Channel>> {
    let what = || format!("connecting to the server's gRPC at {address}");
    let endpoint = Endpoint::from_shared(address.to_owned())
        .with_context(what)?
        .connect_timeout(CONNECT)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1);
    let mut channels = Vec::new();
    for _ in 0..count {
        channels.push(endpoint.connect().await.with_context(what)?);
    }
    Ok(channels)
}

impl Reader {
    /// Reads until it is told to end; gives what it got, and what went wrong, if something did.
    pub async fn read(self) -> (Tally, Option<String>) {
        let mut tally = Tally::default();
        let done = self.shared.done.clone();
        let failure = match done.run_until_cancelled(self.follow(&mut tally)).await {
            Some(Err(error)) => Some(format!("stream {} of job {}: {error:#}", self.stream, self.job.id)),
            Some(Ok(())) | None => None,
        };
        (tally, failure)
    }

    async fn follow(&self, tally: &mut Tally) -> anyhow::Result<()> {
        let mut messages = self.call().await?;
        let header = messages.message().await?.context("the stream ended before its header")?;
        let length = usize::try_from(i64::from(header.data_shape_x) * i64::from(header.data_shape_y))?;
        if length == 0 || !header.row_index.is_empty() {
            bail!("the first message is no header");
        }
        self.shared.ready.fetch_add(1, Ordering::Relaxed);
        while let Some(message) = messages.message().await? {
            tally.told_lost += u64::try_from(message.lost_rows.unwrap_or(0))?;
            for (index, bytes) in message.row_index.iter().zip(&message.main_data) {
                let index = u64::try_from(*index)?;
                self.shared.latency.add(self.number, self.job.clock.since(index, Instant::now()));
                let further = tally.take(index, is_whole(bytes, length, index));
                self.shared.passed.fetch_add(further, Ordering::Relaxed);
            }
        }
        bail!("the server ended the stream")
    }

    async fn call(&self) -> anyhow::Result<Streaming<DataStream>> {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await?;
        let mut request = Request::new(StreamDataRequest { stream_id: self.stream });
        request.metadata_mut().insert("job-id", MetadataValue::try_from(self.job.id.as_str())?);
        let codec = ProstCodec::<StreamDataRequest, DataStream>::default();
        let answer = client.server_streaming(request, PathAndQuery::from_static(STREAM_DATA), codec).await?;
        Ok(answer.into_inner())
    }
}
