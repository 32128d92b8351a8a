//! Which fields a body has, and of which type. Pure.

use serde_json::{Map, Value};

use super::{FieldError, Refusal};
use crate::api::focusjob::{DisplayInfo, ViewType};

/// The request as typed, before any rule.
pub(super) struct Request {
    pub(super) view: ViewType,
    pub(super) channels: (i64, i64),
    pub(super) frequencies: Option<(i64, i64)>,
    pub(super) nfft: i64,
    pub(super) duration: Option<i64>,
    pub(super) height: i64,
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
}

/// The request that `body` holds.
///
/// # Errors
/// All fields that are missing or mistyped.
pub(super) fn parse(body: &Value) -> Result<Request, Refusal> {
    let (mut reader, root) = Reader::of(body)?;
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

/// Start and end that `body` holds.
///
/// # Errors
/// Those of them that are missing or mistyped.
pub(super) fn two_times(body: &Value) -> Result<(i64, i64), Refusal> {
    let (mut reader, root) = Reader::of(body)?;
    let times = (reader.required(root, &[], "start_time"), reader.required(root, &[], "end_time"));
    let (Some(start), Some(end)) = times else { return Err(Refusal::Shape(reader.errors)) };
    Ok((start, end))
}

/// Collects the errors of all fields, so that a client learns of them at once.
struct Reader {
    errors: Vec<FieldError>,
}

impl Reader {
    fn of(body: &Value) -> Result<(Self, &Map<String, Value>), Refusal> {
        let none = || field_error(&[], "the body must be a JSON object", "type_error");
        let root = body.as_object().ok_or_else(|| Refusal::Shape(vec![none()]))?;
        Ok((Self { errors: Vec::new() }, root))
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::validate::tests::with;
    use crate::server::validate::validate;
    use serde_json::json;

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
}
