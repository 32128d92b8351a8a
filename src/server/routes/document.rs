//! What the OpenAPI document says of bodies that no type of the program describes.

use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType};
use utoipa::{OpenApi, ToSchema};

use crate::server::validate::FieldError;

/// The document, without its paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Focus Server",
        description = "Live and historic views of a fibre (DAS). A job is a FocusJob of the server's namespace. Every answer has the header `x-request-id`: the request's own, or one made here.",
    ),
    tags(
        (name = "jobs", description = "Make, watch, read and end jobs"),
        (name = "source", description = "What there is to see"),
    )
)]
pub struct Document;

/// Asks for a view. null counts as absent, an integer may be written as 10.0, unknown fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it; the body is read field by field")]
#[schema(rename_all = "camelCase", example = json!({
    "displayTimeAxisDuration": 10, "nfftSelection": 1024, "channels": {"min": 1, "max": 50},
    "frequencyRange": {"min": 0, "max": 500}, "view_type": "MULTICHANNEL"
}))]
pub struct ConfigureRequest {
    /// MULTICHANNEL ("0", 0), SINGLECHANNEL ("1", 1) or WATERFALL ("2", 2).
    #[schema(rename = "view_type", schema_with = view_type)]
    view_type: String,
    /// Channels, counted from 1, both ends included; at most 2500. SINGLECHANNEL: one.
    channels: ChannelsBody,
    /// Frequencies, Hz; at least 1 Hz wide, at most half the sample rate. Not for WATERFALL, else required.
    frequency_range: Option<FrequenciesBody>,
    /// Window length, samples. MULTICHANNEL: 256 to 2048.
    #[schema(schema_with = nfft)]
    nfft_selection: i64,
    /// Length of the time axis, s. Not for WATERFALL, else required.
    #[schema(minimum = 1, maximum = 86400)]
    display_time_axis_duration: Option<i64>,
    /// Size of the display.
    display_info: Option<DisplayBody>,
    /// Start of a historic view, s since the Unix epoch; with `end_time`.
    #[schema(rename = "start_time", minimum = 0, maximum = 253_402_300_799_i64)]
    start_time: Option<i64>,
    /// End of a historic view, s since the Unix epoch; after `start_time`.
    #[schema(rename = "end_time", minimum = 1, maximum = 253_402_300_799_i64)]
    end_time: Option<i64>,
}

/// Channels, both ends included.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
pub struct ChannelsBody {
    #[schema(minimum = 1)]
    min: i64,
    #[schema(minimum = 1)]
    max: i64,
}

/// Frequencies, Hz, both ends included.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
pub struct FrequenciesBody {
    #[schema(minimum = 0)]
    min: i64,
    #[schema(minimum = 1)]
    max: i64,
}

/// The display's size.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
pub struct DisplayBody {
    /// Lines on the time axis; default 1000.
    #[schema(minimum = 1, maximum = 100000)]
    height: Option<i64>,
}

/// A stretch of time, s since the Unix epoch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
#[schema(example = json!({"start_time": 1_767_225_600, "end_time": 1_767_229_200}))]
pub struct TimeRange {
    #[schema(minimum = 0, maximum = 253_402_300_799_i64)]
    start_time: i64,
    /// After `start_time`.
    #[schema(minimum = 1, maximum = 253_402_300_799_i64)]
    end_time: i64,
}

/// Lines.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it; the body is written by hand, for speed")]
pub struct RowsBody {
    /// The lines, the oldest first.
    rows: Vec<RowBody>,
    /// Highest level that the lines can show, dB.
    current_max_amp: f64,
    /// Lowest level that the lines can show, dB.
    current_min_amp: f64,
}

/// A line.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
#[schema(rename_all = "camelCase")]
pub struct RowBody {
    /// The job's id.
    canvas_id: String,
    /// One for each channel.
    sensors: Vec<SensorBody>,
    /// Time of the window's first sample, ms since the Unix epoch.
    start_timestamp: i64,
    /// Time of the window's end, ms since the Unix epoch.
    end_timestamp: i64,
}

/// A channel within a line.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
pub struct SensorBody {
    /// The channel's number.
    id: i64,
    /// Level of each frequency, dB.
    intensity: Vec<f64>,
}

/// A refusal.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
pub struct ErrorBody {
    /// What went wrong, in fixed words.
    #[schema(example = "Validation failed")]
    error: String,
    /// CamelCase cause, of a 503.
    #[schema(nullable = false)]
    reason: Option<String>,
    /// A sentence for a person.
    #[schema(nullable = false)]
    details: Option<String>,
}

/// A refused body.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
pub struct DetailBody {
    /// A sentence for a person.
    detail: String,
}

/// Fields that are missing or mistyped, all of them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document is made from it")]
pub struct FieldsBody {
    /// Where, what and of which kind.
    detail: Vec<FieldError>,
}

fn view_type() -> Schema {
    let values = [json!("MULTICHANNEL"), json!("SINGLECHANNEL"), json!("WATERFALL")];
    let digits = [json!("0"), json!("1"), json!("2"), json!(0), json!(1), json!(2)];
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .enum_values(Some(values.into_iter().chain(digits)))
        .description(Some("MULTICHANNEL (\"0\", 0), SINGLECHANNEL (\"1\", 1) or WATERFALL (\"2\", 2)."))
        .build()
        .into()
}

fn nfft() -> Schema {
    let powers = (7..=16).map(|exponent| json!(1 << exponent));
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(utoipa::openapi::Type::Integer))
        .enum_values(Some(powers))
        .description(Some("Window length, samples. MULTICHANNEL: 256 to 2048."))
        .build()
        .into()
}
