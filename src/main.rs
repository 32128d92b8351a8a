//! The `focus` command: one binary, a role for each part of the system.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use focus_operator::{
    analyzer, api, bench, crd_reference, metrics_reference, operator, picture, probe, server, setup,
    telemetry,
};

/// A look at a missing queue closes its channel, which is no error here but one in the words of lapin.
const LOG: &str = "info,lapin::channel=off";

/// How long the end of operator and server waits for their last spans.
const FLUSH: Duration = Duration::from_secs(2);
/// The same for an analyzer, which is to end within 2 s of SIGTERM, its last lines included.
const FLUSH_OF_ANALYZER: Duration = Duration::from_millis(400);

/// Live fibre sensing (DAS) on Kubernetes.
#[derive(Parser)]
#[command(name = "focus", version, about)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Reconciles FocusJobs: analyzer pod, queue, phases, metrics.
    Operator(operator::Args),
    /// The Focus Server: HTTP API and consumers.
    Server(Box<server::Args>),
    /// The reference analyzer: DAS source to spectrogram lines on the job's queue.
    Analyzer(analyzer::Args),
    /// Measures how long each phase takes, seen from outside.
    Probe(probe::Args),
    /// Measures the Focus Server under load: configure requests, and streams of lines.
    Bench(Box<bench::Args>),
    /// Draws the newest lines of a job as a PNG.
    Picture(picture::Args),
    /// Prints a recording as the `source` of an AnalyzerPool (JSON).
    Source(SourceArgs),
    /// Prints the CustomResourceDefinitions as YAML, or their reference as Markdown.
    Crd(CrdArgs),
    /// Prints the reference of all metrics as Markdown.
    Metrics,
    /// What the Helm chart's hooks do: applies the first AnalyzerPool, deletes all jobs.
    Setup(setup::Args),
}

#[derive(clap::Args)]
struct SourceArgs {
    /// The recording.
    file: String,
    /// Where the analyzer will find it. Default: the same path.
    #[arg(long)]
    mounted_at: Option<String>,
}

#[derive(clap::Args)]
struct CrdArgs {
    /// Print only the definition of this plural name, such as `focusjobs`.
    plural: Option<String>,
    /// Print the reference of all fields as Markdown.
    #[arg(long, conflicts_with = "plural")]
    reference: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().role {
        Role::Operator(args) => {
            telemetry::init(LOG);
            telemetry::traces::start("focus-operator", FLUSH);
            operator::run(args).await.map(|()| ExitCode::SUCCESS)
        }
        Role::Server(args) => {
            telemetry::init(LOG);
            telemetry::traces::start("focus-server", FLUSH);
            server::run(*args).await.map(|()| ExitCode::SUCCESS)
        }
        Role::Analyzer(args) => {
            telemetry::init("info,lapin::returned_messages=error");
            telemetry::traces::start("focus-analyzer", FLUSH_OF_ANALYZER);
            Ok(analyzer::run(args).await)
        }
        Role::Probe(args) => {
            telemetry::init("warn");
            probe::run(args).await
        }
        Role::Bench(args) => {
            telemetry::init("warn");
            bench::run(*args).await
        }
        Role::Picture(args) => picture::run(args).await.map(|()| ExitCode::SUCCESS),
        Role::Source(args) => print_source(&args).map(|()| ExitCode::SUCCESS),
        Role::Crd(args) if args.reference => crd_reference::markdown().map(print_text),
        Role::Crd(args) => print_crds(args.plural.as_deref()).map(|()| ExitCode::SUCCESS),
        Role::Metrics => metrics_reference::markdown().map(print_text),
        Role::Setup(args) => {
            telemetry::init("warn");
            setup::run(args).await.map(|()| ExitCode::SUCCESS)
        }
    };
    let code = outcome.unwrap_or_else(|error| {
        eprintln!("focus: {error:#}");
        ExitCode::FAILURE
    });
    telemetry::traces::finish().await;
    code
}

fn print_text(text: String) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

/// Runs alone in its process, so that reading a file may block.
fn print_source(args: &SourceArgs) -> anyhow::Result<()> {
    let found = analyzer::source::Recording::open(&args.file)?;
    let source = api::AnalyzerSource {
        uri: format!("file://{}", args.mounted_at.as_deref().unwrap_or(&args.file)),
        recordings: None,
        sample_rate_hz: found.rate_hz,
        channels: i32::try_from(found.channels)?,
        dx_meters: found.dx_m.unwrap_or(1.0),
        fiber_start_meters: 0.0,
        pulse_rate_hz: None,
        dtype: found.dtype,
        description: found.text,
    };
    println!("{}", serde_json::to_string(&source)?);
    Ok(())
}

fn print_crds(plural: Option<&str>) -> anyhow::Result<()> {
    let crds = api::crds::all();
    let wanted: Vec<_> =
        crds.iter().filter(|crd| plural.is_none_or(|plural| crd.spec.names.plural == plural)).collect();
    anyhow::ensure!(!wanted.is_empty(), "no resource has that plural; there are focusjobs and analyzerpools");
    for crd in wanted {
        println!("---\n{}", api::crds::to_yaml(crd)?.trim_end());
    }
    Ok(())
}
