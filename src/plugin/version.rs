//! `kubectl focus version`.

use std::process::ExitCode;

use serde_json::json;

use super::args::Place;
use super::cluster::Cluster;
use super::{document, print};
use crate::api::{GROUP, VERSION};

/// Command line of `version`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// Do not ask the cluster.
    #[arg(long)]
    client: bool,
    /// Where to look.
    #[command(flatten)]
    place: Place,
    /// The form of the answer.
    #[arg(short, long)]
    output: Option<Output>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Json,
    Yaml,
}

/// Shows the versions.
///
/// # Errors
/// When the cluster does not answer; what is known without it is shown before.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cluster = if args.client { None } else { Some(of_cluster(&args.place).await) };
    let (kubernetes, failure) = match cluster {
        None => (None, None),
        Some(Ok(version)) => (Some(version), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let (own, api) = (env!("CARGO_PKG_VERSION"), format!("{GROUP}/{VERSION}"));
    match args.output {
        Some(output) => {
            let answer = json!({"kubectl_focus": own, "api": api, "kubernetes": kubernetes});
            print(&document(&answer, output == Output::Yaml)?)?;
        }
        None => {
            let kubernetes = kubernetes.map(|version| format!("Kubernetes: {version}\n")).unwrap_or_default();
            print(&format!("kubectl-focus: {own}\nFocusJobs: {api}\n{kubernetes}"))?;
        }
    }
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

async fn of_cluster(place: &Place) -> anyhow::Result<String> {
    let cluster = Cluster::find(place).await?;
    let asked = cluster.read("asking the API server for its version", cluster.client.apiserver_version());
    Ok(asked.await?.git_version)
}
