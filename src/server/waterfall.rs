//! The body of `GET /waterfall/{job_id}/{row_count}`. Pure.

use std::fmt::Write;
use std::sync::Arc;

use crate::wire;

/// Most intensities in one answer (about 50 MB of JSON): of a larger view fewer rows are given, but never none.
pub const MAX_VALUES: usize = 8_000_000;

/// Of `available` rows of `row_values` intensities each, how many an answer that asks for `asked` holds.
pub fn rows_in_answer(asked: usize, row_values: usize) -> usize {
    asked.min((MAX_VALUES / row_values.max(1)).max(1))
}

/// About how many bytes an answer of `rows` rows takes, with `values` intensities in all.
pub fn size(values: usize, rows: usize, channels: usize) -> usize {
    values * 7 + rows * (channels * 32 + 128)
}

/// The answer for `lines`, the oldest first: `[]` without lines. Intensities are dB, rounded to 0.01 dB; the
/// sensors' ids are the channels' numbers, starting with `channel_min`; times are ms since the Unix epoch;
/// `current_max_amp` and `current_min_amp` are the highest and lowest level, dB, that the rows' intensities
/// can stand for.
pub fn body(job_id: &str, channel_min: i32, channels: usize, lines: &[Arc<wire::Line>]) -> Vec<u8> {
    if lines.is_empty() {
        return b"[]".to_vec();
    }
    let canvas = serde_json::Value::from(job_id).to_string();
    let values: usize = lines.iter().map(|line| line.intensities.len()).sum();
    let mut out = String::with_capacity(size(values, lines.len(), channels));
    out.push_str("[{\"rows\":[");
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        row(&mut out, &canvas, channel_min, channels, line);
    }
    let max = lines.iter().map(|l| l.db_max).fold(f32::NEG_INFINITY, f32::max);
    let min = lines.iter().map(|l| l.db_min).fold(f32::INFINITY, f32::min);
    let (max, min) = (decibel(max), decibel(min));
    // Writing to a String never fails.
    let _ = write!(out, "],\"current_max_amp\":{max},\"current_min_amp\":{min}}}]");
    out.into_bytes()
}

fn row(out: &mut String, canvas: &str, channel_min: i32, channels: usize, line: &wire::Line) {
    let words: Vec<String> = (0..=255u8).map(|q| decibel(level(line, q))).collect();
    let per_channel = (line.intensities.len() / channels.max(1)).max(1);
    let _ = write!(out, "{{\"canvasId\":{canvas},\"sensors\":[");
    for (i, sensor) in line.intensities.chunks(per_channel).enumerate() {
        let id = i64::from(channel_min) + i64::try_from(i).unwrap_or(0);
        let _ = write!(out, "{}{{\"id\":{id},\"intensity\":[", if i > 0 { "," } else { "" });
        for (k, quantised) in sensor.iter().enumerate() {
            if k > 0 {
                out.push(',');
            }
            out.push_str(&words[usize::from(*quantised)]);
        }
        out.push_str("]}");
    }
    let (start, end) = (line.start_us.div_euclid(1000), line.end_us.div_euclid(1000));
    let _ = write!(out, "],\"startTimestamp\":{start},\"endTimestamp\":{end}}}");
}

/// The level that `quantised` stands for, dB.
fn level(line: &wire::Line, quantised: u8) -> f32 {
    line.db_min + (line.db_max - line.db_min) * f32::from(quantised) / 255.0
}

/// `db` rounded to 0.01.
fn decibel(db: f32) -> String {
    let rounded = (f64::from(db) * 100.0).round() / 100.0;
    // Adding zero takes the sign off a negative zero.
    format!("{}", rounded + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn line(index: u64, intensities: &[u8]) -> Arc<wire::Line> {
        Arc::new(wire::Line {
            index,
            start_us: 1_700_000_000_123_456 + index as i64 * 10_000,
            end_us: 1_700_000_000_133_456 + index as i64 * 10_000,
            db_min: -100.0,
            db_max: 27.5,
            intensities: intensities.to_vec(),
            dropped_total: 0,
        })
    }

    #[test]
    fn the_answer_has_the_existing_product_s_shape() {
        let lines = [line(0, &[0, 255, 1, 2]), line(1, &[200, 3, 4, 5])];
        let value: Value = serde_json::from_slice(&body("18-3", 7, 2, &lines)).expect("json");
        assert_eq!(
            value[0]["rows"][0],
            json!({"canvasId": "18-3",
                   "sensors": [{"id": 7, "intensity": [-100, 27.5]}, {"id": 8, "intensity": [-99.5, -99]}],
                   "startTimestamp": 1_700_000_000_123_i64, "endTimestamp": 1_700_000_000_133_i64})
        );
        assert_eq!(value[0]["rows"][1]["sensors"][0]["intensity"][0], json!(0));
        assert_eq!(
            (&value[0]["current_max_amp"], &value[0]["current_min_amp"]),
            (&json!(27.5), &json!(-100))
        );
        assert_eq!(body("18-3", 1, 2, &[]), b"[]");
    }

    #[test]
    fn an_answer_is_bounded_and_never_without_rows() {
        for (asked, row_values, rows) in
            [(10, 100, 10), (100_000, 80, 100_000), (100_000, 800_000, 10), (5, 9_000_000, 1), (5, 0, 5)]
        {
            assert_eq!(rows_in_answer(asked, row_values), rows, "{asked} of {row_values}");
        }
    }
}
