//! The messages on a job's queue, generated from `proto/focus.proto`, which documents them.

#![allow(missing_docs)]

use crate::api::{AnalyzerSource, FocusJobSpec, view};

include!(concat!(env!("OUT_DIR"), "/focus.v1.rs"));

impl Header {
    /// The header of the job of this uid, as its spec and its pool's source demand it.
    pub fn of(job_uid: &str, spec: &FocusJobSpec, source: &AnalyzerSource) -> Self {
        Self {
            job_uid: job_uid.to_owned(),
            sample_rate_hz: source.sample_rate_hz,
            source_channels: source.channels,
            dx_m: source.dx_meters,
            fiber_start_m: source.fiber_start_meters,
            channel_min: spec.channels.min,
            channel_max: spec.channels.max,
            frequencies_hz: view::frequencies(spec, source.sample_rate_hz),
            nfft: spec.nfft_selection,
            lines_dt_s: view::lines_dt(spec, source.sample_rate_hz),
            dtype: source.dtype.clone(),
            source_description: source.description.clone(),
            analyzer: concat!("focus-operator ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The gRPC messages and service, generated from `proto/pandadatastream.proto`.
pub mod panda {
    #![allow(clippy::default_constructed_unit_structs)]

    include!(concat!(env!("OUT_DIR"), "/pandadatastream.rs"));
    include!(concat!(env!("OUT_DIR"), "/pandadatastream.DataStreamService.rs"));

    /// All of `proto/`, for the reflection service.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
