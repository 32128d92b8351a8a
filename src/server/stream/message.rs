//! The messages of a stream, made from a view and its lines. Pure.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;

use crate::api::view::{self, MAX_STREAMS};
use crate::api::{AnalyzerSource, FocusJobSpec};
use crate::wire;
use crate::wire::panda::DataStream;

/// One line, and its encodings once somebody has asked for them: of each stream, and of the line as a whole.
#[derive(Debug)]
pub struct Item {
    line: Arc<wire::Line>,
    streams: [OnceLock<Bytes>; MAX_STREAMS],
    whole: OnceLock<Bytes>,
}

/// One stream of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    job_id: String,
    stream: usize,
    first_channel: i32,
    channels: usize,
    per_channel: usize,
    bytes: Range<usize>,
}

impl Item {
    /// An item of `line`.
    pub fn new(line: Arc<wire::Line>) -> Self {
        Self { line, streams: Default::default(), whole: OnceLock::new() }
    }

    /// The line.
    pub fn line(&self) -> &wire::Line {
        &self.line
    }

    /// Most bytes that it may come to hold: the intensities, and again in the streams' encodings and in the whole's.
    pub fn bytes(&self) -> usize {
        3 * self.line.intensities.len()
    }

    /// The encoded [`DataStream`] of `part`. All parts that are asked for must be of one job.
    pub fn data_stream(&self, part: &Part) -> Bytes {
        let encode = || Bytes::from(part.row(&self.line).encode_to_vec());
        match self.streams.get(part.stream) {
            Some(encoded) => encoded.get_or_init(encode).clone(),
            None => encode(),
        }
    }

    /// The encoded [`wire::Line`].
    pub fn whole(&self) -> Bytes {
        self.whole.get_or_init(|| Bytes::from(self.line.encode_to_vec())).clone()
    }
}

/// The stream `id` of the job's view.
///
/// # Errors
/// The number of streams, when there is no such stream.
pub fn part(job_id: &str, spec: &FocusJobSpec, source: &AnalyzerSource, id: i32) -> Result<Part, usize> {
    let channels = spec.channels.count();
    let sizes = view::stream_sizes(channels);
    let stream = usize::try_from(id).ok().filter(|id| *id < sizes.len()).ok_or(sizes.len())?;
    let before: usize = sizes[..stream].iter().sum();
    let per_channel = crate::server::job::line_bytes(spec, source) / channels.max(1);
    Ok(Part {
        job_id: job_id.to_owned(),
        stream,
        first_channel: spec.channels.min.saturating_add(int(before)),
        channels: sizes[stream],
        per_channel,
        bytes: before * per_channel..(before + sizes[stream]) * per_channel,
    })
}

impl Part {
    /// The first message: what the rows will be. `newest` is the newest line, if there is one: it tells the levels.
    pub fn header(&self, newest: Option<&wire::Line>) -> DataStream {
        DataStream {
            start_channel: self.first_channel,
            end_channel: self.first_channel.saturating_add(int(self.channels)) - 1,
            data_shape_x: int(self.channels),
            data_shape_y: int(self.per_channel),
            data_shape_z: Some(0),
            global_maximum: newest.map_or(0.0, |line| line.db_max),
            global_minimum: newest.map_or(0.0, |line| line.db_min),
            job_id: Some(self.job_id.clone()),
            ..DataStream::default()
        }
    }

    fn row(&self, line: &wire::Line) -> DataStream {
        DataStream {
            timestamp_in_milis: vec![line.start_us.div_euclid(1000)],
            row_index: vec![i64::try_from(line.index).unwrap_or(i64::MAX)],
            main_data: vec![line.intensities.get(self.bytes.clone()).unwrap_or_default().to_vec()],
            data_shape_z: Some(1),
            ..self.header(Some(line))
        }
    }
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::tests::{source, spec};

    fn line(channels: usize) -> Arc<wire::Line> {
        Arc::new(wire::Line {
            index: 7,
            start_us: 1_700_000_000_123_999,
            end_us: 1_700_000_001_123_999,
            db_min: -90.0,
            db_max: 10.0,
            // Each channel's intensities are its ordinal.
            intensities: (0..channels).flat_map(|c| std::iter::repeat_n(c as u8, 513)).collect(),
            dropped_total: 0,
        })
    }

    #[test]
    fn the_streams_of_a_view_are_its_channels_in_order() {
        for (channels, ranges) in
            [(50, vec![(1, 17), (18, 34), (35, 50)]), (8, vec![(1, 3), (4, 6), (7, 8)]), (1, vec![(1, 1)])]
        {
            let item = Item::new(line(channels as usize));
            let mut all = Vec::new();
            for (id, range) in (0..).zip(&ranges) {
                let part = part("18-3", &spec(channels), &source(), id).expect("a stream");
                let row = DataStream::decode(item.data_stream(&part)).expect("a message");
                assert_eq!((row.start_channel, row.end_channel), *range, "{channels}");
                assert_eq!((row.data_shape_x, row.data_shape_y), (range.1 - range.0 + 1, 513));
                assert_eq!((row.timestamp_in_milis, row.row_index), (vec![1_700_000_000_123], vec![7]));
                assert_eq!((row.global_maximum, row.global_minimum), (10.0, -90.0));
                assert_eq!((row.job_id.as_deref(), row.data_shape_z), (Some("18-3"), Some(1)));
                all.extend(row.main_data.concat());
            }
            assert_eq!(all, item.line.intensities);
        }
    }

    #[test]
    fn a_stream_that_is_not_there_is_told_with_the_number_of_those_that_are() {
        for (channels, id, streams) in [(50, 3, 3), (50, -1, 3), (2, 2, 2), (1, i32::MAX, 1)] {
            assert_eq!(part("j", &spec(channels), &source(), id), Err(streams));
        }
    }

    #[test]
    fn the_header_has_shapes_and_no_rows() {
        let part = part("18-3", &spec(8), &source(), 2).expect("a stream");
        for (newest, levels) in [(None, (0.0, 0.0)), (Some(line(8)), (10.0, -90.0))] {
            let header = part.header(newest.as_deref());
            assert_eq!((header.start_channel, header.end_channel), (7, 8));
            assert_eq!((header.data_shape_x, header.data_shape_y, header.data_shape_z), (2, 513, Some(0)));
            assert_eq!((header.global_maximum, header.global_minimum), levels);
            assert!(header.main_data.is_empty() && header.row_index.is_empty());
        }
    }

    #[test]
    fn a_line_is_encoded_once_for_all_readers() {
        let item = Item::new(line(8));
        let part = part("18-3", &spec(8), &source(), 0).expect("a stream");
        assert_eq!(item.data_stream(&part).as_ptr(), item.data_stream(&part).as_ptr());
        assert_eq!(item.whole().as_ptr(), item.whole().as_ptr());
        assert_eq!(wire::Line::decode(item.whole()).expect("a line"), *item.line);
    }
}
