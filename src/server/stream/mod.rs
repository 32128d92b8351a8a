//! Live lines to many readers per job, by gRPC and by WebSocket; docs/streams.md describes both.
//!
//! The consumer puts each line into its job's [`fan`] and does not know who reads: a cursor of each reader points into
//! one shared ring, and a line is encoded once for all of them. `ring`, `message` and `ending` are pure. Whatever is
//! to feed readers, be it the consumer here or a relay from elsewhere, calls `Job::push`; `open` is the
//! only place where a reader is joined to a job.

pub mod codec;
pub mod ending;
pub mod fan;
pub mod grpc;
pub mod message;
mod metadata;
pub mod open;
mod relay;
mod ring;
pub mod websocket;
