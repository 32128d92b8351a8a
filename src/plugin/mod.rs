//! `kubectl focus`: what the FocusJobs of a cluster wait for, and why, at a terminal or in a pipe.
//!
//! | command | what it does |
//! |---|---|
//! | `status [JOB]` | one job with its phases as bars, conditions and Events; or a table of all |
//! | `watch` | the table, live |
//! | `trace JOB…` | milestones and Events as a file for a trace viewer |
//! | `report` | what a bug report needs, with secrets taken out |
//! | `probe` | the timing probe |
//! | `completion`, `version` | |
//!
//! It needs only to read FocusJobs and Events; `report` takes what else it may read. `show` and `redact` are pure.

mod args;
mod cluster;
mod completion;
mod find;
mod redact;
mod report;
mod screen;
mod show;
mod status;
mod trace;
mod version;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{probe, telemetry};

/// Exit codes, as `--help` tells them.
const CODES: &str = "\
Exit codes:
  0  done; of `status JOB`: ready, finished or suspended
  1  it could not be told, or the probe found a consumer too slow
  2  wrong usage
  3  `status JOB`: something is awaited
  4  `status JOB`: failed";

/// What FocusJobs wait for, and why.
#[derive(Parser)]
#[command(name = "kubectl-focus", bin_name = "kubectl focus", version, about, after_help = CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows one job with its phases, conditions and Events, or a table of all jobs.
    Status(Box<status::Args>),
    /// Shows the table of jobs and keeps it up to date; without a terminal, a line for each change.
    Watch(Box<watch::Args>),
    /// Writes the milestones and Events of jobs as a file for a trace viewer, such as ui.perfetto.dev.
    Trace(Box<trace::Args>),
    /// Writes what a bug report needs into a tar.gz, with secrets taken out.
    Report(Box<report::Args>),
    /// Measures how long each phase of a job takes, seen from outside.
    Probe(Box<probe::Args>),
    /// Prints a script that completes this program's command line.
    Completion(completion::Args),
    /// Shows the versions of this program and of the cluster.
    Version(Box<version::Args>),
    /// What kubectl asks when it completes `kubectl focus`.
    #[command(name = "__complete", hide = true)]
    Complete(completion::Words),
}

/// The command line. `probe` takes `-n` for the namespace here, as every command of kubectl does.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("probe", |probe| {
        probe.mut_arg("jobs", |jobs| jobs.short(None)).mut_arg("namespace", |namespace| namespace.short('n'))
    })
}

/// Runs the plugin.
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = parsed.unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        // What is asked while a person types: no runtime unless it is needed.
        Command::Complete(words) => completion::complete(&words),
        Command::Completion(args) => completion::script(args),
        command => in_runtime(command),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.is::<Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubectl focus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn in_runtime(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let outcome = runtime.block_on(async {
        // What the client tells of its retries is for nobody here.
        let probes = matches!(command, Command::Probe(_));
        telemetry::init(if probes { "warn" } else { "off" });
        match command {
            Command::Status(args) => status::run(*args).await,
            Command::Watch(args) => watch::run(*args).await,
            Command::Trace(args) => trace::run(*args).await,
            Command::Report(args) => report::run(*args).await,
            Command::Probe(args) => probe::run(*args).await,
            Command::Version(args) => version::run(*args).await,
            Command::Complete(_) | Command::Completion(_) => Ok(ExitCode::SUCCESS),
        }
    });
    // A program for credentials that does not answer must not keep this one.
    runtime.shutdown_background();
    outcome
}

/// Whoever read standard output has gone, as `head` does: no error.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
struct Closed;

/// Writes `text` to standard output.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Closed.into()),
        written => written.context("writing to standard output"),
    }
}

/// `value` as one JSON or YAML document.
fn document(value: &impl serde::Serialize, yaml: bool) -> anyhow::Result<String> {
    let json = serde_json::to_value(value).context("writing the answer as JSON")?;
    if yaml {
        return serde_saphyr::to_string(&json).context("writing the answer as YAML");
    }
    let text = serde_json::to_string_pretty(&json).context("writing the answer as JSON")?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn the_probe_takes_n_for_the_namespace() {
        let matches =
            command().try_get_matches_from(["kubectl-focus", "probe", "-n", "fibre", "--jobs", "3"]);
        let matches = matches.expect("a good command line");
        let (_, probe) = matches.subcommand().expect("a subcommand");
        assert_eq!(probe.get_one::<String>("namespace").map(String::as_str), Some("fibre"));
        assert_eq!(probe.get_one::<u32>("jobs"), Some(&3));
    }
}
