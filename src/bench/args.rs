//! The command line of `focus bench`.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::BrokerArgs;
use crate::broker::address::Secret;
use crate::probe::args::{duration, rate};

/// What is measured, and where the numbers go.
#[derive(clap::Args, Debug, Clone)]
pub struct Target {
    /// The Focus Server's address.
    #[arg(long, env = "FOCUS_SERVER", default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// The server's metrics. Default: `/metrics` of the server's address.
    #[arg(long)]
    pub server_metrics: Option<String>,
    /// Namespace of the server's jobs; it must have no FocusJobs.
    #[arg(long, default_value = "focus-bench")]
    pub namespace: String,
    /// AnalyzerPool of the server's jobs; made when it is missing.
    #[arg(long, default_value = "default")]
    pub pool: String,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Write that JSON to a file as well, beside what is printed.
    #[arg(long)]
    pub json_file: Option<PathBuf>,
}

/// What `focus bench configure` is told.
#[derive(clap::Args, Debug, Clone)]
pub struct Configure {
    #[command(flatten)]
    pub target: Target,
    /// Requests per second.
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub rate: f64,
    /// How long requests are made.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// How long a job lives after its answer, or after its metadata, before it is ended.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub hold: Duration,
    /// No operator serves the namespace: jobs get neither pod nor queue, and this lets deleted jobs go. What is measured
    /// is the server, and not the machine that also does the operator's and its writes' work.
    #[arg(long, conflicts_with = "metadata")]
    pub no_operator: bool,
    /// Wait for the metadata of each job (`metadata/{job_id}?wait=`), and measure how long after the broker's
    /// event `consumer.created` they were there.
    #[arg(long)]
    pub metadata: bool,
    /// The server's database, for the floor: bare inserts into a collection that is dropped at the end.
    #[arg(long, env = "FOCUS_MONGODB_URI", hide_env_values = true)]
    pub mongodb_uri: Option<Secret>,
    /// Exit 1 when the 99th percentile of configure's answers is above this.
    #[arg(long, value_parser = duration)]
    pub max_p99: Option<Duration>,
    /// Exit 1 when the 99th percentile from consumer.created to the metadata is above this.
    #[arg(long, value_parser = duration, requires = "metadata")]
    pub max_metadata_p99: Option<Duration>,
}

/// What `focus bench streams` is told.
#[derive(clap::Args, Debug, Clone)]
pub struct Streams {
    #[command(flatten)]
    pub target: Target,
    /// The server's gRPC address.
    #[arg(long, default_value = "http://127.0.0.1:50051")]
    pub grpc: String,
    /// How many jobs.
    #[arg(short = 'n', long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub jobs: u32,
    /// Channels of each job.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2500))]
    pub channels: u32,
    /// Window of each job, samples; it has nfft / 2 + 1 intensities for each channel.
    #[arg(long, default_value_t = 1024)]
    pub nfft: u32,
    /// Lines per second of each job.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub lines_per_second: u32,
    /// Time axis of each job's display, s: so much of its lines the server keeps.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub display: u32,
    /// How long lines are published.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// Readers of each job, evenly over its streams. Default: one for each stream, so that each line is read in full.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub readers: Option<u32>,
    /// HTTP/2 connections that all readers share.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub connections: u32,
    /// How often the server's memory is looked at.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub sample: Duration,
    /// Leave out each line of this number, though it counts as published: to see that lost lines are found.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub leave_out: Option<u64>,
    /// Exit 1 when the 99th percentile from a line's publication to a reader is above this.
    #[arg(long, value_parser = duration)]
    pub max_p99: Option<Duration>,
    /// Exit 1 when the server's memory grows by more than this, MiB per minute.
    #[arg(long)]
    pub max_growth: Option<f64>,
}
