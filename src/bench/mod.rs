//! `focus bench`: the Focus Server under load.
//!
//! | command | what it measures |
//! |---|---|
//! | `configure` | configure requests at a rate, whatever the answers take; with `--metadata` also how soon after the broker's `consumer.created` the metadata are there |
//! | `streams` | lines on the queues of many jobs, published as an analyzer does, until they are at gRPC readers: none lost, how late, at what cost in CPU and memory |
//!
//! Both need a running server, and an operator (but for `configure --no-operator`), and a namespace without FocusJobs, in which they make an
//! AnalyzerPool whose pods no scheduler places; what they make they take away. `docs/benchmarks.md` tells how to read
//! the numbers.

mod args;
mod arrivals;
mod attached;
mod configure;
mod cost;
mod findings;
mod floor;
mod freer;
mod ground;
mod memory;
mod publisher;
mod reader;
mod sampler;
mod spread;
mod streams;
mod tally;
mod view;

use std::process::ExitCode;

use crate::probe::deliver;
use crate::shutdown;

/// The benchmark's name in the broker's list of connections.
const NAME: &str = "focus bench";

/// Command line of `focus bench`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug, Clone)]
enum Command {
    /// Configure requests at an even rate, whether or not the earlier ones have been answered.
    ///
    /// Each job is ended by `DELETE job` after --hold, so start the server with enough windows: rate times the seconds
    /// that a job lives. Times count from the moment when the request was due. The floor, a bare ConfigMap (and with
    /// --mongodb-uri a bare insert), is measured all the while. Exits 1 when a request failed or a limit is passed.
    #[command(args_override_self = true)]
    Configure(args::Configure),
    /// Lines of many jobs, from the queues to gRPC readers.
    ///
    /// Configures --jobs jobs, lets --readers readers read each, and publishes each line when it is due, as
    /// the jobs' analyzers would. Every reader checks the number and the content of every line. Exits 1 when a line was
    /// lost, spoiled or came twice, or a limit is passed.
    #[command(args_override_self = true)]
    Streams(args::Streams),
}

/// Runs a benchmark. The exit code is 1 when an operation failed, a line was lost or a limit was passed.
///
/// # Errors
/// When nothing could be measured: a server, cluster or broker that does not answer.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal()?;
    let (target, report) = match &args.command {
        Command::Configure(options) => (&options.target, configure::run(options, &stop).await?),
        Command::Streams(options) => (&options.target, streams::run(options, &stop).await?),
    };
    deliver(&report, target.json, target.json_file.as_deref()).await
}
