//! Placeholder.
use std::process::ExitCode;
/// Command line.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {}
/// Runs the probe.
pub async fn run(_args: Args) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::FAILURE)
}
