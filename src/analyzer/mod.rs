//! The reference analyzer: reads a fibre source, computes the spectrogram lines of one job's view and
//! publishes them on the job's queue. `docs/analyzer-contract.md` is the contract it fulfils.
//!
//! A thread computes lines at their time (`engine`); a bounded buffer (`outbox`) hands them to the task
//! that publishes them (`publish`). The thread never waits for the broker.

#[doc(hidden)]
pub mod bench;
mod engine;
mod error;
mod flight;
mod geometry;
mod lines;
pub mod metrics;
mod outbox;
mod publish;
mod readiness;
mod settings;
pub mod source;
pub mod spectrogram;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::broker::BrokerArgs;
use crate::telemetry::traces::{self, JobTrace, Steps};
use crate::wire::End;
use crate::{health, shutdown};
use engine::Engine;
use error::AnalyzerError;
use metrics::Metrics;
use outbox::Outbox;
use publish::Publisher;
use readiness::Readiness;
use settings::Settings;

/// How long after SIGTERM the last lines and the end may take.
const GRACE: Duration = Duration::from_millis(1500);
/// The same when the queue is out of reach anyway.
const GRACE_WITHOUT_BROKER: Duration = Duration::from_millis(100);

/// The environment that the operator gives to the analyzer of a job.
///
/// Nothing is required here: what is missing is reported as exit code 64 and in the termination log.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The job's spec: JSON of a FocusJob's `spec`.
    #[arg(long, env = "FOCUS_SPEC")]
    spec: Option<Box<str>>,
    /// The source: JSON of an AnalyzerPool's `spec.source`.
    #[arg(long, env = "FOCUS_SOURCE")]
    source: Option<Box<str>>,
    /// Name of the queue, which the operator declares.
    #[arg(long, env = "FOCUS_QUEUE")]
    queue: Option<Box<str>>,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Name of the FocusJob.
    #[arg(long, env = "FOCUS_JOB_NAME")]
    job_name: Option<Box<str>>,
    /// Namespace of the FocusJob.
    #[arg(long, env = "FOCUS_JOB_NAMESPACE")]
    job_namespace: Option<Box<str>>,
    /// metadata.uid of the FocusJob.
    #[arg(long, env = "FOCUS_JOB_UID")]
    job_uid: Option<Box<str>>,
    /// W3C trace context that the analyzer's spans are parts of.
    #[arg(long, env = "TRACEPARENT")]
    traceparent: Option<Box<str>>,
    /// What goes with it.
    #[arg(long, env = "TRACESTATE")]
    tracestate: Option<Box<str>>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "FOCUS_HEALTH_ADDR", default_value = "0.0.0.0:8082")]
    health_addr: String,
    /// Where Kubernetes reads why the analyzer ended.
    #[arg(long, env = "FOCUS_TERMINATION_LOG", default_value = "/dev/termination-log")]
    termination_log: PathBuf,
}

/// Runs the analyzer until its recording is over, its input proves useless, or SIGTERM comes.
///
/// Exit codes: 0 finished, 64 bad environment, 65 input that cannot work, 1 trouble with the machine.
pub async fn run(args: Args) -> ExitCode {
    let trace = trace(&args);
    let log = trace.log();
    let steps = Arc::new(Steps::new(trace.clone(), trace.within()));
    match analyze(&args, steps).instrument(log).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error::report(&error, &args.termination_log);
            ExitCode::from(error.exit_code())
        }
    }
}

/// The trace that the operator has put this analyzer into; that of the job's uid where it has not.
fn trace(args: &Args) -> JobTrace {
    let given =
        args.traceparent.as_deref().and_then(|parent| traces::parse(parent, args.tracestate.as_deref()));
    let [namespace, name, uid] = [&args.job_namespace, &args.job_name, &args.job_uid]
        .map(|value| value.as_deref().unwrap_or_default());
    JobTrace::new(namespace, name, uid, given)
}

/// What is there once the analyzer has started.
struct Started {
    settings: Arc<Settings>,
    stop: CancellationToken,
    metrics: Metrics,
    readiness: Arc<Readiness>,
}

async fn start(args: &Args) -> Result<Started, AnalyzerError> {
    let settings = Arc::new(Settings::from_args(args).await?);
    let stop =
        shutdown::on_signal().map_err(|source| AnalyzerError::Start { what: "handling signals", source })?;
    let (metrics, registry) = Metrics::new().expect("the metrics have different names");
    let readiness = Arc::new(Readiness::default());
    serve_health(&settings, registry, readiness.clone()).await?;
    Ok(Started { settings, stop, metrics, readiness })
}

async fn analyze(args: &Args, steps: Arc<Steps>) -> Result<(), AnalyzerError> {
    let (started, began) = (Instant::now(), SystemTime::now());
    let ready = start(args).await;
    steps.once("start", began, ready.as_ref().err().map(AnalyzerError::reason));
    let Started { settings, stop, metrics, readiness } = ready?;
    let outbox = Arc::new(Outbox::new(metrics.clone()));
    let (header, header_ready) = watch::channel(None);
    let publisher = Publisher {
        broker: settings.broker.clone(),
        queue: settings.queue.as_str().into(),
        job: settings.job.clone(),
        outbox: outbox.clone(),
        header: header_ready,
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        started,
        steps: steps.clone(),
        began,
    };
    let publisher = tokio::spawn(publisher.run().in_current_span());
    let (stop_engine, stopped) = mpsc::channel();
    let engine = Engine {
        settings,
        outbox: outbox.clone(),
        header,
        readiness: readiness.clone(),
        metrics,
        steps,
        stop: stopped,
    };
    let end = tokio::select! {
        outcome = engine.start()? => {
            outcome.map_err(|_| crashed())??;
            End { reason: "Completed".to_owned(), message: "The recording has been played to its end.".to_owned() }
        }
        () = stop.cancelled() => {
            End { reason: "Terminated".to_owned(), message: "The analyzer was told to stop.".to_owned() }
        }
    };
    drop(stop_engine);
    outbox.close(end);
    finish(publisher, &stop, &readiness).await;
    Ok(())
}

/// Waits until the end is published; after a signal, no longer than the grace time.
async fn finish(mut publisher: JoinHandle<()>, stop: &CancellationToken, readiness: &Readiness) {
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(if readiness.has_broker() { GRACE } else { GRACE_WITHOUT_BROKER }).await;
    };
    tokio::select! {
        _ = &mut publisher => {}
        () = too_late => {
            tracing::warn!("the broker did not take the end in time");
            publisher.abort();
        }
    }
}

async fn serve_health(
    settings: &Settings,
    registry: prometheus::Registry,
    readiness: Arc<Readiness>,
) -> Result<(), AnalyzerError> {
    let addr = settings.health_addr;
    let listener = tokio::net::TcpListener::bind(addr)
        .await
        .map_err(|source| AnalyzerError::HealthPort { addr, source })?;
    let routes = health::routes(registry, Arc::new(move || readiness.awaited()));
    let serve = async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "probes and metrics are not served any more");
        }
    };
    tokio::spawn(serve.in_current_span());
    Ok(())
}

fn crashed() -> AnalyzerError {
    let source = std::io::Error::other("it panicked; the log tells where");
    AnalyzerError::Start { what: "the thread that computes lines", source }
}
