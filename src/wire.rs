//! The messages on a job's queue, generated from `proto/focus.proto`, which documents them.

#![allow(missing_docs)]

include!(concat!(env!("OUT_DIR"), "/focus.v1.rs"));

/// The gRPC messages and service, generated from `proto/pandadatastream.proto`.
pub mod panda {
    #![allow(clippy::default_constructed_unit_structs)]

    include!(concat!(env!("OUT_DIR"), "/pandadatastream.rs"));
    include!(concat!(env!("OUT_DIR"), "/pandadatastream.DataStreamService.rs"));

    /// All of `proto/`, for the reflection service.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
