//! gRPC messages that many readers share: encoded once, then only copied into each reader's frames.

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::wire::panda::{DataStream, StreamDataRequest};

/// One encoded [`DataStream`] and what only this reader is told.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The message, shared.
    pub message: Bytes,
    /// Rows that this reader has lost before it.
    pub lost: u64,
}

/// Reads requests as prost does and writes payloads as they are.
#[derive(Debug, Default)]
pub struct SharedBytes;

impl Codec for SharedBytes {
    type Encode = Payload;
    type Decode = StreamDataRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for SharedBytes {
    type Item = Payload;
    type Error = Status;

    fn encode(&mut self, item: Payload, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.message.len() + 16);
        buffer.put_slice(&item.message);
        if item.lost > 0 {
            // Two messages written one after the other are read as one with the fields of both.
            let lost = i64::try_from(item.lost).unwrap_or(i64::MAX);
            let told = DataStream { lost_rows: Some(lost), ..DataStream::default() };
            told.encode(buffer).map_err(|error| Status::internal(error.to_string()))?;
        }
        Ok(())
    }
}

impl Decoder for SharedBytes {
    type Item = StreamDataRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<StreamDataRequest>, Status> {
        let request = StreamDataRequest::decode(buffer);
        request.map(Some).map_err(|error| {
            Status::invalid_argument(format!("the request is no StreamDataRequest: {error}"))
        })
    }
}
