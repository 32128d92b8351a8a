//! The way of spans to the receiver: bounded, behind everyone's back, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT, SpanData, SpanExporter,
    SpanProcessor,
};

use super::COUNTED;

/// The exporter that runs.
pub struct Exporting {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    /// How many spans may wait, those on their way among them.
    room: usize,
}

/// Starts to export for `service`, if the environment names a receiver. What it says wrongly is told of in the log:
/// no process ends because its traces cannot be had.
pub fn start(service: &'static str) -> Option<Exporting> {
    let endpoint = endpoint(|name| std::env::var(name).ok())?;
    let protocol = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    if let Some(protocol) = protocol.into_iter().find_map(|name| std::env::var(name).ok())
        && protocol != "grpc"
    {
        tracing::warn!(protocol, "traces are exported by gRPC all the same: no other protocol is spoken");
    }
    let exporter = match exporter(&endpoint) {
        Ok(exporter) => exporter,
        Err(error) => {
            tracing::warn!(
                error,
                "starting the export of traces failed, so that there are none; correct the OTEL_* variables"
            );
            return None;
        }
    };
    let room = std::env::var(OTEL_BSP_MAX_QUEUE_SIZE).ok().and_then(|size| size.parse().ok());
    tracing::info!(endpoint, "exporting traces");
    Some(Exporting::new(exporter, &resource(service), room.unwrap_or(OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT)))
}

impl Exporting {
    fn new(exporter: impl SpanExporter + 'static, resource: &Resource, room: usize) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Counted { exporter, waiting: Arc::clone(&waiting), failing: AtomicBool::new(false) };
        // Its own thread; it takes the bounds of its queue and batches from OTEL_BSP_*.
        let mut processor = BatchSpanProcessor::new(counted, Default::default());
        processor.set_resource(resource);
        Self { processor, waiting, room }
    }

    /// Takes a span to be exported, or drops it when too many wait.
    pub fn take(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::AcqRel) < self.room {
            self.processor.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            COUNTED.with_label_values(&["dropped"]).inc();
        }
    }

    /// Exports what waits, within this time. Blocks.
    pub fn finish(&self, within: Duration) {
        if self.processor.shutdown_with_timeout(within).is_err() {
            tracing::debug!("the last spans did not leave in time");
        }
    }
}

/// Where spans are to be sent, if anywhere, as the variables of the OpenTelemetry specification say.
fn endpoint(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let set = |name| variable(name).filter(|value| !value.trim().is_empty());
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
    {
        return None;
    }
    set(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT).or_else(|| set(OTEL_EXPORTER_OTLP_ENDPOINT))
}

fn exporter(endpoint: &str) -> Result<opentelemetry_otlp::SpanExporter, String> {
    if endpoint.contains('@') {
        return Err("an address with a user in it would be logged; use OTEL_EXPORTER_OTLP_HEADERS".to_owned());
    }
    let mut builder = opentelemetry_otlp::SpanExporter::builder().with_tonic();
    if !endpoint.starts_with("http:") {
        builder = builder.with_tls_config(tls()?);
    }
    builder.with_endpoint(endpoint).build().map_err(|error| error.to_string())
}

/// Trusts the system's authorities, and those of `OTEL_EXPORTER_OTLP_CERTIFICATE`.
fn tls() -> Result<ClientTlsConfig, String> {
    let tls = ClientTlsConfig::new().with_native_roots();
    let file = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
    let Some(file) = file.into_iter().find_map(|name| std::env::var(name).ok()) else { return Ok(tls) };
    let pem = std::fs::read(&file).map_err(|error| format!("reading the certificate {file}: {error}"))?;
    Ok(tls.ca_certificate(Certificate::from_pem(pem)))
}

/// What the environment says of this process (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`); its name otherwise.
fn resource(service: &'static str) -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let named = !set("OTEL_SERVICE_NAME").is_empty()
        || set("OTEL_RESOURCE_ATTRIBUTES").split(',').any(|pair| pair.trim().starts_with("service.name="));
    let builder = Resource::builder().with_attribute(version);
    if named { builder.build() } else { builder.with_service_name(service).build() }
}

