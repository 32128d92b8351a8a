//! The answers of `/configure` and `/metadata`, made from a view and its source. Pure.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeMap};
use utoipa::ToSchema;

use crate::api::focusjob::ViewType;
use crate::api::{AnalyzerSource, FocusJobSpec, view};

/// Where clients are told to stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamAddress {
    /// Host or URL.
    pub url: String,
    /// Port.
    pub port: u16,
}

/// The answer of `POST /configure`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Configured {
    /// Always `configured`.
    pub status: &'static str,
    /// `<window>-<unique>`.
    pub job_id: String,
    /// Host to stream from.
    pub stream_url: String,
    /// Port to stream from.
    pub stream_port: u16,
    /// The digit of the view type as a string.
    pub view_type: &'static str,
    /// Frequency of each intensity within a channel, Hz.
    pub frequencies_list: Vec<f64>,
    /// Length of `frequencies_list`.
    pub frequencies_amount: usize,
    /// Time between lines, s.
    pub lines_dt: f64,
    /// Stream of each channel; the key is the channel's ordinal within the view, counted from 1.
    #[schema(value_type = BTreeMap<String, usize>)]
    pub channel_to_stream_index: ChannelToStream,
    /// Number of streams.
    pub stream_amount: usize,
    /// Number of channels.
    pub channel_amount: usize,
}

/// Stream of each channel, written in the order of the channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelToStream(pub BTreeMap<usize, usize>);

impl Serialize for ChannelToStream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (channel, stream) in &self.0 {
            map.serialize_entry(&channel.to_string(), stream)?;
        }
        map.end()
    }
}

/// The answer of `GET /metadata/{job_id}`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct JobMetadata {
    /// The answer of `/configure`.
    #[serde(flatten)]
    pub configured: Configured,
    /// The source.
    pub metadata: SourceMetadata,
}

/// The source, as the pool declares it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SourceMetadata {
    /// Pulses per second of the interrogator, Hz.
    pub prr: f64,
    /// Distance between neighbouring channels, m.
    pub dx: f64,
    /// Sample type.
    pub dtype: String,
    /// Samples of a trace: one per channel of the source.
    pub num_samples_per_trace: i32,
    /// Channels of the source.
    pub number_of_channels: i32,
    /// Optical position of channel 1, m.
    pub fiber_start_meters: f64,
    /// Length of the fibre that the channels cover, m.
    pub fiber_length_meters: f64,
    /// Name and version of what answers.
    pub sw_version: String,
    /// What the fibre is.
    pub fiber_description: String,
}

/// The answer of `/configure` for `job_id`.
pub fn configured(
    job_id: &str,
    spec: &FocusJobSpec,
    source: &AnalyzerSource,
    stream: &StreamAddress,
) -> Configured {
    let frequencies_list = view::frequencies(spec, source.sample_rate_hz);
    let streams = channel_to_stream(spec.channels.count());
    Configured {
        status: "configured",
        job_id: job_id.to_owned(),
        stream_url: stream.url.clone(),
        stream_port: stream.port,
        view_type: match spec.view_type {
            ViewType::MultiChannel => "0",
            ViewType::SingleChannel => "1",
            ViewType::Waterfall => "2",
        },
        frequencies_amount: frequencies_list.len(),
        frequencies_list,
        lines_dt: view::lines_dt(spec, source.sample_rate_hz),
        stream_amount: view::stream_sizes(spec.channels.count()).len(),
        channel_amount: spec.channels.count(),
        channel_to_stream_index: streams,
    }
}

/// The answer of `/metadata` for a job with a consumer.
pub fn metadata(
    job_id: &str,
    spec: &FocusJobSpec,
    source: &AnalyzerSource,
    stream: &StreamAddress,
) -> JobMetadata {
    JobMetadata { configured: configured(job_id, spec, source, stream), metadata: source_metadata(source) }
}

/// `source` as `/metadata` and `/live_metadata` tell it.
pub fn source_metadata(source: &AnalyzerSource) -> SourceMetadata {
    SourceMetadata {
        prr: source.pulse_rate_hz.unwrap_or(source.sample_rate_hz),
        dx: source.dx_meters,
        dtype: source.dtype.clone(),
        num_samples_per_trace: source.channels,
        number_of_channels: source.channels,
        fiber_start_meters: source.fiber_start_meters,
        fiber_length_meters: f64::from(source.channels) * source.dx_meters,
        sw_version: concat!("focus-operator ", env!("CARGO_PKG_VERSION")).to_owned(),
        fiber_description: source.description.clone(),
    }
}

fn channel_to_stream(channels: usize) -> ChannelToStream {
    let streams = view::stream_sizes(channels)
        .into_iter()
        .enumerate()
        .flat_map(|(stream, size)| std::iter::repeat_n(stream, size));
    ChannelToStream((1..).zip(streams).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::server::validate::validate;
    use serde_json::json;

    /// A source of 100 channels at 1 kHz.
    pub fn source() -> AnalyzerSource {
        AnalyzerSource {
            uri: "synthetic:".to_owned(),
            recordings: None,
            sample_rate_hz: 1000.0,
            channels: 100,
            dx_meters: 2.0,
            fiber_start_meters: 10.0,
            pulse_rate_hz: None,
            dtype: "float32".to_owned(),
            description: "test".to_owned(),
        }
    }

    /// A view of channels 1 to `channels`.
    pub fn spec(channels: i32) -> FocusJobSpec {
        validate(
            &json!({"displayTimeAxisDuration":10,"nfftSelection":1024,"channels":{"min":1,"max":channels},
                    "frequencyRange":{"min":0,"max":500},"view_type":"MULTICHANNEL"}),
            "default",
        )
        .expect("valid")
    }

    fn stream() -> StreamAddress {
        StreamAddress { url: "focus".to_owned(), port: 50051 }
    }

    #[test]
    fn channels_are_divided_into_streams() {
        for (channels, sizes) in
            [(50, vec![17, 17, 16]), (8, vec![3, 3, 2]), (3, vec![1, 1, 1]), (2, vec![1, 1]), (1, vec![1])]
        {
            let answer = configured("0-1", &spec(channels), &source(), &stream());
            let of = |stream| answer.channel_to_stream_index.0.values().filter(|s| **s == stream).count();
            assert_eq!((0..sizes.len()).map(of).collect::<Vec<_>>(), sizes, "{channels}");
            assert_eq!((answer.stream_amount, answer.channel_amount), (sizes.len(), channels as usize));
        }
    }

    #[test]
    fn the_answer_has_the_fields_of_the_existing_product() {
        let answer = serde_json::to_value(metadata("18-3", &spec(50), &source(), &stream())).expect("json");
        assert_eq!(answer["lines_dt"], json!(0.01));
        assert_eq!(answer["frequencies_amount"], json!(513));
        assert_eq!(answer["frequencies_list"][512], json!(500.0));
        assert_eq!(answer["channel_to_stream_index"]["1"], json!(0));
        assert_eq!(answer["channel_to_stream_index"]["50"], json!(2));
        assert_eq!((&answer["view_type"], &answer["stream_port"]), (&json!("0"), &json!(50051)));
        assert_eq!((&answer["job_id"], &answer["status"]), (&json!("18-3"), &json!("configured")));
        assert_eq!(answer["metadata"]["prr"], json!(1000.0));
        assert_eq!(answer["metadata"]["fiber_length_meters"], json!(200.0));
    }
}
