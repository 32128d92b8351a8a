//! From the body of `POST /configure` to a FocusJobSpec, or a refusal: `shape` says which fields are there, `rules`
//! what they may be. Pure.

mod rules;
mod shape;

use serde_json::Value;

use crate::api::FocusJobSpec;
use crate::api::focusjob::{ChannelRange, DisplayInfo, FrequencyRange, QueueSpec};

/// Seconds that a finished job made by the server is kept.
const TTL_AFTER_FINISHED_S: i32 = 300;
/// Seconds without a reader after which a job made by the server ends.
const IDLE_TIMEOUT_S: i32 = 180;
/// Seconds that a job made by the server may wait for its consumer before it says so.
const CONSUMER_DEADLINE_S: i32 = 30;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fields that are missing or of the wrong type (422).
    #[error("{} fields are missing or of the wrong type", .0.len())]
    Shape(Vec<FieldError>),
    /// Rules that are broken (400), a sentence each.
    #[error("{}", .0.join("; "))]
    Rules(Vec<String>),
}

/// One field that is missing or of the wrong type.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where it is: `body` and the path within it, or `header` and the header's name.
    pub loc: Vec<String>,
    /// A sentence for a person.
    pub msg: String,
    /// `missing`, `type_error` or `value_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// The body of a request that is not JSON at all.
pub fn malformed(problem: impl std::fmt::Display) -> Refusal {
    Refusal::Shape(vec![FieldError {
        loc: vec!["body".to_owned()],
        msg: format!("the body is not valid JSON: {problem}"),
        kind: "type_error",
    }])
}

/// The spec of the job that `body` asks for, run by `pool`. The rules that need the pool's source are in
/// [`crate::api::view::refusal`]. A `null` counts as an absent field; unknown fields are ignored.
///
/// # Errors
/// All fields that are missing or mistyped, or else all rules that are broken.
pub fn validate(body: &Value, pool: &str) -> Result<FocusJobSpec, Refusal> {
    let request = shape::parse(body)?;
    let broken = rules::broken_rules(&request);
    if broken.is_empty() { Ok(spec(&request, pool)) } else { Err(Refusal::Rules(broken)) }
}

/// Start and end of the time that `body` asks for, s since the Unix epoch.
///
/// # Errors
/// Fields that are missing or mistyped, or an end that is not after the start.
pub fn time_range(body: &Value) -> Result<(i64, i64), Refusal> {
    let (start, end) = shape::two_times(body)?;
    rules::time_order(start, end).map_or(Ok((start, end)), |broken| Err(Refusal::Rules(vec![broken])))
}

/// Every number of `request` has been checked to fit.
fn spec(request: &shape::Request, pool: &str) -> FocusJobSpec {
    let fit = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
    FocusJobSpec {
        view_type: request.view,
        channels: ChannelRange { min: fit(request.channels.0), max: fit(request.channels.1) },
        frequency_range: request
            .frequencies
            .map(|(min, max)| FrequencyRange { min: fit(min), max: fit(max) }),
        nfft_selection: fit(request.nfft),
        display_time_axis_duration: request.duration.map(fit),
        display_info: DisplayInfo { height: fit(request.height) },
        start_time: request.start,
        end_time: request.end,
        pool: pool.to_owned(),
        queue: QueueSpec::default(),
        consumer_deadline_seconds: CONSUMER_DEADLINE_S,
        idle_timeout_seconds: IDLE_TIMEOUT_S,
        ttl_seconds_after_finished: Some(TTL_AFTER_FINISHED_S),
        suspend: false,
    }
}

#[cfg(test)]
mod tests {
    use super::rules::MAX_TIME_S;
    use super::*;
    use serde_json::json;

    pub(super) fn base() -> Value {
        json!({"displayTimeAxisDuration":10,"nfftSelection":1024,"channels":{"min":1,"max":50},
               "frequencyRange":{"min":0,"max":500},"view_type":"MULTICHANNEL"})
    }

    /// `base` with the fields of `change`; a field of the value `"-"` is taken out.
    pub(super) fn with(change: Value) -> Value {
        let mut body = base();
        for (key, value) in change.as_object().expect("an object") {
            match value {
                Value::String(s) if s == "-" => drop(body.as_object_mut().expect("an object").remove(key)),
                other => body[key] = other.clone(),
            }
        }
        body
    }

    #[test]
    fn a_plain_request_makes_a_whole_spec() {
        let spec = validate(&base(), "north").expect("valid");
        assert_eq!((spec.channels.min, spec.channels.max, spec.nfft_selection), (1, 50, 1024));
        assert_eq!((spec.display_time_axis_duration, spec.display_info.height), (Some(10), 1000));
        assert_eq!((spec.pool.as_str(), spec.idle_timeout_seconds), ("north", 180));
        assert_eq!(spec.ttl_seconds_after_finished, Some(300));
    }

    #[test]
    fn a_time_range_has_a_start_and_a_later_end() {
        assert_eq!(time_range(&json!({"start_time": 5, "end_time": 6.0})), Ok((5, 6)));
        for body in
            [json!([]), json!({}), json!({"start_time": 5}), json!({"start_time": 5, "end_time": "6"})]
        {
            assert!(matches!(time_range(&body), Err(Refusal::Shape(_))), "{body}");
        }
        for (start, end) in [(5, 5), (6, 5), (-1, 5), (5, MAX_TIME_S + 1), (5, i64::MAX)] {
            let refused = time_range(&json!({"start_time": start, "end_time": end}));
            assert!(matches!(refused, Err(Refusal::Rules(_))), "{start} to {end}");
        }
    }
}