/// Counts what becomes of spans, and tells when the receiver goes away and comes back.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
        let outcome = if exported.is_ok() { "exported" } else { "dropped" };
        COUNTED.with_label_values(&[outcome]).inc_by(spans as u64);
        let failed = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed => tracing::warn!(
                %error,
                "exporting traces failed; spans are dropped, and counted by focus_trace_spans_total, until the receiver \
                 takes them again"
            ),
            Ok(()) if failed => tracing::info!("traces are exported again"),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_exported_only_where_a_receiver_is_named() {
        const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const OURS: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        type Case = (&'static [(&'static str, &'static str)], Option<&'static str>);
        let cases: [Case; 8] = [
            (&[], None),
            (&[(ALL, "")], None),
            (&[(ALL, "http://a:4317")], Some("http://a:4317")),
            (&[(OURS, "http://b:4317")], Some("http://b:4317")),
            (&[(ALL, "http://a:4317"), (OURS, "http://b:4317")], Some("http://b:4317")),
            (&[(ALL, "http://a:4317"), ("OTEL_SDK_DISABLED", "TRUE")], None),
            (&[(ALL, "http://a:4317"), ("OTEL_SDK_DISABLED", "false")], Some("http://a:4317")),
            (&[(ALL, "http://a:4317"), ("OTEL_TRACES_EXPORTER", "none")], None),
        ];
        for (set, expected) in cases {
            let variable =
                |name: &str| set.iter().find(|(is, _)| *is == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(endpoint(variable).as_deref(), expected, "{set:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_is_refused_in_words() {
        for (address, words) in [("http://user:secret@host:4317", "OTLP_HEADERS"), ("http://a b", "invalid")]
        {
            let error = exporter(address).err().unwrap_or_default();
            assert!(error.contains(words) && !error.contains("secret"), "{error}");
        }
        assert!(exporter("http://collector:4317").is_ok() && exporter("https://collector:4317").is_ok());
    }

    /// A receiver that answers when it is told to.
    #[derive(Debug)]
    struct Slow(std::sync::Mutex<std::sync::mpsc::Receiver<OTelSdkResult>>);

    impl SpanExporter for Slow {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().map_or(Ok(()), |answers| answers.recv().unwrap_or(Ok(())))
        }
    }

    #[test]
    fn what_is_too_much_is_dropped_and_counted_and_nobody_waits() {
        let span = || {
            let trace = super::super::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
            let now = std::time::SystemTime::now();
            let span = super::super::Span {
                name: "pod",
                id: super::super::new_span_id(),
                parent: super::super::SpanId::INVALID,
                kind: opentelemetry::trace::SpanKind::Internal,
                start: now,
                end: now,
                failed: None,
                attributes: Vec::new(),
            };
            super::super::data(&trace.expect("valid"), span)
        };
        let counts = || ["exported", "dropped"].map(|outcome| COUNTED.with_label_values(&[outcome]).get());
        let (answer, answers) = std::sync::mpsc::channel();
        let exporting = Exporting::new(Slow(answers.into()), &resource("focus-test"), 3);
        let [exported, dropped] = counts();
        (0..10).for_each(|_| exporting.take(span()));
        assert_eq!(counts(), [exported, dropped + 7]);
        // The receiver says nothing: the end comes all the same.
        let asked = std::time::Instant::now();
        exporting.finish(Duration::from_millis(50));
        assert!(asked.elapsed() < Duration::from_secs(5));
        // What it refuses is lost, and makes room.
        answer.send(Err(opentelemetry_sdk::error::OTelSdkError::AlreadyShutdown)).expect("it waits");
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while counts() != [exported, dropped + 10] {
            assert!(std::time::Instant::now() < until, "{:?}", counts());
            std::thread::yield_now();
        }
        assert_eq!(exporting.waiting.load(Ordering::Acquire), 0);
    }

    #[test]
    fn the_process_is_called_by_its_role() {
        assert_eq!(resource("focus-test").get(&"service.name".into()), Some("focus-test".into()));
    }
}
