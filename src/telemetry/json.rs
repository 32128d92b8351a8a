//! A line of the log as one flat JSON object: its own fields, and those of the spans around it, so that each line
//! about a job has `namespace`, `job` and `uid` in the same place.

use std::fmt::{self, Debug, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes such lines; the fields of spans must be kept as JSON.
pub struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>();
            let of_span = formatted.map(|formatted| serde_json::from_str(&formatted.fields));
            if let Some(Ok(Value::Object(of_span))) = of_span {
                fields.0.extend(of_span);
            }
        }
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        fields.put("timestamp", time.into());
        fields.put("level", event.metadata().level().as_str().into());
        fields.put("target", event.metadata().target().into());
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // A String takes all.
        let _ = write!(text, "{value:?}");
        self.put(field.name(), text.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::JsonFields;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::about_job;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_is_flat_and_bears_its_job() {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines)
            .fmt_fields(JsonFields::new())
            .with_writer(written.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            about_job("fibre", "18-3", "u", Some("t")).in_scope(|| tracing::info!(lines = 3_u64, "attached"));
            about_job("fibre", "18-3", "u", None)
                .in_scope(|| tracing::warn!(error = %"a \"b\"", seconds = 0.5));
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &mut lines {
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        }
        let target = module_path!();
        assert_eq!(
            lines,
            [
                json!({"namespace": "fibre", "job": "18-3", "uid": "u", "trace_id": "t", "lines": 3,
                    "message": "attached", "level": "INFO", "target": target}),
                json!({"namespace": "fibre", "job": "18-3", "uid": "u", "error": "a \"b\"", "seconds": 0.5,
                    "level": "WARN", "target": target}),
            ]
        );
    }
}
