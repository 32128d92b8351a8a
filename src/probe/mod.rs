//! `focus probe`: how long each phase of a job takes, seen from outside.
//!
//! | mode | what it does |
//! |---|---|
//! | default | configures jobs through the Focus Server, as its clients do |
//! | `--kubectl` | creates FocusJobs through the Kubernetes API |
//! | `--load` (hidden) | a load generator: a fake kubelet and a fake consumer drive the operator alone |
//! | `--hold` (hidden) | waits for SIGTERM; the bare pod of the floor runs it |
//!
//! Times are differences of this process' monotonic clock at the moment when an answer, a watch event or a
//! broker event arrived here; rows named `status:` are the operator's own `phaseSeconds`. Beneath them stands
//! the floor: what the cluster and the broker need for a bare pod and a bare queue, measured in the same run.

pub(crate) mod args;
pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod exposition;
mod floor;
pub(crate) mod load;
mod outcome;
mod pod;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod stats;
mod through_api;
mod through_server;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

pub(crate) use args::duration;

use crate::shutdown;
use report::Report;

/// The probe's name in the broker's list of connections.
const NAME: &str = "focus probe";

/// Command line of `focus probe`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    #[command(flatten)]
    options: Box<args::Options>,
}

/// Runs the probe. The exit code is 1 when a job's consumer was too slow or never came.
///
/// # Errors
/// When nothing could be measured: a server, cluster or broker that does not answer.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let args = &*args.options;
    let stop = shutdown::on_signal()?;
    if args.hold {
        stop.cancelled().await;
        return Ok(ExitCode::SUCCESS);
    }
    let report = if args.load { load::run(args, &stop).await? } else { run::run(args, &stop).await? };
    deliver(&report, args.json, args.json_file.as_deref()).await
}

/// Prints `report`, as JSON or as a table, and writes it to `file`. The exit code is 1 when it has failures.
///
/// # Errors
/// When the file cannot be written.
pub(crate) async fn deliver(report: &Report, json: bool, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let text = serde_json::to_string_pretty(report).context("writing the report as JSON")?;
    if let Some(file) = file {
        let written = tokio::fs::write(file, format!("{text}\n")).await;
        written.with_context(|| format!("writing the report to {}", file.display()))?;
    }
    if json {
        println!("{text}");
    } else {
        print!("{}", report.to_text());
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
