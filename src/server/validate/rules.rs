//! The rules of a request whose fields are all there. Pure.

use super::shape::Request;
use crate::api::focusjob::ViewType;

/// Most channels of one view.
const MAX_CHANNELS: i64 = 2500;
/// Longest time axis, s.
const MAX_DURATION_S: i64 = 86_400;
/// Most lines on the time axis.
const MAX_HEIGHT: i64 = 100_000;
/// Latest time, s since the Unix epoch: 9999-12-31T23:59:59Z.
pub(super) const MAX_TIME_S: i64 = 253_402_300_799;

/// The rules that `request` breaks, a sentence each.
pub(super) fn broken_rules(request: &Request) -> Vec<String> {
    let mut broken = Vec::new();
    nfft_rules(request, &mut broken);
    channel_rules(request, &mut broken);
    axis_rules(request, &mut broken);
    time_rules(request, &mut broken);
    broken
}

fn nfft_rules(request: &Request, broken: &mut Vec<String>) {
    let nfft = request.nfft;
    if !(128..=65_536).contains(&nfft) || nfft.count_ones() != 1 {
        broken.push(format!("nfftSelection must be a power of 2 from 128 to 65536, got {nfft}"));
    } else if request.view == ViewType::MultiChannel && !(256..=2048).contains(&nfft) {
        broken.push(format!(
            "nfftSelection must be a power of 2 from 256 to 2048 for view_type MULTICHANNEL, got {nfft}"
        ));
    }
}

fn channel_rules(request: &Request, broken: &mut Vec<String>) {
    let (min, max) = request.channels;
    if min < 1 {
        broken.push(format!("channels.min must be at least 1, got {min}"));
    } else if max < min {
        broken.push(format!("channels.max must not be below channels.min, got {min} to {max}"));
    } else if max - min >= MAX_CHANNELS {
        broken.push(format!("at most {MAX_CHANNELS} channels fit one view, got {}", max - min + 1));
    } else if max > i64::from(i32::MAX) {
        broken.push(format!("channels.max is out of range, got {max}"));
    } else if request.view == ViewType::SingleChannel && min != max {
        broken.push(format!(
            "channels.min must equal channels.max for view_type SINGLECHANNEL, got {min} to {max}"
        ));
    }
}

fn axis_rules(request: &Request, broken: &mut Vec<String>) {
    if request.view == ViewType::Waterfall && (request.duration.is_some() || request.frequencies.is_some()) {
        broken.push("view_type WATERFALL takes no displayTimeAxisDuration and no frequencyRange".to_owned());
        return;
    }
    if let Some(duration) = request.duration.filter(|d| !(1..=MAX_DURATION_S).contains(d)) {
        broken.push(format!("displayTimeAxisDuration must be from 1 to {MAX_DURATION_S} s, got {duration}"));
    }
    if !(1..=MAX_HEIGHT).contains(&request.height) {
        broken.push(format!("displayInfo.height must be from 1 to {MAX_HEIGHT}, got {}", request.height));
    }
    let Some((min, max)) = request.frequencies else { return };
    if min < 0 {
        broken.push(format!("frequencyRange.min must be at least 0 Hz, got {min}"));
    } else if max > i64::from(i32::MAX) {
        broken.push(format!("frequencyRange.max is out of range, got {max}"));
    } else if max <= min {
        broken.push(format!("frequencyRange must span at least 1 Hz, got {min} to {max}"));
    }
}

fn time_rules(request: &Request, broken: &mut Vec<String>) {
    match (request.start, request.end) {
        (None, None) => {}
        (Some(start), Some(end)) => broken.extend(time_order(start, end)),
        _ => broken
            .push("start_time and end_time must be given together, or neither for a live view".to_owned()),
    }
}

