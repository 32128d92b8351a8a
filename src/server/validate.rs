//! From the body of `POST /configure` to a FocusJobSpec, or a refusal. Pure.

use serde_json::{Map, Value};

use crate::api::FocusJobSpec;
use crate::api::focusjob::{ChannelRange, DisplayInfo, FrequencyRange, QueueSpec, ViewType};

/// Most channels of one view.
const MAX_CHANNELS: i64 = 2500;
/// Longest time axis, s.
const MAX_DURATION_S: i64 = 86_400;
/// Most lines on the time axis.
const MAX_HEIGHT: i64 = 100_000;
/// Latest time, s since the Unix epoch: 9999-12-31T23:59:59Z.
pub const MAX_TIME_S: i64 = 253_402_300_799;
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
    let request = parse(body)?;
    let broken = broken_rules(&request);
    if broken.is_empty() { Ok(spec(&request, pool)) } else { Err(Refusal::Rules(broken)) }
}

/// Start and end of the time that `body` asks for, s since the Unix epoch.
///
/// # Errors
/// Fields that are missing or mistyped, or an end that is not after the start.
pub fn time_range(body: &Value) -> Result<(i64, i64), Refusal> {
    let mut reader = Reader { errors: Vec::new() };
    let Some(root) = body.as_object() else {
        return Err(Refusal::Shape(vec![field_error(&[], "the body must be a JSON object", "type_error")]));
    };
    let start = reader.required(root, &[], "start_time");
    let end = reader.required(root, &[], "end_time");
    match (start, end) {
        (Some(start), Some(end)) => {
            time_order(start, end).map_or(Ok((start, end)), |broken| Err(Refusal::Rules(vec![broken])))
        }
        _ => Err(Refusal::Shape(reader.errors)),
    }
}

/// The request as typed, before any rule.
struct Request {
    view: ViewType,
    channels: (i64, i64),
    frequencies: Option<(i64, i64)>,
    nfft: i64,
    duration: Option<i64>,
    height: i64,
    start: Option<i64>,
    end: Option<i64>,
}

fn parse(body: &Value) -> Result<Request, Refusal> {
    let mut reader = Reader { errors: Vec::new() };
    let Some(root) = body.as_object() else {
        return Err(Refusal::Shape(vec![field_error(&[], "the body must be a JSON object", "type_error")]));
    };
    let view = reader.view(root);
    let channels = reader.range(root, "channels");
    let waterfall = view == Some(ViewType::Waterfall);
    let frequencies = (!waterfall || present(root, "frequencyRange").is_some())
        .then(|| reader.range(root, "frequencyRange"))
        .flatten();
    let duration = if waterfall {
        reader.optional(root, &[], "displayTimeAxisDuration")
    } else {
        reader.required(root, &[], "displayTimeAxisDuration")
    };
    let nfft = reader.required(root, &[], "nfftSelection");
    let height = reader.height(root);
    let start = reader.optional(root, &[], "start_time");
    let end = reader.optional(root, &[], "end_time");
    match (view, channels, nfft, height) {
        (Some(view), Some(channels), Some(nfft), Some(height)) if reader.errors.is_empty() => {
            Ok(Request { view, channels, frequencies, nfft, duration, height, start, end })
        }
        _ => Err(Refusal::Shape(reader.errors)),
    }
}

/// Collects the errors of all fields, so that a client learns of them at once.
struct Reader {
    errors: Vec<FieldError>,
}

impl Reader {
    fn view(&mut self, root: &Map<String, Value>) -> Option<ViewType> {
        const WORDS: &str = "view_type must be MULTICHANNEL (0), SINGLECHANNEL (1) or WATERFALL (2)";
        let Some(value) = present(root, "view_type") else {
            self.errors.push(field_error(&["view_type"], "field required: view_type", "missing"));
            return None;
        };
        let word = match value {
            Value::String(word) => word.trim().to_ascii_uppercase(),
            other => integer(other).map(|n| n.to_string()).unwrap_or_default(),
        };
        let view = match word.as_str() {
            "MULTICHANNEL" | "0" => Some(ViewType::MultiChannel),
            "SINGLECHANNEL" | "1" => Some(ViewType::SingleChannel),
            "WATERFALL" | "2" => Some(ViewType::Waterfall),
            _ => None,
        };
        if view.is_none() {
            self.errors.push(field_error(&["view_type"], WORDS, "type_error"));
        }
        view
    }

    fn range(&mut self, root: &Map<String, Value>, name: &str) -> Option<(i64, i64)> {
        let object = self.object(root, name)?;
        let (min, max) = (self.required(object, &[name], "min"), self.required(object, &[name], "max"));
        Some((min?, max?))
    }

    fn height(&mut self, root: &Map<String, Value>) -> Option<i64> {
        let default = i64::from(DisplayInfo::default().height);
        if present(root, "displayInfo").is_none() {
            return Some(default);
        }
        let info = self.object(root, "displayInfo")?;
        if present(info, "height").is_none() {
            return Some(default);
        }
        self.required(info, &["displayInfo"], "height")
    }

