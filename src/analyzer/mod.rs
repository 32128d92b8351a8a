//! Placeholder.
use std::process::ExitCode;
/// Command line.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {}
/// Runs the analyzer.
pub async fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
