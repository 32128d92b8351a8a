//! The probe's command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::BrokerArgs;
use crate::kubeconfig::Connection;

/// What `focus probe` is told.
#[derive(clap::Args, Debug, Clone)]
pub struct Options {
    /// The Focus Server's address.
    #[arg(long, env = "FOCUS_SERVER", default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// Create FocusJobs through the Kubernetes API instead of the Focus Server.
    #[arg(long, conflicts_with_all = ["load", "no_cluster"])]
    pub kubectl: bool,
    /// How many jobs.
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub jobs: u32,
    /// Jobs per second; 0: one after the other (with --load: all at once).
    #[arg(long, default_value_t = 0.0, value_parser = rate)]
    pub rate: f64,
    /// How often GET metadata/{job_id} is asked.
    #[arg(long, default_value = "100ms", value_parser = duration)]
    pub poll: Duration,
    /// How long one job may take. Default: 30s; with --load: 300s after the last creation.
    #[arg(long, value_parser = duration)]
    pub limit: Option<Duration>,
    /// Ask metadata/{job_id}?wait=LIMIT once, which the server answers when the consumer is there,
    /// instead of polling.
    #[arg(long)]
    pub wait: bool,
    /// Do not wait for the first line of waterfall/{job_id}/1.
    #[arg(long)]
    pub no_first_line: bool,
    /// Do not look at the FocusJobs in the cluster; measure the HTTP API alone.
    #[arg(long)]
    pub no_cluster: bool,
    /// Namespace of the jobs. Default: the kubeconfig's, or the pod's own; with --load: focus-bench.
    #[arg(long)]
    pub namespace: Option<String>,
    /// AnalyzerPool of the jobs, and of the bare pod's image.
    #[arg(long, default_value = "default")]
    pub pool: String,
    /// File with the request: the body of /configure; with --kubectl and --load, a FocusJob's spec (JSON).
    #[arg(long)]
    pub request: Option<PathBuf>,
    /// Print JSON with every sample instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Write that JSON to a file as well, beside what is printed.
    #[arg(long)]
    pub json_file: Option<PathBuf>,
    /// Exit 1 when a consumer took longer than this, or never came.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub max_consumer: Duration,
    /// Do not measure the floor: bare pods and bare queues.
    #[arg(long)]
    pub no_floor: bool,
    /// Image of the floor's bare pod. Default: that of the pool's container `analyzer`.
    #[arg(long)]
    pub image: Option<String>,
    /// How many bare pods.
    #[arg(long, default_value_t = 5)]
    pub floor_samples: u32,
    /// The broker, for the floor's bare queues.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Which cluster.
    #[command(flatten)]
    pub connection: Connection,

    /// Generate load: see the module documentation.
    #[arg(long, hide = true)]
    pub load: bool,
    /// Wait for SIGTERM; the floor's bare pod runs this.
    #[arg(long, hide = true)]
    pub hold: bool,
    /// With --load: the operator's metrics; `none` goes without.
    #[arg(long, hide = true, default_value = "http://127.0.0.1:8081/metrics")]
    pub operator_metrics: String,
    /// With --load: how long the operator is watched for API writes after all jobs are Ready; 0s skips.
    #[arg(long, hide = true, default_value = "60s", value_parser = duration)]
    pub quiet: Duration,
}

impl Options {
    /// How long one job may take; with --load, all of them after the last creation.
    pub fn limit(&self) -> Duration {
        self.limit.unwrap_or(Duration::from_secs(if self.load { 300 } else { 30 }))
    }
}

/// A duration such as `100ms`, `30s` or `2m`; a number without a unit is seconds.
///
/// # Errors
/// A sentence, when it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} has no unit among ms, s, m, h")),
    };
    let value: f64 =
        number.parse().map_err(|_| format!("{text:?} is not a duration such as 100ms or 30s"))?;
    Duration::try_from_secs_f64(value * scale).map_err(|_| format!("{text:?} is too long"))
}

pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate == 0.0 || (0.001..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is not 0 or a rate from 0.001 to 10000 jobs per second")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("100ms", Some(0.1)),
            ("30s", Some(30.0)),
            ("30", Some(30.0)),
            ("0s", Some(0.0)),
            ("1.5s", Some(1.5)),
            ("2m", Some(120.0)),
            ("1h", Some(3600.0)),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("10 s", None),
            ("10d", None),
            ("99999999999999999999999999s", None),
        ] {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_secs_f64), "{text:?}");
        }
    }

    #[test]
    fn rates() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("10", Some(10.0)),
            ("0.5", Some(0.5)),
            ("-1", None),
            ("NaN", None),
            ("x", None),
        ] {
            assert_eq!(rate(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_limit_depends_on_the_mode() {
        use clap::Parser;
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            args: Options,
        }
        for (line, seconds) in
            [(&["p"][..], 30), (&["p", "--load"], 300), (&["p", "--load", "--limit", "5s"], 5)]
        {
            assert_eq!(Cli::parse_from(line).args.limit(), Duration::from_secs(seconds), "{line:?}");
        }
    }
}
