//! The command line of `focus server`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::security::SecurityArgs;
use super::store::StoreArgs;
use crate::broker::BrokerArgs;

/// Command line. Every option can be given in the environment too.
#[derive(clap::Args, Clone)]
pub struct Args {
    /// Address and port of the HTTP API, `/livez`, `/readyz` and `/metrics`.
    #[arg(long, env = "FOCUS_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address and port of the live streams (gRPC).
    #[arg(long, env = "FOCUS_GRPC_LISTEN", default_value = "0.0.0.0:50051")]
    pub grpc_listen: SocketAddr,
    /// Namespace of the FocusJobs. Default: the namespace of the kubeconfig or of the pod.
    #[arg(long, env = "FOCUS_NAMESPACE")]
    pub namespace: Option<String>,
    /// AnalyzerPool of the jobs that are configured here.
    #[arg(long, env = "FOCUS_POOL", default_value = "default")]
    pub pool: String,
    /// Windows that live jobs are given: at most so many jobs at once.
    #[arg(long, env = "FOCUS_WINDOWS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub windows: u16,
    /// Memory that the process may take, MiB, such as the container's limit: the lines of all jobs take at most 60 %
    /// of it.
    #[arg(long, env = "FOCUS_MEMORY", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    pub memory: u32,
    /// Folder of HDF5 recordings that historic views are made of: the one that the AnalyzerPool's source names, as
    /// it is mounted here. Without it there are no historic views.
    #[arg(long, env = "FOCUS_RECORDINGS")]
    pub recordings: Option<PathBuf>,
    /// Pause between two looks at the folder of recordings, s.
    #[arg(long, env = "FOCUS_RECORDINGS_RESCAN", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub recordings_rescan: u16,
    /// Host that clients are told to stream from (`stream_url` of the answers).
    #[arg(long, env = "FOCUS_STREAM_URL", default_value = "localhost")]
    pub stream_url: String,
    /// Port that clients are told to stream from (`stream_port` of the answers).
    #[arg(long, env = "FOCUS_STREAM_PORT", default_value_t = 50051)]
    pub stream_port: u16,
    /// Join other replicas of the server: address and port on which they reach this one. Without it the server
    /// takes itself to be the only one.
    #[arg(long, env = "FOCUS_PEER_LISTEN")]
    pub peer_listen: Option<SocketAddr>,
    /// Host by which the other replicas reach this one, such as the pod's address.
    #[arg(long, env = "FOCUS_PEER_HOST", requires = "peer_listen")]
    pub peer_host: Option<String>,
    /// Name of this replica; unique among them. Default: the host's name.
    #[arg(long, env = "FOCUS_REPLICA")]
    pub replica: Option<String>,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Where jobs are recorded.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Authentication, limits and TLS.
    #[command(flatten)]
    pub security: SecurityArgs,
}