/// What is wrong with a time from `start` to `end`, s since the Unix epoch.
pub(super) fn time_order(start: i64, end: i64) -> Option<String> {
    if start < 0 || end <= start {
        return Some(format!(
            "end_time must be after start_time, both in seconds since the Unix epoch, got {start} to {end}"
        ));
    }
    (end > MAX_TIME_S)
        .then(|| format!("end_time must be at most {MAX_TIME_S}, the end of the year 9999, got {end}"))
}

#[cfg(test)]
mod tests {
    use crate::server::validate::tests::with;
    use crate::server::validate::{Refusal, validate};
    use serde_json::json;

    #[test]
    fn broken_rules_are_told_in_words() {
        for (change, words) in [
            (
                json!({"nfftSelection": 1000}),
                "nfftSelection must be a power of 2 from 128 to 65536, got 1000",
            ),
            (
                json!({"nfftSelection": -1024}),
                "nfftSelection must be a power of 2 from 128 to 65536, got -1024",
            ),
            (json!({"nfftSelection": 64}), "nfftSelection must be a power of 2 from 128 to 65536, got 64"),
            (
                json!({"nfftSelection": 4096}),
                "nfftSelection must be a power of 2 from 256 to 2048 for view_type MULTICHANNEL, got 4096",
            ),
            (json!({"channels": {"min": 0, "max": 5}}), "channels.min must be at least 1, got 0"),
            (
                json!({"channels": {"min": 9, "max": 5}}),
                "channels.max must not be below channels.min, got 9 to 5",
            ),
            (json!({"channels": {"min": 1, "max": 2501}}), "at most 2500 channels fit one view, got 2501"),
            (
                json!({"view_type": 1}),
                "channels.min must equal channels.max for view_type SINGLECHANNEL, got 1 to 50",
            ),
            (
                json!({"view_type": 2}),
                "view_type WATERFALL takes no displayTimeAxisDuration and no frequencyRange",
            ),
            (
                json!({"displayTimeAxisDuration": 0}),
                "displayTimeAxisDuration must be from 1 to 86400 s, got 0",
            ),
            (json!({"displayInfo": {"height": 0}}), "displayInfo.height must be from 1 to 100000, got 0"),
            (
                json!({"frequencyRange": {"min": 5, "max": 5}}),
                "frequencyRange must span at least 1 Hz, got 5 to 5",
            ),
            (
                json!({"frequencyRange": {"min": -1, "max": 5}}),
                "frequencyRange.min must be at least 0 Hz, got -1",
            ),
            (
                json!({"frequencyRange": {"min": 1, "max": i64::MIN}}),
                "frequencyRange must span at least 1 Hz, got 1 to -9223372036854775808",
            ),
            (
                json!({"channels": {"min": 1, "max": i64::MIN}}),
                "channels.max must not be below channels.min, got 1 to -9223372036854775808",
            ),
            (
                json!({"channels": {"min": 1, "max": i64::MAX}}),
                "at most 2500 channels fit one view, got 9223372036854775807",
            ),
            (
                json!({"start_time": 5}),
                "start_time and end_time must be given together, or neither for a live view",
            ),
            (
                json!({"start_time": 5, "end_time": 5}),
                "end_time must be after start_time, both in seconds since the Unix epoch, got 5 to 5",
            ),
        ] {
            let refused = validate(&with(change.clone()), "p").expect_err("refused");
            assert_eq!(refused, Refusal::Rules(vec![words.to_owned()]), "{change}");
        }
    }

    #[test]
    fn bounds_pass() {
        for change in [
            json!({"channels": {"min": 1, "max": 2500}}),
            json!({"nfftSelection": 256}),
            json!({"nfftSelection": 2048}),
            json!({"nfftSelection": 1024.0}),
            json!({"view_type": "1", "channels": {"min": 7, "max": 7}, "nfftSelection": 65536}),
            json!({"displayInfo": {}}),
            json!({"displayInfo": null, "start_time": null, "end_time": null}),
            json!({"start_time": 5, "end_time": 6}),
            json!({"unknown": "field"}),
        ] {
            assert!(validate(&with(change.clone()), "p").is_ok(), "{change}");
        }
    }
}
