//! What every role tells of itself: logs, metrics of its process, and traces.
//!
//! Logs go to standard error, as text on a terminal and as JSON otherwise, filtered by `FOCUS_LOG`.

mod json;
pub mod process;
pub mod traces;

use std::io::IsTerminal;

use prometheus::core::Collector;
use prometheus::{IntGaugeVec, Opts, Registry};
use tracing::{Level, Metadata, Span};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging. `FOCUS_LOG` takes tracing's filter syntax, such as `info,focus_operator=debug`;
/// `FOCUS_LOG_FORMAT` takes `text` or `json`.
pub fn init(default_filter: &str) {
    let filter = EnvFilter::try_from_env("FOCUS_LOG").unwrap_or_else(|_| EnvFilter::new(default_filter));
    let terminal = std::io::stderr().is_terminal();
    let json = match std::env::var("FOCUS_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        _ => !terminal,
    };
    let filter = filter.and(filter_fn(|line| !tells_secrets(line)));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.event_format(json::Lines).fmt_fields(fmt::format::JsonFields::new()).with_filter(filter).boxed()
    } else {
        lines.with_ansi(terminal).with_filter(filter).boxed()
    };
    // A second start, as in tests, keeps the first.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// lapin traces whole frames, and the login is one of them.
fn tells_secrets(line: &Metadata<'_>) -> bool {
    *line.level() == Level::TRACE && line.target().starts_with("lapin")
}

/// What is done within this span is about one job: each line of the log bears these fields.
pub fn about_job(namespace: &str, job: &str, uid: &str, trace_id: Option<&str>) -> Span {
    // Of the highest level, so that no filter takes the fields away from lines that it lets pass.
    tracing::error_span!("job", namespace, job, uid, trace_id)
}

/// Adds to `registry` what runs (`focus_build_info`, with `role`), what its process uses (`process_*`), and what became
/// of its spans.
///
/// # Errors
/// When metrics of these names are there already.
pub fn describe_process(registry: &Registry, role: &str) -> prometheus::Result<()> {
    let build = Opts::new("focus_build_info", "Always 1; its labels tell what runs.");
    let build = register(registry, IntGaugeVec::new(build, &["version", "role"])?)?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), role]).set(1);
    register(registry, traces::counted())?;
    registry.register(Box::new(process::Process::own()?))
}

/// Adds `metric` to `registry`, and gives it back to be counted with.
///
/// # Errors
/// When a metric of its name is there already.
pub fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