    fn object<'a>(&mut self, root: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
        match present(root, name) {
            Some(Value::Object(object)) => Some(object),
            Some(_) => {
                self.errors.push(field_error(&[name], &format!("{name} must be an object"), "type_error"));
                None
            }
            None => {
                self.errors.push(field_error(&[name], &format!("field required: {name}"), "missing"));
                None
            }
        }
    }

    fn required(&mut self, object: &Map<String, Value>, path: &[&str], name: &str) -> Option<i64> {
        if present(object, name).is_none() {
            let (path, dotted) = dotted(path, name);
            self.errors.push(field_error(&path, &format!("field required: {dotted}"), "missing"));
            return None;
        }
        self.optional(object, path, name)
    }

    fn optional(&mut self, object: &Map<String, Value>, path: &[&str], name: &str) -> Option<i64> {
        let number = integer(present(object, name)?);
        if number.is_none() {
            let (path, dotted) = dotted(path, name);
            self.errors.push(field_error(&path, &format!("{dotted} must be an integer"), "type_error"));
        }
        number
    }
}

fn dotted<'a>(path: &[&'a str], name: &'a str) -> (Vec<&'a str>, String) {
    let whole: Vec<&str> = path.iter().copied().chain([name]).collect();
    let dotted = whole.join(".");
    (whole, dotted)
}

fn present<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// An integer, also when written as `10.0`.
fn integer(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        // Numbers beyond i64 are integers too; the rules then say what is wrong with them.
        let float = value.as_f64().filter(|f| f.fract() == 0.0)?;
        Some(float.clamp(-EXACT, EXACT) as i64)
    })
}

fn field_error(path: &[&str], msg: &str, kind: &'static str) -> FieldError {
    let loc = std::iter::once("body").chain(path.iter().copied()).map(str::to_owned).collect();
    FieldError { loc, msg: msg.to_owned(), kind }
}

fn broken_rules(request: &Request) -> Vec<String> {
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
    } else if max - min < 1 {
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

/// Every number of `request` has been checked to fit.
fn time_order(start: i64, end: i64) -> Option<String> {
    if start < 0 || end <= start {
        return Some(format!(
            "end_time must be after start_time, both in seconds since the Unix epoch, got {start} to {end}"
        ));
    }
    (end > MAX_TIME_S)
        .then(|| format!("end_time must be at most {MAX_TIME_S}, the end of the year 9999, got {end}"))
}

fn spec(request: &Request, pool: &str) -> FocusJobSpec {
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
    use super::*;
    use serde_json::json;

    fn base() -> Value {
        json!({"displayTimeAxisDuration":10,"nfftSelection":1024,"channels":{"min":1,"max":50},
               "frequencyRange":{"min":0,"max":500},"view_type":"MULTICHANNEL"})
    }

    /// `base` with the fields of `change`; a field of the value `"-"` is taken out.
    fn with(change: Value) -> Value {
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
    fn the_view_type_is_met_in_three_forms() {
        let single = json!({"min": 3, "max": 3});
        for (view, wanted) in [
            (json!("MULTICHANNEL"), ViewType::MultiChannel),
            (json!("0"), ViewType::MultiChannel),
            (json!(0), ViewType::MultiChannel),
            (json!("SINGLECHANNEL"), ViewType::SingleChannel),
            (json!("1"), ViewType::SingleChannel),
            (json!(1), ViewType::SingleChannel),
            (json!("multichannel"), ViewType::MultiChannel),
        ] {
            let spec = validate(&with(json!({"view_type": view, "channels": single})), "default");
            assert_eq!(spec.map(|s| s.view_type), Ok(wanted), "{view}");
        }
        for view in [json!("WATERFALL"), json!("2"), json!(2)] {
            let body =
                with(json!({"view_type": view, "displayTimeAxisDuration": "-", "frequencyRange": null}));
            assert_eq!(validate(&body, "p").map(|s| s.view_type), Ok(ViewType::Waterfall), "{view}");
        }
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
    fn missing_and_mistyped_fields_are_named() {
        for (change, loc, kind) in [
            (json!({"channels": "-"}), "body.channels", "missing"),
            (json!({"channels": [1, 2]}), "body.channels", "type_error"),
            (json!({"channels": {"min": 1}}), "body.channels.max", "missing"),
            (json!({"channels": {"min": "1", "max": 2}}), "body.channels.min", "type_error"),
            (json!({"nfftSelection": null}), "body.nfftSelection", "missing"),
            (json!({"nfftSelection": 1024.5}), "body.nfftSelection", "type_error"),
            (json!({"nfftSelection": true}), "body.nfftSelection", "type_error"),
            (json!({"displayTimeAxisDuration": "-"}), "body.displayTimeAxisDuration", "missing"),
            (json!({"frequencyRange": "-"}), "body.frequencyRange", "missing"),
            (json!({"view_type": "-"}), "body.view_type", "missing"),
            (json!({"view_type": 7}), "body.view_type", "type_error"),
            (json!({"view_type": true}), "body.view_type", "type_error"),
            (json!({"displayInfo": 5}), "body.displayInfo", "type_error"),
            (json!({"displayInfo": {"height": "x"}}), "body.displayInfo.height", "type_error"),
            (json!({"start_time": "noon"}), "body.start_time", "type_error"),
        ] {
            let Err(Refusal::Shape(errors)) = validate(&with(change.clone()), "p") else {
                panic!("{change} passed")
            };
            assert_eq!(errors.len(), 1, "{change}: {errors:?}");
            assert_eq!((errors[0].loc.join("."), errors[0].kind), (loc.to_owned(), kind), "{change}");
        }
        assert!(matches!(validate(&json!([]), "p"), Err(Refusal::Shape(_))));
    }

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
